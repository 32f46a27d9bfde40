"""Steps of denoising diffusion implicit models."""

from collections.abc import Sequence

import torch

from ddpm.predictions import Prediction
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.schedule import Schedule


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
    t, s = pairs(schedule, levels)
    a, _, posterior_variance = schedule.posterior(s, t)
    kept = torch.exp(-schedule.fall(s, t))
    direction = (1 - eta**2) + eta**2 * kept
    # With n = 1 - alpha_bar these are b = sqrt((n_s - eta^2 s2) / n_t), s2 the posterior variance,
    # and a = sqrt(alpha_bar_s) - b sqrt(alpha_bar_t), without the two subtractions.
    b = (schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t] * direction).sqrt()
    a = a * (1 + eta**2 * kept) / (1 + (kept * direction).sqrt())
    return step_table(schedule, prediction, levels, a, b, sd=eta * posterior_variance.sqrt())
