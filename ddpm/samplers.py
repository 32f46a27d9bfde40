"""Samplers as tables: each step of DDPM and DDIM is one affine map with noise.

The step from level t to level s computes x0_hat = k_x x_t + k_out output, clips it, and returns
a x0_hat + b x_t + sd z. A sampler is the table of the five numbers, one row a step, computed in
float64; the fused kernel reads its row on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddpm.levels import check_levels
from ddpm.predictions import Prediction, x0_coefficients
from ddpm.schedule import Schedule

Variance = Literal["posterior", "beta"]


@dataclass(frozen=True, eq=False)
class StepTable:
    """Coefficients of a sequence of steps.

    Attributes:
        coefficients: float32 [K, 5] rows (k_x, k_out, a, b, sd).
        levels: int64 [K], the level t that each step leaves; also the step of its random numbers.
        noisy: Whether any row has sd > 0.
    """

    coefficients: Tensor
    levels: Tensor
    noisy: bool

    def to(self, device: torch.device | str) -> "StepTable":
        """The same table on another device."""
        return StepTable(self.coefficients.to(device), self.levels.to(device), self.noisy)


def ancestral_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int], variance: Variance
) -> StepTable:
    """Steps of the reverse chain with a fixed variance.  G-42, V-alg2, T-2.5-var1, T-2.5-var2.

    On a subsequence beta is the noise between the two levels, not an entry of the training table.
    The last step, to level 0, returns the mean: under "beta" the noise left there would be beta_1.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        variance: "posterior" for that of q(x_s | x_t, x_0), "beta" for that of q(x_t | x_s).

    Raises:
        ValueError: the levels or the variance are not allowed.
    """
    if variance not in ("posterior", "beta"):
        raise ValueError(f"variance = {variance!r}: allowed is 'posterior' or 'beta'")
    t, s = _pairs(schedule, levels)
    a, b, posterior_variance = schedule.posterior(s, t)
    chosen = posterior_variance if variance == "posterior" else schedule.step_beta(s, t)
    return _table(schedule, prediction, t, a, b, torch.where(s > 0, chosen, 0.0).sqrt())


def ddim_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int], eta: float
) -> StepTable:
    """Steps of the DDIM family: eta = 0 is deterministic, eta = 1 ancestral.  L-2.13, L-tau.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        eta: Share of the posterior standard deviation that is drawn afresh, in [0, 1].

    Raises:
        ValueError: the levels or eta are not allowed.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta}: allowed is [0, 1]")
    t, s = _pairs(schedule, levels)
    a, _, posterior_variance = schedule.posterior(s, t)
    kept = torch.exp(-schedule.fall(s, t))
    direction = (1 - eta**2) + eta**2 * kept
    # With n = 1 - alpha_bar these are b = sqrt((n_s - eta^2 s2) / n_t), s2 the posterior variance,
    # and a = sqrt(alpha_bar_s) - b sqrt(alpha_bar_t), without the two subtractions.
    b = (schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t] * direction).sqrt()
    a = a * (1 + eta**2 * kept) / (1 + (kept * direction).sqrt())
    return _table(schedule, prediction, t, a, b, eta * posterior_variance.sqrt())


def _pairs(schedule: Schedule, levels: Sequence[int]) -> tuple[Tensor, Tensor]:
    check_levels(levels, schedule.steps)
    sequence = torch.tensor(levels, dtype=torch.int64)
    return sequence[:-1], sequence[1:]


def _table(
    schedule: Schedule, prediction: Prediction, t: Tensor, a: Tensor, b: Tensor, sd: Tensor
) -> StepTable:
    k_x, k_out = x0_coefficients(schedule, prediction, t)
    rows = torch.stack([k_x, k_out, a, b, sd], dim=1).detach()
    return StepTable(rows.float(), t, bool((sd > 0).any()))
