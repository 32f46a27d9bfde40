"""Solvers of second order for the probability-flow equation, as tables of steps.

With alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar) and lambda = log(alpha / sigma), which is
half the log-SNR, the flow is d(x / sigma) / d exp(lambda) = x0_hat(x, lambda). DDIM with eta = 0
holds x0_hat fixed over a step. These two solvers extrapolate it from the step before, or average
it over both ends of the step; either reads the x0_hat of the row before from its history slot.
"""

from collections.abc import Sequence

import torch

from ddpm.predictions import Prediction
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.schedule import Schedule


def dpm_solver_first_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int]
) -> StepTable:
    """DPM-Solver++(1) of Lu et al. (2022), which holds x0_hat over a step: DDIM with eta = 0.

    It is Euler's method too, for x / alpha in the time sigma / alpha.

    Args:
        schedule: The noise schedule; a first step from zero terminal SNR is allowed.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.

    Raises:
        ValueError: the levels are not allowed.
    """
    t, s = pairs(schedule, levels)
    a = schedule.alpha_bar[s].sqrt() * -torch.expm1(-schedule.fall(s, t) / 2)
    b = (schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t]).sqrt()
    return step_table(schedule, prediction, levels, a, b)


def dpm_solver_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int]
) -> StepTable:
    """DPM-Solver++(2M) of Lu et al. (2022): order 2 with one call of the network a step.

    A step of length h in lambda holds x0_hat at its value in the middle of the step, on the line
    through the last two estimates. The first step has no estimate before it and the last one,
    which is infinitely long, returns x0_hat: both are of first order.

    Args:
        schedule: The noise schedule; a first step from zero terminal SNR is allowed.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.

    Raises:
        ValueError: the levels are not allowed.
    """
    t, s = pairs(schedule, levels)
    fall = schedule.fall(s, t)
    gain = schedule.alpha_bar[s].sqrt() * -torch.expm1(-fall / 2)
    b = (schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t]).sqrt()
    ahead = torch.zeros_like(fall)
    # How far the middle of the step lies ahead, in steps of the length of the one before.
    ahead[1:-1] = fall[1:-1] / (2 * fall[:-2])
    return step_table(schedule, prediction, levels, gain * (1 + ahead), b, c=-gain * ahead)


def heun_table(schedule: Schedule, prediction: Prediction, levels: Sequence[int]) -> StepTable:
    """Heun's method for the probability flow in sigma / alpha, as Karras et al. (2022) use it.

    Each step is two rows. The first is Euler's, which is DDIM with eta = 0; the second starts at
    its result x, estimates x0_hat there and adds half the change of the slope: with the step's
    length h in lambda and the estimate before, x + alpha_s (exp(h) - 1) / 2 (x0_hat - before).
    The last step is Euler's alone, and so is one from zero terminal SNR, where sigma / alpha is
    infinite. K steps make 2 K - 1 rows, each one call of the network.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.

    Raises:
        ValueError: the levels are not allowed.
    """
    t, s = pairs(schedule, levels)
    fall = schedule.fall(s, t)
    signal = schedule.alpha_bar[s].sqrt()
    euler = torch.stack([
        signal * -torch.expm1(-fall / 2),
        (schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t]).sqrt(),
        torch.zeros_like(fall),
    ])  # fmt: skip
    half = signal * torch.expm1(fall / 2) / 2
    correction = torch.stack([half, torch.ones_like(fall), -half])
    rows = torch.stack([euler, correction], dim=2).flatten(1)
    used = torch.stack([torch.ones_like(t, dtype=torch.bool), fall.isfinite()], dim=1).flatten()
    a, b, c = rows[:, used]
    path = torch.stack([t, s], dim=1).flatten()[used].tolist()
    return step_table(schedule, prediction, [*path, 0], a, b, c=c)
