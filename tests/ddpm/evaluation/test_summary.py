"""The summary: each figure beside what it must be for samples whose quality is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.errors import InputError
from ddpm.evaluation import summary
from ddpm.evaluation.frechet import pca_frechet
from ddpm.evaluation.summary import evaluate_samples


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_images("digits")


def test_the_test_set_as_samples(data: ImageData) -> None:
    result = evaluate_samples(data.test, data)
    # The traces are of order 1000.
    assert result["frechet"]["samples_test"] < 1e-9
    assert result["nearest"]["samples_train"] == result["nearest"]["test_train"]
    assert result["class_fraction"] is not None
    assert len(result["class_fraction"]) == 10
    assert json.loads(json.dumps(result)) == result


def test_training_images_as_samples_are_seen_to_be_copies(data: ImageData) -> None:
    result = evaluate_samples(data.train[:100], data)
    assert result["nearest"]["samples_train"] == 0
    assert 10 < result["nearest"]["test_train"] < 25


def test_with_as_many_samples_as_training_images_the_yardstick_is_all_of_them(
    data: ImageData,
) -> None:
    result = evaluate_samples(data.train.flip(0), data)
    truth = pca_frechet(data.train, data.train, data.test)
    # The order of the images changes only the rounding of sums.
    assert result["frechet"]["train_test"] == pytest.approx(truth, rel=1e-9)
    assert result["frechet"]["samples_test"] == pytest.approx(truth, rel=1e-9)


def test_the_yardstick_is_typical_of_random_training_images(data: ImageData) -> None:
    generator = np.random.default_rng(5)
    draws = [generator.permutation(len(data.train))[:360] for _ in range(30)]
    distances = [pca_frechet(data.train, data.train[d], data.test) for d in draws]
    ours = evaluate_samples(data.test, data)["frechet"]["train_test"]
    spread = float(np.std(distances)) * np.sqrt(1 / len(draws) + 1 / summary.REAL_DRAWS)
    assert abs(ours - float(np.mean(distances))) < 4 * spread


def test_noise_is_worse_than_digits_in_every_way(data: ImageData) -> None:
    generator = np.random.default_rng(6)
    noise = torch.from_numpy(generator.integers(0, 17, (360, 1, 8, 8)).astype(np.uint8))
    result = evaluate_samples(noise, data)
    assert result["frechet"]["samples_test"] > 5 * result["frechet"]["train_test"]
    assert result["nearest"]["samples_train"] > 2 * result["nearest"]["test_train"]


def test_without_labels_there_are_no_classes(data: ImageData) -> None:
    bare = replace(data, train_labels=None, test_labels=None)
    result = evaluate_samples(data.test[:10].numpy(), bare)
    assert result["class_fraction"] is None
    assert result["classifier_accuracy"] is None


def test_it_repeats(data: ImageData) -> None:
    assert evaluate_samples(data.test[:50], data) == evaluate_samples(data.test[:50], data)


@pytest.mark.parametrize(
    ("samples", "word"),
    [
        (torch.zeros(5, 1, 8, 7, dtype=torch.uint8), r"\(5, 1, 8, 7\)"),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), r"\(5, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "number of images in samples = 1"),
        (torch.full((5, 1, 8, 8), 17, dtype=torch.uint8), "grey level = 17"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    data: ImageData, samples: torch.Tensor, word: str
) -> None:
    with pytest.raises(InputError, match=word):
        evaluate_samples(samples, data)
