"""Euler's method for the probability flow, as tables of steps."""

from collections.abc import Sequence

from ddpm.predictions import Prediction
from ddpm.samplers.equations import (
    FLOW,
    check_sde,
    check_signal,
    final_estimate,
    sub_vp_step,
    vp_step,
)
from ddpm.samplers.multistep import dpm_solver_first_table
from ddpm.samplers.tables import StepTable, pairs, step_table
from ddpm.schedule import Schedule


def euler_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int], sde: str = "ve"
) -> StepTable:
    """Euler's method for the flow of one of three equations.  X-probability-flow, X-SDE-subVP.

    With "ve" it steps x / alpha along sigma / alpha, where the flow is straight for as long as
    x0_hat stays; this is the Euler sampler of other libraries, and step by step DDIM with eta = 0.
    In the times of "vp" and "sub-vp" the flow bends: they are there to compare with. Their last
    step returns x0_hat, as that of "ve" does by itself.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        sde: "vp", "ve" or "sub-vp", see `ddpm.samplers.equations`.

    Raises:
        ValueError: the levels or the equation are not allowed, or the levels start at one with
            zero SNR, which only "ve" can step from.
    """
    check_sde(sde)
    if sde == "ve":
        return dpm_solver_first_table(schedule, prediction, levels)
    t, s = pairs(schedule, levels)
    check_signal(schedule, levels, f"Euler with sde = {sde!r}")
    take = vp_step if sde == "vp" else sub_vp_step
    a, b, _ = final_estimate(take(schedule, t, s, FLOW), s)
    return step_table(schedule, prediction, levels, a, b)
