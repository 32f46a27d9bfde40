"""Predictor and corrector: steps of the reverse equation, each followed by Langevin's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm.predictions import Prediction
from ddpm.samplers.equations import Step
from ddpm.samplers.sde import reverse_steps
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.schedule import Schedule

SNR_RATIO = 0.16
"""Length of a Langevin step, r of Song et al. (2021), Algorithms 4 and 5, as they set it."""

LARGEST_DRAW = 2**32 - 1


def predictor_corrector_table(
    schedule: Schedule,
    prediction: Prediction,
    levels: Sequence[int],
    sde: str = "vp",
    *,
    corrections: int = 1,
    snr_ratio: float = SNR_RATIO,
) -> StepTable:
    """Euler-Maruyama steps, and Langevin steps at the level that each ends at.  G-54, X-langevin.

    No correction is made at level 0. K steps make K + (K - 1) corrections rows, each one call of
    the network.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        sde: Equation of the predictor, "vp", "ve" or "sub-vp", see `ddpm.samplers.equations`.
        corrections: Langevin steps after a step, at least 1.
        snr_ratio: Their length, see `langevin_steps`, in (0, 1).

    Raises:
        ValueError: the levels, the equation or a number is not allowed, the levels start at one
            with zero SNR, or there are more corrections than random numbers for them.
    """
    _check(schedule, corrections, snr_ratio)
    t, s = pairs(schedule, levels)
    predictor = torch.stack(reverse_steps(schedule, levels, sde))
    corrector = torch.stack(langevin_steps(schedule, s, snr_ratio))
    rows = torch.stack([predictor, *[corrector] * corrections], dim=2).flatten(1)
    path = torch.stack([t, *[s] * corrections], dim=1).flatten().tolist()
    draws = torch.stack([t, *correction_draws(schedule, s, corrections)], dim=1).flatten()
    # All but the corrections at level 0.
    a, b, sd = rows[:, : len(path) - corrections]
    path = path[: len(a)]
    return step_table(schedule, prediction, [*path, 0], a, b, sd=sd, draws=draws[: len(a)])


def langevin_steps(schedule: Schedule, s: Tensor, snr_ratio: float) -> Step:
    """Columns of x + delta score + sqrt(2 delta) z at levels s.  X-langevin, T-fn23.

    delta = 2 (ratio |z| / |score|)^2 as in Song et al. (2021), Algorithm 5, with the two norms
    replaced by what they are on average over noise, so that delta = 2 ratio^2 sigma_s^2 and nothing
    is read from a batch. It scales as the square of the coordinate, so that it is the same step
    in each of the three equations. A law at rest under such steps is too wide, by delta / 2 in the
    variance to first order.

    Args:
        schedule: The noise schedule.
        s: Levels, int64 [K]; the columns of a level 0 are not of use.
        snr_ratio: ratio, in (0, 1).
    """
    share = 2 * snr_ratio**2
    signal, sigma = schedule.alpha_bar[s].sqrt(), schedule.one_minus_alpha_bar[s].sqrt()
    return Step(share * signal, torch.full_like(signal, 1 - share), 2 * snr_ratio * sigma)


def correction_draws(schedule: Schedule, s: Tensor, corrections: int) -> list[Tensor]:
    """Steps of the random numbers of each correction at levels s, int64 [K] each.

    Correction j = 1, 2, ... at level s draws as step s + j (T + 1), so that it shares its numbers
    with no level and no other correction, and has them whatever other levels are visited.
    """
    return [s + j * (schedule.steps + 1) for j in range(1, corrections + 1)]


def _check(schedule: Schedule, corrections: int, snr_ratio: float) -> None:
    most = LARGEST_DRAW // (schedule.steps + 1) - 1
    if not 1 <= corrections <= most:
        raise ValueError(f"corrections = {corrections}: allowed is 1 to {most}")
    if not 0 < snr_ratio < 1:
        raise ValueError(f"snr_ratio = {snr_ratio}: allowed is between 0 and 1")
