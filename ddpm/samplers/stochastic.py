"""Solvers of weak order 2 for the reverse equation that step its noise exactly, as tables of steps.

In lambda = log(alpha / sigma) the reverse of the variance-preserving equation is linear in x but
for x0_hat. Held over a step, x0_hat gives the ancestral step with the posterior's variance, however
long the step is. These two solvers extrapolate it from the step before, or average it over both
ends of the step; either reads the x0_hat of the row before from its history slot.
"""

from collections.abc import Sequence

import torch

from ddpm.predictions import Prediction
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.schedule import Schedule


def dpm_solver_sde_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int]
) -> StepTable:
    """SDE-DPM-Solver++(2M) of Lu et al. (2022), one call of the network a step.

    A step of length h in lambda holds x0_hat at its value in the middle of the step, on the line
    through the last two estimates, as DPM-Solver++(2M) does. The first step has no estimate before
    it and the last one, which is infinitely long, returns x0_hat: both are ancestral.

    Args:
        schedule: The noise schedule; a first step from zero terminal SNR is allowed.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.

    Raises:
        ValueError: the levels are not allowed.
    """
    t, s = pairs(schedule, levels)
    fall, (gain, b, variance) = schedule.fall(s, t), schedule.posterior(s, t)
    ahead = torch.zeros_like(fall)
    # How far the middle of the step lies ahead, in steps of the length of the one before.
    ahead[1:-1] = fall[1:-1] / (2 * fall[:-2])
    a, c = gain * (1 + ahead), -gain * ahead
    return step_table(schedule, prediction, levels, a, b, c=c, sd=variance.sqrt())


def stochastic_heun_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int]
) -> StepTable:
    """Heun's method for the reverse equation: an ancestral step, then its correction.  G-5-solvers.

    Each step is two rows. The first is the ancestral one with the posterior's variance; the second
    starts at its result x, noise included, estimates x0_hat there and adds half of its change,
    x + alpha_s (1 - exp(-fall)) / 2 (x0_hat - before), without noise of its own. As the noise does
    not depend on x, this is of weak order 2. The last step is ancestral alone, and so is one from
    zero terminal SNR, over which x0_hat is no straight line. K steps make 2 K - 1 rows, each one
    call of the network.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.

    Raises:
        ValueError: the levels are not allowed.
    """
    t, s = pairs(schedule, levels)
    gain, b, variance = schedule.posterior(s, t)
    zero = torch.zeros_like(gain)
    ancestral = torch.stack([gain, b, zero, variance.sqrt()])
    correction = torch.stack([gain / 2, torch.ones_like(gain), -gain / 2, zero])
    finite = schedule.fall(s, t).isfinite()
    used = torch.stack([torch.ones_like(finite), finite], dim=1).flatten()
    a, b, c, sd = torch.stack([ancestral, correction], dim=2).flatten(1)[:, used]
    path = torch.stack([t, s], dim=1).flatten()[used].tolist()
    return step_table(schedule, prediction, [*path, 0], a, b, c=c, sd=sd)
