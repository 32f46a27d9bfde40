"""The held-out fifth: its size, that it is a partition, and that nothing moves it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.data.split import split_images, split_indices
from ddpm.errors import InputError


@given(n=st.integers(2, 500))
@settings(deadline=None)
def test_a_partition_with_a_fifth_held_out(n: int) -> None:
    train, test = (part.tolist() for part in split_indices(n))
    assert len(test) == math.ceil(n / 5)
    assert sorted(train + test) == list(range(n))
    assert train == sorted(train)
    assert test == sorted(test)


def test_the_held_out_images_are_spread_over_the_set() -> None:
    test = split_indices(10_000)[1].numpy()
    # The mean rank of a random fifth of 10,000 has standard deviation 2887 * sqrt(0.8 / 2000) = 58.
    assert abs(test.mean() - 4999.5) < 4 * 58


@given(n=st.integers(2, 60), labelled=st.booleans())
@settings(deadline=None)
def test_images_and_labels_go_the_same_way(n: int, labelled: bool) -> None:
    pixels = np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(2, axis=3)
    labels = 3 * np.arange(n) if labelled else None
    data = split_images("name", pixels, labels, 256)
    train, test = split_indices(n)
    assert data.train[:, 0, 0, 1].tolist() == train.tolist()
    assert data.test[:, 0, 0, 0].tolist() == test.tolist()
    if not labelled:
        assert data.train_labels is None
        assert data.test_labels is None
        return
    assert data.train_labels is not None
    assert data.test_labels is not None
    assert data.train_labels.tolist() == (3 * train).tolist()
    assert data.test_labels.tolist() == (3 * test).tolist()


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_are_refused(n: int) -> None:
    with pytest.raises(InputError, match=f"number of images = {n}"):
        split_indices(n)
    with pytest.raises(InputError, match=f"name: number of images = {n}"):
        split_images("name", np.zeros((n, 1, 2, 2), np.uint8), None, 256)
