r"""The last step of the model: a Gaussian integrated over the bins of the grey levels.

Data on [-1, 1] takes `levels` equally spaced values; a bin reaches half a spacing, 1/(levels - 1),
to both sides of its value, and the outer bins are open, so that the probabilities sum to one.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from .arrays import Array, as_float


def grey_levels(levels: int) -> Array:
    """The values of the grey levels, from -1 to 1.  L-2.10.

    Args:
        levels: how many, at least 2.

    Raises:
        ValueError: levels < 2.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    return np.arange(1 - levels, levels, 2) / (levels - 1)


def decoder_log_likelihood(
    x0: ArrayLike, mean: ArrayLike, deviation: ArrayLike, levels: int = 256
) -> Array:
    """Log probability of each grey value, in nats, not summed.  L-2.10, L-C0, K-63.

    Computed from logarithms of tail areas, always those of the lighter side, so that it stays
    finite far in the tails.

    Args:
        x0: grey values on the grid of `levels` values, broadcast with the rest.
        mean: the model's mean.
        deviation: the model's standard deviation, positive.
        levels: number of grey levels, at least 2.

    Raises:
        ValueError: a value is off the grid, the deviation is not positive, or levels < 2.
    """
    index = _index(as_float(x0, "x0"), levels)
    centre, spread = as_float(mean, "mean"), _positive(deviation)
    edges = (2 * index - levels) / (levels - 1), (2 * index - levels + 2) / (levels - 1)
    lower = np.where(index == 0, -np.inf, (edges[0] - centre) / spread)
    upper = np.where(index == levels - 1, np.inf, (edges[1] - centre) / spread)
    return _log_area(lower, upper)


def decoder_log_pmf(mean: ArrayLike, deviation: ArrayLike, levels: int = 256) -> Array:
    """Log probabilities of all grey levels; they sum to one.  L-2.10.

    Args:
        mean: the model's mean, any shape.
        deviation: positive, broadcast with the mean.
        levels: number of grey levels, at least 2.

    Returns:
        Shape (..., levels).

    Raises:
        ValueError: the deviation is not positive, or levels < 2.
    """
    centre = as_float(mean, "mean")[..., None]
    spread = as_float(deviation, "deviation")[..., None]
    return decoder_log_likelihood(grey_levels(levels), centre, spread, levels)


def decoder_quadratic(
    x0: ArrayLike, mean: ArrayLike, deviation: ArrayLike, levels: int = 256
) -> Array:
    """Log of the bin's width times the density at its middle, inner bins only.  L-2.11.

    log(2 h) - log(2 pi s^2)/2 - r^2 / (2 s^2), with h = 1/(levels - 1) and r = x0 - mean. It lies
    about h^2 (s^2 - r^2) / (6 s^4) above the exact value, so it is no bound.

    Args:
        x0: grey values on the grid, neither -1 nor 1.
        mean: the model's mean.
        deviation: positive.
        levels: number of grey levels, at least 3.

    Raises:
        ValueError: a value is off the grid or in an outer bin, or the deviation not positive.
    """
    values, centre = as_float(x0, "x0"), as_float(mean, "mean")
    index, spread = _index(values, levels), _positive(deviation)
    if np.any((index == 0) | (index == levels - 1)):
        raise ValueError(f"x0 must lie in an inner bin, as an outer one has no width, got {values}")
    normaliser = np.log(2 / (levels - 1)) - np.log(2 * np.pi * spread**2) / 2
    return np.asarray(normaliser - ((values - centre) / spread) ** 2 / 2)


def decoder_lower_bound(
    x0: ArrayLike, mean: ArrayLike, deviation: ArrayLike, levels: int = 256
) -> Array:
    """Log of the bin's width plus the log density averaged over the bin.  L-2.11-jensen.

    By Jensen's inequality at most the log probability; h^2 / (6 s^2) below the quadratic form.

    Args:
        x0: grey values on the grid, neither -1 nor 1.
        mean: the model's mean.
        deviation: positive.
        levels: number of grey levels, at least 3.

    Raises:
        ValueError: as `decoder_quadratic`.
    """
    middle = decoder_quadratic(x0, mean, deviation, levels)
    return np.asarray(middle - ((levels - 1) * as_float(deviation, "deviation")) ** -2 / 6)


def _positive(deviation: ArrayLike) -> Array:
    spread = as_float(deviation, "deviation")
    if np.any(spread <= 0):
        raise ValueError(f"deviation must be positive, got {spread.min()}")
    return spread


def _index(x0: Array, levels: int) -> Array:
    """Number of the grey level of each value; a hundredth of a bin is allowed for storage."""
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    position = (x0 + 1) * (levels - 1) / 2
    index = np.rint(position)
    bad = (np.abs(position - index) > 0.005) | (index < 0) | (index > levels - 1)
    if np.any(bad):
        raise ValueError(f"x0 must be one of {levels} grey levels on [-1, 1], got {x0[bad][:1]}")
    return index


def _log_area(lower: Array, upper: Array) -> Array:
    """Log of the standard normal area between two bounds, lower < upper."""
    flip = lower + upper > 0
    near, far = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
    log_near = log_ndtr(near)
    return np.asarray(log_near + np.log(-np.expm1(log_ndtr(far) - log_near)))
