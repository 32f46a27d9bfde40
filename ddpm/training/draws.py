"""Noise, dropout and hidden labels of every update, as functions of (seed, update, row)."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor

from ddpm.config import RunConfig
from ddpm.kernels.philox import normals, words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key

DRAWN_AT_A_TIME = 64
"""Updates whose small draws are made together, because one draw costs as much."""
NOISE_VALUES = 1 << 16
"""Values of noise that are drawn together for the same reason; a quarter of a megabyte."""


class Draws:
    """The random numbers of a run.

    A row is a place in the global batch, that of all ranks and all parts together, so that how a
    batch is shared out changes none of them.

    Args:
        config: The run.
        device: Where the numbers are used.
        dropout: Whether the network has any.
        own: Rows of the global batch that this process computes; all of them if not given.
    """

    def __init__(
        self,
        config: RunConfig,
        device: torch.device,
        *,
        dropout: bool = True,
        own: slice | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.has_dropout = dropout
        self.own = own or slice(0, config.batch_size)

    def labels(self, update: int, rows: slice, labels: Tensor) -> Tensor:
        """Labels of some rows, a share of them hidden so that the network learns both.

        Args:
            update: Number of the update, from 0.
            rows: Which rows of the global batch, start and stop given.
            labels: Their classes, int64 [rows].

        Returns:
            int64 [rows], K for those that are hidden.
        """
        size, place = self.config.batch_size, update % DRAWN_AT_A_TIME
        word = _label_words(self.config.seed, size, update // DRAWN_AT_A_TIME)[place, rows]
        hidden = word < int(self.config.label_dropout * 2**32)
        return labels.masked_fill(hidden.to(labels.device), self.config.classes)

    def noise(self, update: int, rows: slice) -> Tensor | None:
        """Noise of some rows where keeping it is better than drawing it twice: on a CPU.

        Args:
            update: Number of the update, from 0.
            rows: Which rows, among the own ones.

        Returns:
            float32 [rows, C, H, W], or None on other devices.
        """
        if self.device.type != "cpu":
            return None
        first = self.own.start
        shape = (self.own.stop - first, *self.config.image_shape)
        together = max(1, min(DRAWN_AT_A_TIME, NOISE_VALUES // math.prod(shape)))
        block, place = divmod(update, together)
        table = _noise_table(self.config.seed, first, shape, together, block)
        return table[place, rows.start - first : rows.stop - first]

    def key(self, update: int, rows: slice) -> Key:
        """Where the noise of some rows is drawn."""
        return Key.of(self.config.seed, range(rows.start, rows.stop), update, self.device)

    def dropout(self, update: int) -> AbstractContextManager[None]:
        """Context in which dropout, the one draw left to torch's generator, has our seed."""
        if not self.has_dropout:
            return nullcontext()
        block, place = divmod(update, DRAWN_AT_A_TIME)
        return _seeded(_dropout_seeds(self.config.seed, block)[place], self.device)


@lru_cache(maxsize=2)
def _label_words(seed: int, size: int, block: int) -> Tensor:
    """Words that hide the labels of consecutive updates [DRAWN_AT_A_TIME, size]."""
    steps = torch.arange(block * DRAWN_AT_A_TIME, (block + 1) * DRAWN_AT_A_TIME)
    sample = torch.arange(size).repeat(DRAWN_AT_A_TIME)
    drawn = words(torch.tensor(seed), steps.repeat_interleave(size), sample, Stream.LABEL, 1)
    return drawn.view(DRAWN_AT_A_TIME, size)


@lru_cache(maxsize=1)
def _noise_table(
    seed: int, first: int, shape: tuple[int, ...], together: int, block: int
) -> Tensor:
    """Training noise of rows first, first + 1, ... of consecutive updates [together, *shape]."""
    steps = torch.arange(block * together, (block + 1) * together).repeat_interleave(shape[0])
    sample = torch.arange(first, first + shape[0]).repeat(together)
    size = math.prod(shape[1:])
    drawn = normals(torch.tensor(seed), steps, sample, Stream.TRAINING_NOISE, size)
    return drawn.view(together, *shape)


@lru_cache(maxsize=2)
def _dropout_seeds(seed: int, block: int) -> list[int]:
    """Dropout seeds of consecutive updates."""
    steps = torch.arange(block * DRAWN_AT_A_TIME, (block + 1) * DRAWN_AT_A_TIME)
    sample = torch.zeros_like(steps)
    drawn = words(torch.tensor(seed), steps, sample, Stream.DROPOUT, 1)
    return [int(word) for word in drawn[:, 0]]


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators of one device inside the block and restore them after it."""
    cuda = device.type == "cuda"
    generator = (
        torch.cuda.default_generators[device.index or 0] if cuda else torch.default_generator
    )
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
