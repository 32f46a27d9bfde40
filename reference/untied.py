r"""One model for each level: a polynomial regression fitted by maximum likelihood, for small T.

    p(x_{t-1} | x_t) = N(\sum_k \theta_{t-1,k} x_t^k, \sigma_{t-1}^2),   t = T, ..., 1.

Each parameter stands in one term of the joint likelihood, so the levels are fitted one by one; the
price is T times as many parameters. The data lie on the line. Samples are drawn level by level, and
what the errors of the levels add up to is known exactly where data and steps are linear-Gaussian.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import ArrayLike

from .arrays import Array, as_float, shaped_like
from .autoregression import ar1_variance, with_noise
from .chain import Chain
from .gaussian import spread_divergence
from .parameterisations import predict_mean
from .variances import Variance, model_variance


class PolynomialStep(NamedTuple):
    """Coefficients (degree + 1,), constant first, and variance of one step.  T-2.2-untied."""

    coefficients: Array
    variance: float


def step_mean(step: PolynomialStep, x_t: ArrayLike) -> Array:
    """Mean of p(x_{t-1} | x_t), any shape.  T-2.2-untied."""
    return np.asarray(polynomial.polyval(as_float(x_t, "x_t"), step.coefficients))


def fit_step(cleaner: ArrayLike, noisier: ArrayLike, degree: int = 1) -> PolynomialStep:
    """The step of greatest likelihood on pairs of samples.  T-2.2-untied, T-2.2-argmax.

    Args:
        cleaner: samples of x_{t-1}, shape (N,).
        noisier: the same samples one level up, shape (N,), more than `degree` different values.
        degree: of the polynomial, at least 0.

    Raises:
        ValueError: the shapes differ, the degree is negative or too high for the samples.
    """
    x = as_float(noisier, "noisier")
    y = shaped_like(cleaner, x, "cleaner")
    if x.ndim != 1:
        raise ValueError(f"noisier must have shape (N,), got {x.shape}")
    if not 0 <= degree < np.unique(x).size:
        raise ValueError(
            f"degree must be at least 0 and below the {np.unique(x).size} different values of "
            f"noisier, got {degree}"
        )
    coefficients = np.asarray(polynomial.polyfit(x, y, degree), dtype=np.float64)
    residual = y - polynomial.polyval(x, coefficients)
    return PolynomialStep(coefficients, float(np.mean(residual**2)))


def fit_untied(paths: ArrayLike, degree: int = 1) -> tuple[PolynomialStep, ...]:
    """The steps that make whole noised samples most likely.  T-2.2-argmax, T-2.2-untied.

    Args:
        paths: N noised samples, level first, shape (T + 1, N), T >= 1.
        degree: of each polynomial, at least 0.

    Returns:
        T steps; entry t - 1 leads from level t to t - 1.

    Raises:
        ValueError: the paths have no second level, or a level cannot be fitted.
    """
    levels = as_float(paths, "paths")
    if levels.ndim != 2 or levels.shape[0] < 2:
        raise ValueError(f"paths must have shape (T + 1, N), T >= 1, got {levels.shape}")
    return tuple(fit_step(cleaner, noisier, degree) for cleaner, noisier in pairwise(levels))


def untied_sample(steps: Sequence[PolynomialStep], start: Array, noise: Array) -> Array:
    """Samples of x_0, drawn level by level from the last.  T-2.2-untied.

    Args:
        steps: T steps, entry t - 1 from level t to t - 1.
        start: samples of x_T, shape (N,).
        noise: standard normal numbers, shape (T, N); entry t - 1 makes x_{t-1}.

    Raises:
        ValueError: there is not one row of noise for each step.
    """
    x = as_float(start, "start")
    if len(noise) != len(steps):
        raise ValueError(f"noise must have {len(steps)} rows, got {len(noise)}")
    for step, draw in zip(reversed(steps), noise[::-1], strict=True):
        x = with_noise(step_mean(step, x), step.variance, draw)
    return x


def generated_variance(
    chain: Chain, data_variance: float, variance: Variance, eps_scale: float = 1.0
) -> float:
    """Variance of x_0 from a model with the exact noise of data N(0, data_variance).  T-fn4.

    Each step multiplies x by a number and adds noise, so that errors of the variance run down the
    levels: the sampler starts at variance 1.

    Args:
        chain: the noising chain, with signal left at its last level.
        data_variance: variance of the data, at least 0.
        variance: variance of the steps.
        eps_scale: factor by which the network misses E[eps | x_t]; 1 is exact.
    """
    t = np.arange(1, chain.steps + 1)
    best_eps = chain.d[t] / chain.marginal_variance(data_variance)[t]
    slopes = predict_mean("eps", eps_scale * best_eps, np.ones(chain.steps), chain, t, t - 1)
    total = np.asarray(1.0)
    for slope, added in zip(
        slopes[::-1], model_variance(chain, t - 1, t, variance)[::-1], strict=True
    ):
        total = ar1_variance(total, slope, added)
    return float(total)


def generation_gap(
    chain: Chain, data_variance: float, variance: Variance, eps_scale: float = 1.0
) -> float:
    """KL(data || model) in nats for data N(0, data_variance).  T-fn4.

    Args:
        chain: the noising chain, with signal left at its last level.
        data_variance: variance of the data, positive.
        variance: variance of the steps.
        eps_scale: see `generated_variance`.

    Raises:
        ValueError: the data have no variance, or the model generates none.
    """
    made = generated_variance(chain, data_variance, variance, eps_scale)
    return float(spread_divergence(data_variance / made))
