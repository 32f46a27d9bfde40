"""The data order against the NumPy reference, enumeration and a chi-squared bound."""

from collections import Counter
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.data import order
from ddpm.data.order import permutation
from ddpm.errors import InputError
from ddpm.kernels.streams import Stream
from ddpm.reference import philox

SEEDS = st.integers(-(2**63), 2**63 - 1)
EPOCHS = st.integers(0, 2**32 - 1)


@given(n=st.integers(0, 300), epoch=EPOCHS, seed=SEEDS)
@settings(deadline=None)
def test_same_as_the_reference(n: int, epoch: int, seed: int) -> None:
    ours = permutation(n, epoch, seed, Stream.DATA_ORDER)
    assert ours.dtype == torch.int64
    assert ours.tolist() == philox.permutation(seed, epoch, n).tolist()


@given(n=st.integers(0, 300), epoch=EPOCHS, seed=SEEDS, stream=st.integers(0, 255))
@settings(deadline=None)
def test_visits_every_item_once(n: int, epoch: int, seed: int, stream: int) -> None:
    assert sorted(permutation(n, epoch, seed, stream).tolist()) == list(range(n))


@given(n=st.integers(1, 100), more=st.integers(1, 100), seed=SEEDS)
@settings(deadline=None)
def test_items_keep_their_order_when_others_join(n: int, more: int, seed: int) -> None:
    whole = permutation(n + more, 3, seed, Stream.DATA_ORDER)
    assert torch.equal(whole[whole < n], permutation(n, 3, seed, Stream.DATA_ORDER))


def test_the_second_word_decides_only_between_equal_first_words() -> None:
    pairs = [(6, 0), (5, 2**32 - 1), (7, 9), (7, 8), (7, 6), (2**32 - 1, 2**32 - 1)]
    with patch.object(order, "words", lambda *_: torch.tensor(pairs)):
        result = permutation(6, 0, 0, Stream.DATA_ORDER)
    # Of the second word 31 bits count, so 9 and 8 are equal and stay in their order.
    assert result.tolist() == [1, 0, 4, 2, 3, 5]


def test_every_order_is_as_likely_as_the_others() -> None:
    epochs = 2400
    counts = Counter(tuple(permutation(4, e, 7, Stream.DATA_ORDER).tolist()) for e in range(epochs))
    observed = np.array(list(counts.values()))
    expected = epochs / 24
    # 24 cells: chi-squared with 23 degrees of freedom exceeds 58.6 once in 16,000 seeds.
    assert len(observed) == 24
    assert np.sum((observed - expected) ** 2 / expected) < 58.6


def test_epoch_seed_and_stream_each_change_the_order() -> None:
    orders = [permutation(50, *place).tolist() for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0))]
    orders.append(permutation(50, 0, 0, 1).tolist())
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize(
    ("n", "epoch", "seed", "word"),
    [
        (-1, 0, 0, "n = -1"),
        (5, -1, 0, "epoch = -1"),
        (5, 2**32, 0, "epoch = 4294967296"),
        (5, 0, 2**63, "seed = 9223372036854775808"),
        (5, 0, -(2**63) - 1, "seed = -9223372036854775809"),
    ],
)
def test_ranges(n: int, epoch: int, seed: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        permutation(n, epoch, seed, Stream.DATA_ORDER)
