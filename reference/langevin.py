r"""Sampling from a score alone: unadjusted Langevin steps, at one level of noise or down several.

    x' = x + h s(x) + \sqrt{2 h} z,

the Euler-Maruyama step of dx = s(x) dt + \sqrt 2 dw, whose law at rest is the one with score s.
A step of positive length rests at a law that is wrong by the order of h, since no step is refused.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .sde_solvers import euler_maruyama

Score = Callable[[Array], Array]
NoisyScore = Callable[[Array, float], Array]


def langevin_step(score: Score, x: Array, h: float, noise: Array) -> Array:
    """One step x + h s(x) + sqrt(2 h) z.  X-langevin, T-fn23.

    Args:
        score: gradient of the log density, from samples to their shape.
        x: samples, shape (batch, ...).
        h: length of the step, positive.
        noise: standard normal numbers, shaped like x.

    Raises:
        ValueError: h is not positive, or the noise does not have the shape of x.
    """
    if not h > 0:
        raise ValueError(f"h must be positive, got {h}")
    return euler_maruyama(lambda y, _: score(y), lambda _: np.sqrt(2.0), x, 0.0, h, noise)


def langevin(score: Score, x: Array, h: float, noises: Array) -> Array:
    """Samples after as many steps as there are noises.  X-langevin, T-fn23.

    Args:
        score: gradient of the log density, from samples to their shape.
        x: samples to start from, shape (batch, ...).
        h: length of the steps, positive.
        noises: standard normal numbers, shape (n, batch, ...).

    Raises:
        ValueError: h is not positive, or the noises do not fit.
    """
    samples = as_float(x, "x")
    for noise in noises:
        samples = langevin_step(score, samples, h, noise)
    return samples


def annealed_langevin(
    score: NoisyScore, x: Array, deviations: Sequence[float], h: float, noises: Array
) -> Array:
    """Langevin steps down levels of noise, each from where the last ended.  X-langevin, T-fn23.

    The step at a level is h (sigma / sigma_last)^2, so that it fits the width of the level.

    Args:
        score: s(x, sigma), the score of the data with noise of deviation sigma added.
        x: samples to start from, shape (batch, ...).
        deviations: sigma of the levels, positive and strictly decreasing, shape (L,), L >= 1.
        h: length of the steps at the last level, positive.
        noises: standard normal numbers, shape (L, n, batch, ...).

    Raises:
        ValueError: the deviations leave their range, or the noises do not have L levels.
    """
    sigmas = as_float(deviations, "deviations")
    if sigmas.size == 0 or sigmas[-1] <= 0 or np.any(np.diff(sigmas) >= 0):
        raise ValueError(f"deviations must be positive and strictly decreasing, got {sigmas}")
    if len(noises) != sigmas.size:
        raise ValueError(f"noises must have {sigmas.size} levels, got {len(noises)}")
    samples = as_float(x, "x")
    for sigma, draws in zip(sigmas.tolist(), noises, strict=True):
        length = h * (sigma / sigmas[-1]) ** 2
        samples = langevin(_at_level(score, sigma), samples, length, draws)
    return samples


def stationary_variance(variance: ArrayLike, h: float) -> Array:
    """Variance at which the steps come to rest for Gaussian data.  X-langevin, T-fn23.

    v / (1 - h / (2 v)) = v + h / 2 + ..., an excess of first order in the step.

    Args:
        variance: v of the data, any shape; h must be below 2 v, or the steps run away.
        h: length of the step, positive.

    Raises:
        ValueError: h is not in (0, 2 v).
    """
    v = as_float(variance, "variance")
    if not (h > 0 and np.all(h < 2 * v)):
        raise ValueError(f"h must lie in (0, 2 variance), got {h} for {v}")
    return np.asarray(v / (1 - h / (2 * v)))


def _at_level(score: NoisyScore, sigma: float) -> Score:
    return lambda x: score(x, sigma)
