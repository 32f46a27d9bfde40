"""Axes of normal data, on which every row is affine: mean and variance follow in closed form."""

import numpy as np

from benchmarks.sampler_orders.axes import Array, rows_above_level_1
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule


def final(
    table: StepTable, schedule: Schedule, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """Mean and deviation of the samples at level 1, along each axis [D].

    Args:
        table: The sampler, started from the exact law at its first level.
        schedule: Its schedule.
        mean: Of the data, [D].
        variance: Of the data, [D].
    """
    power, noise = schedule.alpha_bar.numpy(), schedule.one_minus_alpha_bar.numpy()
    x, deviation = exact(schedule, table.path[0], mean, variance)
    history = np.zeros_like(mean)
    xx, xh, hh = deviation**2, np.zeros_like(mean), np.zeros_like(mean)
    for (_, _, a, b, c, sd, *_), t, _ in rows_above_level_1(table):
        # The best denoiser of normal data: x0_hat = gain x + rest.
        gain = np.sqrt(power[t]) * variance / (power[t] * variance + noise[t])
        rest = mean * (1 - gain * np.sqrt(power[t]))
        along = a * gain + b
        x, history = along * x + a * rest + c * history, gain * x + rest
        after = along**2 * xx + 2 * along * c * xh + c**2 * hh + sd**2
        xh, hh, xx = gain * (along * xx + c * xh), gain**2 * xx, after
    return x, np.sqrt(xx)


def exact(schedule: Schedule, t: int, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Mean and deviation of x_t."""
    power, noise = float(schedule.alpha_bar[t]), float(schedule.one_minus_alpha_bar[t])
    return power**0.5 * mean, np.sqrt(power * variance + noise)


def distances(table: StepTable, schedule: Schedule, mean: Array, variance: Array) -> Array:
    """Distance of the law of the samples at level 1 from the exact one, [D]; arguments as above."""
    x, deviation = final(table, schedule, mean, variance)
    centre, spread = exact(schedule, 1, mean, variance)
    return np.asarray(np.hypot(x - centre, deviation - spread))
