"""Levels drawn where the loss is large, with weights that keep the objective's mean."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ddpm.errors import InputError, check
from ddpm.training.level_words import (
    WORDS,
    Drawn,
    check_names,
    check_place,
    check_steps,
    word_table,
)

LARGEST = {"squares": torch.finfo(torch.float32).max ** 2, "seen": 1 << 62}
"""Largest numbers of a history that was written by `tensors`."""


class LossAwareLevels:
    """Levels drawn in proportion to the root of their mean squared loss.  G-3.2.

    These are the probabilities of least variance among those that keep the mean; a small share of
    the uniform law keeps every level drawn and every weight finite. Until each level has its full
    history the levels are those of `UniformLevels`, with weights of 1.

    Nothing is read on the host. Probabilities are whole numbers of 2^-32 and weights are theirs, so
    that what is drawn has exactly the probability that the weight stands for.

    Args:
        steps: T, in [1, 2^31).
        device: Where levels, losses and the history live.
        kept: Losses kept of each level, at least 1.
        share: Share of the uniform law, in (0, 1].

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        steps: int,
        device: torch.device | str = "cpu",
        *,
        kept: int = 10,
        share: float = 0.001,
    ) -> None:
        check_steps(steps)
        check(kept >= 1, "kept", kept, "an integer of at least 1")
        check(0 < share <= 1, "share", share, "a number in (0, 1]")
        self.steps = steps
        self.device = torch.device(device)
        self.share = share
        self._squares = torch.zeros(steps, kept, dtype=torch.float64, device=device)
        self._seen = torch.zeros(steps, dtype=torch.int64, device=device)
        self._ends, self._weights = self._tables()

    def draw(self, seed: int, update: int, rows: slice, batch: int) -> Drawn:
        """See `LevelSampler.draw`."""
        together, block, number = check_place(update, rows, batch)
        table = word_table(seed, batch, together, block, self.device)
        return self.levels_of(table[number, rows])

    def levels_of(self, word: Tensor) -> Drawn:
        """Levels that random words stand for, and their weights.

        Args:
            word: int64 [rows], in 0..2^32 - 1. Larger words stand for larger levels.
        """
        t = 1 + torch.searchsorted(self._ends, word.contiguous(), right=True)
        return Drawn(t, self._weights[t - 1])

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Take in the losses of one update; each level keeps its last ones.

        Where an update brings more losses of a level than are kept, the first of them are. Their
        order decides what is kept and not their values, whose last digits differ between ways of
        sharing a batch.

        Args:
            t: Levels, int64 [N], in 1..T, in the order of the rows of the global batch.
            losses: One a level, before any weight, [N].

        Raises:
            ValueError: shapes or types are unfit, or on a CPU a level is out of range.
        """
        self._check_losses(t, losses)
        value = losses.detach().to(self.device, torch.float32)
        # Level T + 1 takes what is not finite, and is dropped.
        level = torch.where(value.isfinite(), t.to(self.device) - 1, self.steps)
        order = torch.argsort(level, stable=True)
        level, square = level[order], value[order].double().square()
        number = torch.zeros(self.steps + 1, dtype=torch.int64, device=self.device)
        number.scatter_add_(0, level, torch.ones_like(level))
        rank = torch.arange(len(level), device=self.device) - (number.cumsum(0) - number)[level]
        self._keep(level, rank, square)
        self._seen += number[:-1].clamp(max=self._squares.shape[1])
        self._ends, self._weights = self._tables()

    def tensors(self) -> dict[str, Tensor]:
        """The history: squares of losses, float64 [T, kept], and how many were kept, int64 [T]."""
        return {"squares": self._squares.clone(), "seen": self._seen.clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """See `LevelSampler.load`."""
        own = self.tensors()
        check_names(tensors, own)
        for name, mine in own.items():
            given = tensors[name]
            if given.shape != mine.shape or given.dtype != mine.dtype:
                raise InputError(
                    f"{name} has shape {list(given.shape)} and type {given.dtype}: allowed is "
                    f"{list(mine.shape)} of {mine.dtype}"
                )
            if not bool(((given >= 0) & (given <= LARGEST[name])).all()):
                raise InputError(f"{name}: allowed are numbers from 0 to {LARGEST[name]:.4g}")
        self._squares = tensors["squares"].to(self.device, copy=True)
        self._seen = tensors["seen"].to(self.device, copy=True)
        self._ends, self._weights = self._tables()

    def _tables(self) -> tuple[Tensor, Tensor]:
        """The first word beyond each level, int64 [T], and the weights, float32 [T]."""
        number = torch.arange(1, self.steps + 1, device=self.device)
        # The least w with floor(w T / 2^32) at least t, as in the uniform law.
        uniform = -((-number * WORDS) // self.steps)
        filled, counts = (self._seen >= self._squares.shape[1]).all(), self._counts()
        weights = (WORDS / self.steps) / counts.double()
        ends = torch.where(filled, counts.cumsum(0), uniform)
        return ends, torch.where(filled, weights, 1.0).float()

    def _counts(self) -> Tensor:
        """How many of the 2^32 words stand for each level, at least one: int64 [T]."""
        size = self._squares.mean(dim=1).sqrt()
        total = size.sum()
        part = torch.where(total > 0, size / total, 1 / self.steps)
        probability = (1 - self.share) * part + self.share / self.steps
        counts = 1 + ((WORDS - self.steps) * probability).long()
        # Rounding down leaves up to T words over, which the first levels get.
        left = WORDS - counts.sum()
        return counts + (torch.arange(self.steps, device=self.device) < left)

    def _keep(self, level: Tensor, rank: Tensor, square: Tensor) -> None:
        """Write squares in order of rank over the oldest ones of their level."""
        steps, kept = self._squares.shape
        wanted = (level < steps) & (rank < kept)
        first = self._seen[level.clamp(max=steps - 1)]
        place = torch.where(wanted, level * kept + (first + rank) % kept, steps * kept)
        padded = torch.cat([self._squares.flatten(), square.new_zeros(1)])
        self._squares = padded.scatter(0, place, square)[:-1].view(steps, kept)

    def _check_losses(self, t: Tensor, losses: Tensor) -> None:
        if t.dtype != torch.int64 or t.ndim != 1:
            raise ValueError(
                f"t has shape {list(t.shape)} and type {t.dtype}: allowed is [N] of torch.int64"
            )
        if losses.shape != t.shape or not losses.is_floating_point():
            raise ValueError(
                f"losses have shape {list(losses.shape)} and type {losses.dtype}: allowed are "
                f"floating-point numbers [{len(t)}], as of t"
            )
        # Where it costs no wait for the device.
        if t.device.type == "cpu" and len(t):
            least, most = int(t.min()), int(t.max())
            if least < 1 or most > self.steps:
                raise ValueError(f"t lies in {least}..{most}: allowed is 1..{self.steps}")
