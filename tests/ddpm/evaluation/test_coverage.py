"""Class coverage on classes that anybody can tell apart, and on the digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.evaluation.coverage import class_coverage


def bars(labels: list[int], classes: int = 4) -> torch.Tensor:
    """Images of class c: row c bright, the others dark."""
    result = torch.zeros(len(labels), 1, classes, classes, dtype=torch.uint8)
    for index, label in enumerate(labels):
        result[index, 0, label] = 16
    return result


def bar_data(classes: int = 4) -> ImageData:
    labels = list(range(classes)) * 10
    return ImageData(
        "bars", bars(labels), bars(labels), torch.tensor(labels), torch.tensor(labels), 17
    )


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=40))
@settings(deadline=None, max_examples=25)
def test_fractions_are_those_of_the_classes(labels: list[int]) -> None:
    coverage = class_coverage(bar_data(), bars(labels))
    assert coverage is not None
    assert coverage.fractions == [labels.count(c) / len(labels) for c in range(4)]
    assert coverage.accuracy == 1


def test_accuracy_counts_wrong_labels() -> None:
    data = bar_data()
    assert data.test_labels is not None
    labels = data.test_labels.clone()
    labels[:10] = (labels[:10] + 1) % 4
    coverage = class_coverage(replace(data, test_labels=labels), data.test)
    assert coverage is not None
    assert coverage.accuracy == 0.75


def test_a_class_that_is_only_in_the_test_set_has_its_place() -> None:
    data = bar_data()
    coverage = class_coverage(replace(data, test_labels=torch.full((40,), 5)), data.train)
    assert coverage is not None
    assert coverage.fractions == [0.25, 0.25, 0.25, 0.25, 0, 0]
    assert coverage.accuracy == 0


def test_without_labels_or_with_one_class_there_is_no_coverage() -> None:
    data = bar_data()
    assert class_coverage(replace(data, train_labels=None, test_labels=None), data.train) is None
    nothing = torch.zeros(40, dtype=torch.int64)
    alone = replace(data, train_labels=nothing, test_labels=nothing)
    assert class_coverage(alone, data.train) is None


def test_digits_are_told_apart_and_the_result_repeats() -> None:
    data = load_images("digits")
    coverage = class_coverage(data, data.test)
    assert coverage is not None
    assert coverage == class_coverage(data, data.test)
    assert coverage.accuracy > 0.93
    assert sum(coverage.fractions) == pytest.approx(1, abs=1e-12)
    assert data.test_labels is not None
    shares = np.bincount(data.test_labels.numpy()) / 360
    # At most 7 percent of 360 images are put into another class.
    assert np.abs(np.array(coverage.fractions) - shares).sum() <= 2 * 0.07
