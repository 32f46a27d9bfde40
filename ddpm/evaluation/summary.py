"""Every measure of sample quality, each beside the same measure of real images."""

from typing import TypedDict

from torch import Tensor

from ddpm.data.images import ImageData
from ddpm.data.order import permutation
from ddpm.errors import check
from ddpm.evaluation.arrays import Images, thin
from ddpm.evaluation.coverage import class_coverage
from ddpm.evaluation.frechet import frechet_in_space, principal_space
from ddpm.evaluation.nearest import median_nearest_distance
from ddpm.kernels.streams import Stream

# The median of this many nearest distances is known well enough; all pairs would take minutes.
NEAREST_IMAGES = 2000
# One draw of a few hundred training images moves their distance by a tenth; a mean over draws less.
REAL_DRAWS = 8
SEED = 0


class Frechet(TypedDict):
    """Squared Frechet distances to the test set, in squared grey levels."""

    samples_test: float
    train_test: float


class Nearest(TypedDict):
    """Median distances to the nearest training image, in grey levels."""

    samples_train: float
    test_train: float


class SampleQuality(TypedDict):
    """What `evaluate_samples` returns; ready to be written as JSON."""

    frechet: Frechet
    class_fraction: list[float] | None
    classifier_accuracy: float | None
    nearest: Nearest


def evaluate_samples(samples: Images, data: ImageData) -> SampleQuality:
    """Quality of samples, beside what real images of the same number would get.

    Args:
        samples: uint8 [N, C, H, W], N >= 2, of the size and grey levels of `data`.
        data: what the model was trained on, with at least two training and two test images.

    Returns:
        `frechet`: samples to test set, and as many training images to test set (mean of 8 draws);
        `class_fraction`: share of each class, None without labels; `classifier_accuracy`: on test
        images; `nearest`: median distance of samples, and of test images (at most 2,000 of
        each, evenly spaced), to the training set.

    Raises:
        InputError: if the samples do not fit the data, or a set has fewer than two images.
    """
    _check(samples, data)
    coverage = class_coverage(data, samples)
    return {
        "frechet": _frechet(samples, data),
        "class_fraction": None if coverage is None else coverage.fractions,
        "classifier_accuracy": None if coverage is None else coverage.accuracy,
        "nearest": {
            "samples_train": _nearest(samples, data),
            "test_train": _nearest(data.test, data),
        },
    }


def _frechet(samples: Images, data: ImageData) -> Frechet:
    space = principal_space(data.train)
    draws = [
        frechet_in_space(space, _real(data.train, len(samples), draw), data.test)
        for draw in range(REAL_DRAWS)
    ]
    return {
        "samples_test": frechet_in_space(space, samples, data.test),
        "train_test": sum(draws) / len(draws),
    }


def _real(train: Tensor, count: int, draw: int) -> Tensor:
    """`count` training images, or all if there are fewer, without repetition."""
    return train[permutation(len(train), draw, SEED, Stream.EVALUATION_NOISE)[:count]]


def _nearest(images: Images, data: ImageData) -> float:
    return median_nearest_distance(images[thin(len(images), NEAREST_IMAGES)], data.train)


def _check(samples: Images, data: ImageData) -> None:
    shape = tuple(samples.shape)
    check(len(shape) == 4 and shape[1:] == data.shape, "shape of samples", shape, f"{data.shape}")
    for name, images in (("samples", samples), ("train", data.train), ("test", data.test)):
        check(len(images) >= 2, f"number of images in {name}", len(images), "2 or more")
    check(int(samples.max()) < data.levels, "grey level", int(samples.max()), f"< {data.levels}")
