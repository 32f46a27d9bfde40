"""Solvers of the reverse stochastic differential equation, as tables of steps."""

from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid

from ddpm.predictions import Prediction
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.schedule import Schedule


def euler_maruyama_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int]
) -> StepTable:
    """Euler-Maruyama for the reverse of the variance-preserving equation.  G-54, G-52.

    In the time -log(alpha_bar) the equation is dx = -x / 2 dt + dw whatever the schedule. A step of
    length h back in time adds (x / 2 + score) h and noise of variance h, with the score
    (alpha x0_hat - x) / (1 - alpha_bar). The last step adds no noise. It agrees with the ancestral
    step up to h^2 (G-42-vs-54), and needs short steps where that one does not.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.

    Raises:
        ValueError: the levels are not allowed, or they start at a level with zero SNR, which is
            infinitely late.
    """
    t, s = pairs(schedule, levels)
    if bool(schedule.log_snr[t[0]].isneginf()):
        raise ValueError(
            f"levels = {list(levels)}: allowed for Euler-Maruyama is a first level with signal, "
            "and level T of this schedule has none"
        )
    beta, log_alpha_bar = schedule.step_beta(s, t), logsigmoid(schedule.log_snr)
    # A small step keeps its digits on the left, and a beta next to 1 on the right.
    length = torch.where(beta < 0.5, -torch.log1p(-beta), log_alpha_bar[s] - log_alpha_bar[t])
    pull = length / schedule.one_minus_alpha_bar[t]
    a, b = schedule.alpha_bar[t].sqrt() * pull, 1 + length / 2 - pull
    sd = torch.where(s > 0, length.sqrt(), 0.0)
    return step_table(schedule, prediction, levels, a, b, sd=sd)
