"""Where a predictor with corrections ends up: at the law in which its corrections rest.

A Langevin step of length delta = 2 r^2 sigma^2 does not shorten as steps grow in number. K steps of
order one are pulled K times towards the law at rest, so that the samples tend to that one, at order
1, and not to the exact one; the two draw together as the noise of the last level falls. For normal
data all of this is in closed form.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.sampler_orders import affine
from benchmarks.sampler_orders.axes import rows_above_level_1
from ddpm.samplers.catalogue import table_of
from ddpm.samplers.sampler import Sampler
from ddpm.schedule import Schedule

MEAN, VARIANCE = np.array([0.5]), np.array([0.5])
STEPS = (512, 1024, 2048, 4096, 8192)


class Rest(NamedTuple):
    """Distances at level 1: samples to the law at rest, to the exact law, and of these two."""

    to_rest: float
    to_exact: float
    apart: float


def measure(sde: str, steps: int) -> Rest:
    """Of a predictor with one correction, over K even steps in log-SNR from -5 to 0."""
    schedule = Schedule.log_snr_linear(steps + 1, 0.0, -5.0)
    table = table_of(Sampler(name="predictor-corrector", sde=sde), schedule, "x0", "posterior")
    _, _, a, b, _, sd, *_ = rows_above_level_1(table)[-1][0]
    x, deviation = affine.final(table, schedule, MEAN, VARIANCE)
    centre, spread = affine.exact(schedule, 1, MEAN, VARIANCE)
    # The correction's x <- rho x + ... + sd z keeps a variance of sd^2 / (1 - rho^2), and the mean.
    rho = a * float(schedule.alpha_bar[1]) ** 0.5 * VARIANCE / spread**2 + b
    wide = sd / np.sqrt(1 - rho**2)

    def apart(mean: float, wider: float) -> float:
        return float(np.hypot(mean, wider))

    off = float((x - centre)[0])
    return Rest(
        apart(off, float((deviation - wide)[0])), apart(off, float((deviation - spread)[0])),
        float((wide - spread)[0]),
    )  # fmt: skip
