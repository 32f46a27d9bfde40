"""Random words of the levels, and what the laws of the levels share."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.errors import InputError, check
from ddpm.kernels.philox import words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key, draw_levels

WORDS = 1 << 32
"""How many values a random word has."""
DRAWN_AT_A_TIME = 64
"""Updates whose words are drawn together, because one draw costs as much."""
WORDS_AT_A_TIME = 1 << 18
"""Words that are drawn together at most, but for one update: two megabytes."""


class Drawn(NamedTuple):
    """Levels of some rows and the weights of their losses.

    Attributes:
        t: int64 [rows], in 1..T.
        weight: float32 [rows].
    """

    t: Tensor
    weight: Tensor


def check_steps(steps: int) -> None:
    """Refuse a number of levels T outside [1, 2^31).

    Raises:
        InputError: naming it.
    """
    check(1 <= steps < 2**31, "steps", steps, "1 to 2^31 - 1")


def check_names(tensors: Mapping[str, Tensor], names: Collection[str]) -> None:
    """Refuse tensors of a checkpoint that are unknown or missing.

    Raises:
        InputError: naming the first.
    """
    for name in tensors:
        if name not in names:
            raise InputError(f"tensor {name} is unknown to this law of the levels")
    for name in names:
        if name not in tensors:
            raise InputError(f"tensor {name} is missing")


def check_place(update: int, rows: slice, batch: int) -> tuple[int, int, int]:
    """Check where a draw is used, and find it in the tables.

    Args:
        update: Number of the update.
        rows: Rows of the global batch.
        batch: Number of its rows.

    Returns:
        How many updates are drawn together, the number of their block, and the place in it.

    Raises:
        InputError: an argument is out of range.
    """
    check(0 <= update < 2**32, "update", update, "0 to 2^32 - 1")
    check(1 <= batch < 2**31, "batch", batch, "1 to 2^31 - 1")
    whole = isinstance(rows.start, int) and isinstance(rows.stop, int) and rows.step in (None, 1)
    check(
        whole and 0 <= rows.start <= rows.stop <= batch,
        "rows", rows, f"a start and a stop in 0 to {batch}",
    )  # fmt: skip
    together = 1 << min(DRAWN_AT_A_TIME, max(1, WORDS_AT_A_TIME // batch)).bit_length() - 1
    return together, *divmod(update, together)


@lru_cache(maxsize=2)
def level_table(
    seed: int, batch: int, steps: int, together: int, block: int, device: torch.device
) -> Tensor:
    """Uniform levels of a block of consecutive updates, int64 [together, batch]."""
    key = _keys(seed, batch, together, block)
    return draw_levels(key, steps).view(together, batch).to(device)


@lru_cache(maxsize=2)
def word_table(seed: int, batch: int, together: int, block: int, device: torch.device) -> Tensor:
    """Words of the stream of levels for a block of updates, int64 [together, batch]."""
    key = _keys(seed, batch, together, block)
    drawn = words(key.seed, key.step, key.sample, Stream.LEVEL, 1)
    return drawn.view(together, batch).to(device)


def _keys(seed: int, batch: int, together: int, block: int) -> Key:
    """Every row of consecutive updates, update by update."""
    check(-(2**63) <= seed < 2**63, "seed", seed, "a signed 64-bit integer")
    updates = torch.arange(block * together, (block + 1) * together)
    rows = torch.arange(batch).repeat(together)
    return Key(torch.tensor(seed), updates.repeat_interleave(batch), rows)
