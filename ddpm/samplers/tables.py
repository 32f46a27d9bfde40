"""Samplers as tables: each step of any sampler is one affine map with noise.

The step from level t to level s computes x0_hat = k_x x_t + k_pred output, clips it, and returns

    a x0_hat + b x_t + c history + noise,

where history is the x0_hat of the row before and the noise is sd z, with a factor that depends on
the network's output where the variance is learned. A sampler is the table of these numbers, one row
a step, computed in float64; the fused kernel reads its row on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddpm.predictions import Prediction, x0_coefficients
from ddpm.samplers.levels import check_levels
from ddpm.samplers.variances import Learned
from ddpm.schedule import Schedule


@dataclass(frozen=True, eq=False)
class StepTable:
    """Coefficients of a sequence of steps.

    Attributes:
        coefficients: float32 [K, 8] rows (k_x, k_pred, a, b, c, sd, v0, v1), rounded once.
        exact: float64 [K, 8], the same before rounding, on the CPU; what a sampler can be studied
            by.
        levels: int64 [K], the level of each row's input, at which the network is called.
        draws: int64 [K], the step of each row's random numbers: its level, and more where several
            rows start at one level.
        path: The same levels and a final 0, known to the host wherever the tensors live.
        noisy: Whether any row draws noise.
        learned: How the noise depends on the second half of the network's output: "none", "log"
            for a standard deviation exp(v0 + v1 raw), "sigmoid" for a variance
            v0 + v1 sigmoid(raw).
        reads_history: For each row, whether it reads the x0_hat of the row before.
    """

    coefficients: Tensor
    exact: Tensor
    levels: Tensor
    draws: Tensor
    path: tuple[int, ...]
    noisy: bool
    learned: Learned
    reads_history: tuple[bool, ...]

    @property
    def needs_history(self) -> bool:
        """Whether any row reads the x0_hat of the row before."""
        return any(self.reads_history)

    def to(self, device: torch.device | str) -> "StepTable":
        """The same table on another device."""
        return replace(
            self, coefficients=self.coefficients.to(device), levels=self.levels.to(device),
            draws=self.draws.to(device),
        )  # fmt: skip


def pairs(schedule: Schedule, levels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Levels t and s of each step of a sequence, int64 [K] each.

    Raises:
        ValueError: the levels do not decrease strictly from T or below to 0.
    """
    check_levels(levels, schedule.steps)
    sequence = torch.tensor(levels, dtype=torch.int64)
    return sequence[:-1], sequence[1:]


def step_table(
    schedule: Schedule,
    prediction: Prediction,
    path: Sequence[int],
    a: Tensor,
    b: Tensor,
    *,
    c: Tensor | None = None,
    sd: Tensor | None = None,
    v: tuple[Tensor, Tensor] | None = None,
    learned: Learned = "none",
    draws: Tensor | None = None,
) -> StepTable:
    """Put the table together and round it once.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        path: Level of each row's input and then 0, K + 1 integers.
        a: Weight of x0_hat, float64 [K], as all columns are; None means zeros.
        b: Weight of x.
        c: Weight of the x0_hat of the row before.
        sd: Standard deviation of the noise, or its factor where the variance is learned.
        v: Columns v0 and v1 of a learned variance.
        learned: See `StepTable`.
        draws: Steps of the random numbers, int64 [K]; None for the levels.
    """
    t = torch.tensor(path[:-1], dtype=torch.int64)
    k_x, k_pred = x0_coefficients(schedule, prediction, t)
    zero = torch.zeros_like(a)
    c, sd, (v0, v1) = zero if c is None else c, zero if sd is None else sd, v or (zero, zero)
    rows = torch.stack([k_x, k_pred, a, b, c, sd, v0, v1], dim=1).detach()
    reads = tuple(bool(weight) for weight in c.detach() != 0)
    noisy, draws = bool((sd > 0).any()), t if draws is None else draws
    return StepTable(rows.float(), rows, t, draws, tuple(path), noisy, learned, reads)
