"""Grey levels against exact fractions and brute force; the checks of `ImageData` one by one."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.data.images import ImageData, to_float, to_levels
from ddpm.errors import InputError

LEVELS = st.integers(2, 256)


def example() -> ImageData:
    images = torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2) % 17
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return ImageData("example", images[:4], images[4:], labels[:4], labels[4:], 17)


@given(levels=LEVELS)
def test_to_float_is_the_correctly_rounded_fraction(levels: int) -> None:
    grey = np.arange(levels, dtype=np.uint8)
    exact = [float(Fraction(2 * k, levels - 1) - 1) for k in range(levels)]
    result = to_float(grey, levels)
    assert result.dtype == torch.float32
    # Ratios of integers below 256 never lie near a tie, so rounding twice is rounding once.
    assert result.tolist() == np.array(exact, np.float32).tolist()


@given(levels=LEVELS)
def test_to_float_is_exactly_odd_about_the_middle(levels: int) -> None:
    x = to_float(torch.arange(levels, dtype=torch.uint8), levels)
    assert torch.equal(x, -x.flip(0))


@given(levels=LEVELS)
def test_to_levels_inverts_to_float(levels: int) -> None:
    grey = torch.arange(levels, dtype=torch.uint8).reshape(1, levels)
    result = to_levels(to_float(grey, levels), levels)
    assert result.dtype == torch.uint8
    assert torch.equal(result, grey)


@given(levels=LEVELS, values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=8))
def test_to_levels_takes_the_nearest_level(levels: int, values: list[float]) -> None:
    grid = 2 * np.arange(levels) / (levels - 1) - 1
    chosen = to_levels(np.array(values, np.float32), levels).numpy()
    distances = np.abs(grid[None, :] - np.array(values)[:, None])
    at_choice = np.take_along_axis(distances, chosen[:, None].astype(int), 1)[:, 0]
    # Half an ulp of 4 for x + 1 and again for the product: a tie may go either way within this.
    assert np.all(at_choice <= distances.min(axis=1) + 4e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_to_levels_refuses_values_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        to_levels(torch.tensor([0.0, bad]), 17)


def test_shape_and_classes() -> None:
    data = example()
    assert data.shape == (1, 2, 2)
    assert data.classes == 3
    assert replace(data, train_labels=None, test_labels=None).classes is None


def test_classes_counts_a_class_that_only_the_test_set_has() -> None:
    assert replace(example(), test_labels=torch.tensor([7, 0])).classes == 8


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"levels": 1}, "levels = 1"),
        ({"levels": 257}, "levels = 257"),
        ({"levels": 16}, "largest value = 16"),
        ({"train": torch.zeros(4, 1, 2, 2)}, "float32"),
        ({"train": torch.zeros(4, 2, 2, dtype=torch.uint8)}, r"\(4, 2, 2\)"),
        ({"train": torch.zeros(4, 2, 2, 2, dtype=torch.uint8)}, r"\(4, 2, 2, 2\)"),
        ({"test": torch.zeros(0, 1, 2, 2, dtype=torch.uint8)}, r"\(0, 1, 2, 2\)"),
        ({"test": torch.zeros(2, 1, 3, 2, dtype=torch.uint8)}, r"\(1, 3, 2\)"),
        ({"train_labels": None}, "both"),
        ({"train_labels": torch.zeros(4)}, "int64"),
        ({"train_labels": torch.zeros(3, dtype=torch.int64)}, r"\(3,\)"),
        ({"test_labels": torch.tensor([0, -1])}, "-1"),
    ],
)
def test_image_data_refuses_what_does_not_fit(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        replace(example(), **change)  # type: ignore[arg-type]
