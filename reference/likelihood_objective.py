r"""Training as maximum likelihood of noised data: one Gaussian regression for each level.

    L(\theta) = E_q \log p(x_{0:T}) = E_q \log p(x_T) + \sum_{t=1}^T L_{t-1},
    L_{t-1} = E_q \log N(x_{t-1}; \mu_\theta(x_t), \sigma_\theta^2(x_t) I).

The average over x_{t-1} given x_0 and x_t is closed.  With weights w_{t-1} and parameters shared by
the levels, L becomes the simplified objective (noise prediction, \sigma^2 = \beta) or the one of
the signal-to-noise ratio (x_0 prediction, \sigma^2 = s2).  Objectives are to be maximised.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, shaped_like
from .chain import Chain
from .gaussian import log_density
from .objectives import simple_weight
from .posterior import posterior_coefficients


class LikelihoodTerms(NamedTuple):
    """E log p(x_T), a number, and L of each step, shape (T,), in nats.  T-2.2-ML, T-2.2-step."""

    terminal: float
    steps: Array

    @property
    def total(self) -> float:
        """E log p(x_{0:T}), the objective of all steps at once.  T-2.2-ML, T-fn12."""
        return float(self.terminal + self.steps.sum())


class LinearStep(NamedTuple):
    """Step N(slope x_t + shift, variance) from level t to t - 1.  T-2.2-step."""

    slope: float
    shift: float
    variance: float


def likelihood_terms(paths: ArrayLike, means: ArrayLike, variances: ArrayLike) -> LikelihoodTerms:
    """Averages over sampled paths of the terms of log p(x_{0:T}).  T-2.2-ML, T-2.2-step, T-fn12.

    Args:
        paths: N noised samples, level first, shape (T + 1, N, d), T >= 1.
        means: mean of p(x_{t-1} | x_t) at entry t - 1, shape (T, N, d).
        variances: positive variances of the steps, shape (T,) or (T, N).

    Returns:
        The terms; p(x_T) is N(0, I).

    Raises:
        ValueError: the shapes do not fit or a variance is not positive.
    """
    levels, spread = as_float(paths, "paths"), as_float(variances, "variances")
    if levels.ndim != 3 or levels.shape[0] < 2:
        raise ValueError(f"paths must have shape (T + 1, N, d), T >= 1, got {levels.shape}")
    if spread.ndim == 1:
        spread = np.repeat(spread[:, None], levels.shape[1], axis=1)
    centres = shaped_like(means, levels[1:], "means")
    steps = log_density(levels[:-1], centres, shaped_like(spread, levels[1:, :, 0], "variances"))
    return LikelihoodTerms(float(log_density(levels[-1], 0.0, 1.0).mean()), steps.mean(axis=1))


def fit_linear_step(cleaner: ArrayLike, noisier: ArrayLike) -> LinearStep:
    """The linear step of greatest likelihood on pairs: least squares, mean square.  T-2.2-step.

    Args:
        cleaner: x_{t-1} of each pair, shape (N,).
        noisier: x_t of each pair, same shape, at least two different values.

    Raises:
        ValueError: the shapes differ, or the noisier values are all equal.
    """
    x = as_float(noisier, "noisier")
    y = shaped_like(cleaner, x, "cleaner")
    if x.ndim != 1 or np.unique(x).size < 2:
        raise ValueError(f"noisier must have shape (N,) and two different values, got {x}")
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    shift = y.mean() - slope * x.mean()
    return LinearStep(float(slope), float(shift), float(np.mean((y - slope * x - shift) ** 2)))


def inner_average(
    mean_q: ArrayLike, variance_q: ArrayLike, mean_p: ArrayLike, variance_p: ArrayLike
) -> Array:
    """E_q log p of two normal laws, the closed inner average.  T-2.4-tower, T-fn18, T-fn19.

    -(|mean_q - mean_p|^2 + d variance_q) / (2 variance_p) - d/2 log(2 pi variance_p); it is
    -KL(q || p) less the entropy of q, and what a draw from q adds to it has mean zero.

    Args:
        mean_q: that of q(x_{t-1} | x_t, x_0), shape (..., d).
        variance_q: its variance, at least 0 (0 at t = 1), shape (...).
        mean_p: that of p(x_{t-1} | x_t), shape (..., d).
        variance_p: its variance, positive, shape (...).

    Raises:
        ValueError: variance_q is negative or variance_p is not positive.
    """
    spread = as_float(variance_q, "variance_q")
    if np.any(spread < 0):
        raise ValueError(f"variance_q must be at least 0, got {spread.min()}")
    at_mean = log_density(mean_q, mean_p, variance_p)
    elements = np.broadcast_shapes(np.shape(mean_q), np.shape(mean_p))[-1]
    return np.asarray(at_mean - elements * spread / (2 * np.asarray(variance_p)))


def tied_objective(weights: ArrayLike, values: ArrayLike) -> float:
    """Objective of parameters that levels share, the mean of w_{t-1} L_{t-1}.  T-2.3-obj, T-fn15.

    One level drawn uniformly from 1..T estimates it without bias.  A weight scales the pull of its
    level on shared parameters, whatever the width of the step: L_{t-1} pulls with 1 / (2 sigma^2).

    Args:
        weights: w of each step, at least 0, shape (T,), T >= 1; all 1 is maximum likelihood.
        values: L of each step, shape (T,); entry t - 1 belongs to the step from t to t - 1.

    Raises:
        ValueError: the shapes differ, there is no level, or a weight is negative.
    """
    factor = as_float(weights, "weights")
    if factor.ndim != 1 or factor.size == 0 or np.any(factor < 0):
        raise ValueError(f"weights must be at least 0, shape (T,) with T >= 1, got {factor}")
    return float(np.mean(factor * shaped_like(values, factor, "values")))


def simplified_objective(chain: Chain, errors: ArrayLike) -> float:
    """-(T/2) E_t E (eps - eps_theta)^2, the weighted likelihood less a constant.  T-2.6-simple.

    Args:
        chain: the noising chain.
        errors: mean squared error of the noise at levels 1..T, at least 0, shape (T,).

    Raises:
        ValueError: the shape is another or an error is negative.
    """
    return -float(_errors(errors, chain.steps).sum()) / 2


def simplified_constant(chain: Chain) -> float:
    """What no network changes: sum_t w_{t-1} L_{t-1} less the simplified objective.  T-2.6-simple.

    -1/2 sum_t w_{t-1} (s2_t / beta_t + log(2 pi beta_t)) for one coordinate, with w of
    `simple_weight`.

    Args:
        chain: the noising chain, with some signal at every level.

    Raises:
        ValueError: the last level holds no signal, where no noise can be predicted.
    """
    if chain.zero_terminal_snr:
        raise ValueError(f"betas must stay below 1 where noise is predicted, got {chain.betas[-1]}")
    t = np.arange(1, chain.steps + 1)
    s2 = posterior_coefficients(chain, t - 1, t).s2
    values = inner_average(np.zeros((t.size, 1)), s2, 0.0, chain.betas)
    return float(simple_weight(chain, t) @ values)


def snr_objective(chain: Chain, errors: ArrayLike) -> float:
    """-(1/2) sum_{t >= 2} (SNR(t-1) - SNR(t)) E (x_0 - x_theta)^2, to be maximised.  T-eq3.

    It is T times the average over a uniform level; level 1, whose weight is infinite, is left to
    the decoder.

    Args:
        chain: the noising chain.
        errors: mean squared error of x_0 at levels 2..T, at least 0, shape (T - 1,).

    Raises:
        ValueError: the shape is another or an error is negative.
    """
    t = np.arange(2, chain.steps + 1)
    return -float(chain.snr_drop(t - 1, t) @ _errors(errors, t.size)) / 2


def _errors(errors: ArrayLike, levels: int) -> Array:
    square = as_float(errors, "errors")
    if square.shape != (levels,):
        raise ValueError(f"errors must have shape {(levels,)}, got {square.shape}")
    if np.any(square < 0):
        raise ValueError(f"errors must be at least 0, got {square.min()}")
    return square
