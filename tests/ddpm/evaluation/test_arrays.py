"""Rows, pieces and thinned indices against their definitions."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddpm.evaluation import arrays

IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5))


@given(images=IMAGES, as_tensor=st.booleans())
def test_rows_hold_the_values_of_each_image_in_order(images: np.ndarray, as_tensor: bool) -> None:
    result = arrays.rows(torch.from_numpy(images) if as_tensor else images)
    assert result.dtype == np.float64
    assert result.tolist() == [[float(v) for v in image.flat] for image in images]


@pytest.mark.parametrize(
    ("images", "word"),
    [
        (np.zeros((2, 3)), "dtype = float64"),
        (np.zeros(3, np.uint8), r"shape = \(3,\)"),
        (np.zeros((0, 3), np.uint8), r"shape = \(0, 3\)"),
    ],
)
def test_rows_refuse_other_arrays(images: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        arrays.rows(images)


@given(images=IMAGES, most=st.integers(1, 200))
def test_chunks_joined_are_the_rows(images: np.ndarray, most: int) -> None:
    with patch.object(arrays, "MOST_VALUES", most):
        pieces = list(arrays.chunks(images))
    assert np.array_equal(np.concatenate(pieces), arrays.rows(images))
    assert all(piece.size <= max(most / 8, piece.shape[1]) for piece in pieces)


@given(count=st.integers(1, 10**6), limit=st.integers(1, 3000))
def test_thin_is_evenly_spaced(count: int, limit: int) -> None:
    chosen = arrays.thin(count, limit)
    kept = min(count, limit)
    assert len(chosen) == kept
    assert chosen[0] == 0
    assert chosen[-1] < count
    # Neighbours, and the last and the end, are count / kept apart, rounded down or up.
    gaps = set(np.diff(np.append(chosen, count)).tolist())
    assert gaps <= {count // kept, -(-count // kept)}


@pytest.mark.parametrize(("count", "limit"), [(0, 1), (1, 0), (-1, 5)])
def test_thin_refuses_nothing_to_choose(count: int, limit: int) -> None:
    with pytest.raises(ValueError, match="allowed are 1 and more"):
        arrays.thin(count, limit)


@pytest.mark.parametrize(
    ("shape", "kept"),
    [((500, 1, 8, 8), 500), ((20_000, 1, 2, 2), 10_000), ((5000, 3, 64, 64), 2**25 // 12288)],
)
def test_representative_limits_images_and_values(shape: tuple[int, ...], kept: int) -> None:
    # A broadcast view has the shape without the memory.
    images = np.broadcast_to(np.uint8(0), shape)
    assert len(arrays.representative(images)) == kept
