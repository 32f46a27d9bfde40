r"""Learning a schedule: levels placed so that each takes the same part of the objective.

In the limit of many levels the objective does not depend on the schedule, but its estimate from
one random level t does: it is (T - 1) m_t for the masses m_2..m_T, and its variance is zero where
all masses are equal.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .chain import Chain
from .schedules import log_snr_schedule

Masses = Callable[[Chain], Array]


def estimator_deviation(masses: ArrayLike) -> float:
    """Standard deviation of the objective's estimate from one uniform level.  T-2.6-inv.

    Args:
        masses: m_t of the levels 2..T, shape (T - 1,).
    """
    terms = as_float(masses, "masses")
    return float(terms.size * terms.std())


def equal_mass_levels(log_snrs: ArrayLike, masses: ArrayLike, steps: int) -> Array:
    """Log SNRs between which the masses are shared out evenly.  T-2.6-inv.

    Within an old interval the mass is taken to be even in log SNR.

    Args:
        log_snrs: of the old levels 1..T, strictly decreasing, finite, shape (T,), T >= 2.
        masses: positive, of the intervals between them, shape (T - 1,).
        steps: number of new levels, at least 2.

    Returns:
        Shape (steps,), strictly decreasing, with the ends of `log_snrs`.

    Raises:
        ValueError: log_snrs do not decrease, a mass is not positive, the shapes do not fit or
            steps < 2.
    """
    levels, parts = as_float(log_snrs, "log_snrs"), as_float(masses, "masses")
    if levels.ndim != 1 or levels.size < 2 or not np.all(np.diff(levels) < 0):
        raise ValueError(f"log_snrs must be at least two decreasing numbers, got {levels}")
    if parts.shape != (levels.size - 1,) or not np.all(parts > 0):
        raise ValueError(f"masses must be {levels.size - 1} positive numbers, got {parts}")
    if steps < 2:
        raise ValueError(f"steps must be at least 2, got {steps}")
    shares = np.concatenate([[0.0], np.cumsum(parts) / parts.sum()])
    shares[-1] = 1.0
    return np.interp(np.linspace(0, 1, steps), shares, levels)


def learn_schedule(log_snrs: ArrayLike, masses: Masses, rounds: int, move: float = 1.0) -> Chain:
    """The chain after moving the levels towards equal masses again and again.  T-2.6-inv.

    Few levels over a wide range overshoot: there a part of the way, such as half, settles.

    Args:
        log_snrs: of the levels 1..T at the start, strictly decreasing; the ends stay.
        masses: from a chain to the masses of its levels 2..T, measured or exact.
        rounds: how often to measure and move, at least 1.
        move: share of the way to go in a round, in (0, 1].

    Raises:
        ValueError: rounds < 1, move leaves its range, or as `equal_mass_levels`.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    if not 0 < move <= 1:
        raise ValueError(f"move must lie in (0, 1], got {move}")
    levels = as_float(log_snrs, "log_snrs")
    for _ in range(rounds):
        goal = equal_mass_levels(levels, masses(log_snr_schedule(levels)), levels.size)
        levels = levels + move * (goal - levels)
    return log_snr_schedule(levels)
