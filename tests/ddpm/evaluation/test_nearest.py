"""Nearest distances against SciPy's brute force, whatever the chunks."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ddpm.evaluation import arrays, nearest
from ddpm.evaluation.nearest import median_nearest_distance, nearest_distances


@st.composite
def sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    first, second = (
        generator.integers(0, 256, (count, 1, height, width)).astype(np.uint8) for count in counts
    )
    return first, second


@given(both=sets(), most=st.integers(1, 500), chunk=st.integers(1, 9))
@settings(deadline=None)
def test_brute_force_in_any_chunks(
    both: tuple[np.ndarray, np.ndarray], most: int, chunk: int
) -> None:
    images, train = both
    with patch.object(arrays, "MOST_VALUES", most), patch.object(nearest, "CHUNK_ROWS", chunk):
        result = nearest_distances(torch.from_numpy(images), train)
        middle = median_nearest_distance(images, train)
    a, b = (x.reshape(len(x), -1).astype(np.int64) for x in both)
    truth = np.sqrt(cdist(a, b, metric="sqeuclidean").min(axis=1))
    # Both sums are of integers below 2^53, so even the last bit agrees.
    assert np.array_equal(result, truth)
    ordered = sorted(truth)
    lower, upper = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    # One rounding of the mean of two numbers.
    assert middle == pytest.approx((lower + upper) / 2, rel=1e-15)


@given(both=sets())
@settings(deadline=None)
def test_a_copy_is_at_distance_zero(both: tuple[np.ndarray, np.ndarray]) -> None:
    _, train = both
    assert nearest_distances(train[::-1].copy(), train).tolist() == [0.0] * len(train)
    assert median_nearest_distance(train, train) == 0


def test_grey_levels_are_the_unit() -> None:
    train = np.zeros((1, 1, 2, 2), np.uint8)
    images = np.array([[[[3, 0], [0, 4]]], [[[0, 0], [0, 0]]], [[[1, 1], [1, 1]]]], np.uint8)
    assert nearest_distances(images, train).tolist() == [5.0, 0.0, 2.0]
    assert median_nearest_distance(images, train) == 2.0


def test_sizes_must_agree() -> None:
    images = np.zeros((2, 1, 2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 3, 2\)"):
        nearest_distances(images, images.transpose(0, 1, 3, 2))
