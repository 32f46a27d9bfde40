"""Samples and real images compared in a feature space: how far apart, how faithful, how varied."""

from typing import TypedDict

import torch
from torch import Tensor, nn

from ddpm.data.images import ImageData
from ddpm.data.order import permutation
from ddpm.errors import check
from ddpm.evaluation.arrays import Images, thin
from ddpm.evaluation.extractors import features
from ddpm.evaluation.library import library_module
from ddpm.evaluation.manifold import MOST, NEIGHBOUR, precision_and_recall
from ddpm.kernels.streams import Stream

KERNEL_POINTS = 1000
KERNEL_SUBSETS = 20
"""Kernel distances are means over subsets of this size, as published ones are; see `kernel`."""
REAL_DRAWS = 8
REAL_IMAGES = 10_000
SEED = 0


class Compared(TypedDict):
    """A measure of samples against the test set, and of as many training images against it."""

    samples_test: float
    train_test: float


class FeatureQuality(TypedDict):
    """What `feature_quality` returns; ready to be written as JSON."""

    extractor: str
    dimensions: int
    frechet: Compared
    kernel: Compared
    precision: Compared
    recall: Compared


def frechet(real: Tensor, drawn: Tensor) -> float:
    """Squared Frechet distance of Gaussians fitted to features [N, D] and [M, D], float64."""
    identity = nn.Identity()
    identity.num_features = real.shape[1]  # type: ignore[assignment]
    metric = (
        library_module("torchmetrics.image.fid")
        .FrechetInceptionDistance(identity)
        .set_dtype(torch.float64)
    )
    metric.update(real, real=True)
    metric.update(drawn, real=False)
    # Rounding can leave a distance of zero a little below it.
    return max(0.0, float(metric.compute()))


def kernel(real: Tensor, drawn: Tensor) -> float:
    """Unbiased squared kernel distance of features [N, D] and [M, D], about 0 if of one origin.

    The kernel is (x y / D + 1)^3. Where both sets have at most 1,000 points and as many each, all
    are used; otherwise it is the mean over 20 random subsets. torchmetrics draws its subsets from
    the global generator, so ours are drawn here and its distance is called on each.
    """
    distance = library_module("torchmetrics.image.kid").poly_mmd
    size = min(KERNEL_POINTS, len(real), len(drawn))
    subsets = 1 if size == len(real) == len(drawn) else KERNEL_SUBSETS
    values = [
        distance(_subset(real, size, 2 * i), _subset(drawn, size, 2 * i + 1))
        for i in range(subsets)
    ]
    return float(torch.stack(values).mean())


def feature_quality(
    samples: Images, data: ImageData, name: str, network: nn.Module, device: torch.device
) -> FeatureQuality:
    """Every measure in one feature space, each beside what real training images would get.

    Args:
        samples: uint8 [N, C, H, W], N >= 4, of the size and grey levels of `data`.
        data: Training and test images, at least 4 each.
        name: What the extractor is called.
        network: The extractor, on the device.
        device: Where it computes.

    Returns:
        Distances and precision and recall against the test set. Those of training images are means
        over up to 8 disjoint draws of as many images as there are samples, from at most 10,000.

    Raises:
        InputError: there are too few images, or the extractor cannot be used.
    """
    for what, count in (("num", len(samples)), ("training images", len(data.train)),
                        ("test images", len(data.test))):  # fmt: skip
        check(count > NEIGHBOUR, what, count, f"at least {NEIGHBOUR + 1} for --features")
    test = features(network, data.test, data.levels, device)
    drawn = features(network, samples, data.levels, device)
    draws = _draws(features(network, _training(data, len(samples)), data.levels, device), drawn)
    ours, real = _measures(test, drawn), [_measures(test, draw) for draw in draws]
    compared: list[Compared] = [
        {"samples_test": mine, "train_test": sum(theirs) / len(theirs)}
        for mine, theirs in zip(ours, zip(*real, strict=True), strict=True)
    ]
    return {
        "extractor": name,
        "dimensions": test.shape[1],
        "frechet": compared[0],
        "kernel": compared[1],
        "precision": compared[2],
        "recall": compared[3],
    }


def _measures(test: Tensor, drawn: Tensor) -> tuple[float, float, float, float]:
    """Frechet distance, kernel distance, precision, recall."""
    size = min(len(test), len(drawn), MOST)
    some, others = (x[torch.from_numpy(thin(len(x), size))] for x in (test, drawn))
    return frechet(test, drawn), kernel(test, drawn), *precision_and_recall(some, others)


def _training(data: ImageData, count: int) -> Tensor:
    """Training images in random order, enough for the draws that real images are judged by."""
    wanted = max(count, min(REAL_DRAWS * count, REAL_IMAGES))
    order = permutation(len(data.train), 0, SEED, Stream.EVALUATION_NOISE)
    return data.train[order[:wanted]]


def _draws(real: Tensor, drawn: Tensor) -> tuple[Tensor, ...]:
    """Disjoint parts of `real`, each with as many rows as `drawn`; one, if there are fewer."""
    parts = max(1, len(real) // len(drawn))
    return real[: parts * len(drawn)].chunk(parts)


def _subset(points: Tensor, size: int, number: int) -> Tensor:
    if size == len(points):
        return points
    return points[permutation(len(points), number, SEED, Stream.EVALUATION_NOISE)[:size]]
