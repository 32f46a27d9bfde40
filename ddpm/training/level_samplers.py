r"""Which level each row of a batch trains on, and the weight that keeps the objective's mean.

    1/T \sum_t L_t = E_{t ~ p}[w_t L_t],   w_t = 1 / (T p_t).  G-3.2

A draw is a function of (seed, update, row of the global batch) and, where there is one, of the
history of losses, so that any split of a batch among ranks and parts gives the same levels.
"""

from collections.abc import Mapping
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from ddpm.errors import check
from ddpm.training.level_words import (
    WORDS,
    Drawn,
    check_names,
    check_place,
    check_steps,
    level_table,
    word_table,
)
from ddpm.training.loss_aware import LossAwareLevels

LevelSampling = Literal["uniform", "low_discrepancy", "loss_aware"]


class LevelSampler(Protocol):
    """A law of the levels."""

    def draw(self, seed: int, update: int, rows: slice, batch: int) -> Drawn:
        """Levels and weights of some rows of a global batch.

        Args:
            seed: Key of the random numbers, any int64.
            update: Number of the update, in 0..2^32 - 1.
            rows: Which rows, start and stop given.
            batch: Number of rows of the global batch.

        Raises:
            ValueError: an argument is out of range.
        """

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Take in the losses of one update, of all ranks and parts, in the order of its rows.

        Args:
            t: Levels, int64 [N].
            losses: One a level, before any weight, [N]; those that are not finite are passed over.
        """

    def tensors(self) -> dict[str, Tensor]:
        """What later draws depend on, for a checkpoint."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave.

        Raises:
            InputError: naming what is missing, unknown or unfit.
        """


def level_sampler(
    kind: LevelSampling, steps: int, device: torch.device | str = "cpu"
) -> LevelSampler:
    """The law of this name.

    Args:
        kind: "uniform", "low_discrepancy" or "loss_aware".
        steps: T.
        device: Where levels and weights are used.

    Raises:
        InputError: the kind is unknown or steps is out of range.
    """
    check(kind in get_args(LevelSampling), "kind", kind, ", ".join(get_args(LevelSampling)))
    if kind == "loss_aware":
        return LossAwareLevels(steps, device)
    return UniformLevels(steps, device) if kind == "uniform" else StratifiedLevels(steps, device)


class _WithoutHistory:
    """A law that learns nothing from the losses.

    Args:
        steps: T, in [1, 2^31).
        device: Where levels and weights are used.

    Raises:
        InputError: steps is out of range.
    """

    def __init__(self, steps: int, device: torch.device | str = "cpu") -> None:
        check_steps(steps)
        self.steps = steps
        self.device = torch.device(device)

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Nothing."""

    def tensors(self) -> dict[str, Tensor]:
        """No tensors."""
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse any tensor."""
        check_names(tensors, ())


class UniformLevels(_WithoutHistory):
    """Levels drawn uniformly and each by itself, those of `ddpm.keys.draw_levels`.

    T-2.3-uniform. Every weight is 1. Arguments as in `level_sampler`.
    """

    def draw(self, seed: int, update: int, rows: slice, batch: int) -> Drawn:
        """See `LevelSampler.draw`."""
        place = check_place(update, rows, batch)
        drawn = level_table(seed, batch, self.steps, *place[:2], self.device)
        return _unweighted(drawn[place[2], rows].clone())


class StratifiedLevels(_WithoutHistory):
    """Levels spread as evenly over a batch as they can be: one random offset serves all rows.

    X-stratified, T-2.3-uniform. Each row by itself is uniform, so every weight is 1. Arguments as
    in `level_sampler`.
    """

    def draw(self, seed: int, update: int, rows: slice, batch: int) -> Drawn:
        """See `LevelSampler.draw`."""
        together, block, number = check_place(update, rows, batch)
        offset = word_table(seed, 1, together, block, self.device)[number]
        row = torch.arange(rows.start, rows.stop, device=self.device)
        return _unweighted(stratified_levels(offset, row, batch, self.steps))


def stratified_levels(offset: Tensor, row: Tensor, batch: int, steps: int) -> Tensor:
    """Levels 1 + floor(T u_i) with u_i = offset / 2^32 + i / B modulo 1, exactly.  X-stratified.

    Args:
        offset: A random word, int64, broadcast against row.
        row: i, int64 in 0..B-1.
        batch: B, in [1, 2^31).
        steps: T, in [1, 2^31).

    Returns:
        int64, in 1..T.
    """
    # B u_i = whole + rest / 2^32 in integers; neither product reaches 2^63.
    scaled = offset * batch
    whole = ((scaled >> 32) + row) % batch
    rest = scaled & (WORDS - 1)
    return 1 + (whole * steps + ((rest * steps) >> 32)) // batch


def _unweighted(t: Tensor) -> Drawn:
    return Drawn(t, torch.ones(t.shape, dtype=torch.float32, device=t.device))
