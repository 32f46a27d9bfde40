"""Solvers of the reverse stochastic differential equation, as tables of steps."""

from collections.abc import Sequence

import torch

from ddpm.predictions import Prediction
from ddpm.samplers.equations import (
    REVERSE,
    Step,
    check_sde,
    check_signal,
    final_estimate,
    sub_vp_step,
    ve_step,
    vp_step,
)
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.schedule import Schedule


def euler_maruyama_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int], sde: str = "vp"
) -> StepTable:
    """Euler-Maruyama for the reverse of one of three equations.  G-54, G-52, X-SDE-VE, X-SDE-subVP.

    See `ddpm.samplers.equations` for their coordinates and times. A step of "vp" agrees with the
    ancestral step up to h^2 (G-42-vs-54), and needs short steps where that one does not; one of
    "ve" has the mean of the ancestral step, and more noise. The last step adds no noise; of "ve"
    and "sub-vp" it returns x0_hat.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        sde: "vp", "ve" or "sub-vp".

    Raises:
        ValueError: the levels or the equation are not allowed, or the levels start at one with
            zero SNR, which is infinitely late.
    """
    a, b, sd = reverse_steps(schedule, levels, sde)
    return step_table(schedule, prediction, levels, a, b, sd=sd)


def reverse_steps(schedule: Schedule, levels: Sequence[int], sde: str) -> Step:
    """The columns of `euler_maruyama_table`.

    Raises:
        ValueError: as there.
    """
    check_sde(sde)
    t, s = pairs(schedule, levels)
    check_signal(schedule, levels, "Euler-Maruyama")
    if sde == "ve":
        return final_estimate(ve_step(schedule, t, s), s)
    if sde == "sub-vp":
        return final_estimate(sub_vp_step(schedule, t, s, REVERSE), s)
    step = vp_step(schedule, t, s, REVERSE)
    return step._replace(sd=torch.where(s > 0, step.sd, 0.0))
