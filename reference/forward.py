r"""Adding noise: one step, many steps at once, and the general chain that keeps no variance.

x_t = \sqrt{1 - \beta_t} x_{t-1} + \sqrt{\beta_t} \epsilon_t,
x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, per_sample, shaped_like


def forward_step(x: Array, beta: ArrayLike) -> tuple[Array, Array]:
    """Mean and variance of q(x_t | x_{t-1}).  T-2.1-ar1, K-5..7, V-2, L-2.0, G-2, G-24.

    Args:
        x: samples at level t - 1, shape (batch, ...).
        beta: noise variance of the step in (0, 1], a number or shape (batch,).

    Returns:
        The mean sqrt(1 - beta) x, shaped like x, and the variance beta.

    Raises:
        ValueError: beta leaves (0, 1].
    """
    samples, variance = as_float(x, "x"), np.asarray(beta, dtype=np.float64)
    if not np.all((variance > 0) & (variance <= 1)):
        raise ValueError(f"beta must lie in (0, 1], got {variance}")
    return per_sample(np.sqrt(1 - variance), samples) * samples, variance


def q_mean_variance(
    x0: Array, alpha_bar: ArrayLike, one_minus_alpha_bar: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean and variance of q(x_t | x_0).  T-eq1, T-fn10, T-4.1.2, K-15, V-eq1, L-fwd, G-28..31.

    Args:
        x0: clean samples, shape (batch, ...).
        alpha_bar: signal power at t in [0, 1], a number or shape (batch,).
        one_minus_alpha_bar: its complement as a chain holds it, exact where alpha_bar is so close
            to 1 that the subtraction loses digits; by default 1 - alpha_bar.

    Returns:
        The mean, shaped like x0, and the variance, shaped like alpha_bar.

    Raises:
        ValueError: alpha_bar leaves [0, 1], or the complement does not fit it.
    """
    clean, signal = as_float(x0, "x0"), as_float(alpha_bar, "alpha_bar")
    if np.any((signal < 0) | (signal > 1)):
        raise ValueError(f"alpha_bar must lie in [0, 1], got {signal}")
    noise = 1 - signal
    if one_minus_alpha_bar is not None:
        noise = as_float(one_minus_alpha_bar, "one_minus_alpha_bar")
        if np.any(np.abs(signal + noise - 1) > 1e-6):
            raise ValueError(f"one_minus_alpha_bar must be 1 - {signal}, got {noise}")
    return per_sample(np.sqrt(signal), clean) * clean, noise


def q_sample(
    x0: Array, alpha_bar: ArrayLike, noise: Array, one_minus_alpha_bar: ArrayLike | None = None
) -> Array:
    """Sample of q(x_t | x_0) from standard normal noise.  T-eq1, V-eq1, K-15, L-fwd, G-31.

    Args:
        x0: clean samples, shape (batch, ...).
        alpha_bar: signal power at t in [0, 1], a number or shape (batch,).
        noise: standard normal numbers, shaped like x0.
        one_minus_alpha_bar: see `q_mean_variance`.

    Raises:
        ValueError: the shapes differ or alpha_bar leaves [0, 1].
    """
    mean, variance = q_mean_variance(x0, alpha_bar, one_minus_alpha_bar)
    draws = shaped_like(noise, mean, "noise")
    return mean + per_sample(np.sqrt(variance), draws) * draws


def telescope(lambdas: ArrayLike, variances: ArrayLike) -> tuple[Array, Array]:
    """Gain and variance of x_t given x_0, x_t = lambda_t x_{t-1} + sigma_t eps.  T-4.1.2, T-3-VE.

    The gain is the product of the lambdas; the variance is the sum over s of sigma_s^2 times the
    squared lambdas after s. Lambda may be negative, or 1 throughout (variance exploding).

    Args:
        lambdas: shape (T,), any real numbers.
        variances: sigma_t^2 >= 0, shape (T,).

    Returns:
        Two tables of shape (T + 1,), 1 and 0 at level 0.

    Raises:
        ValueError: the shapes differ or a variance is negative.
    """
    gains, noises = as_float(lambdas, "lambdas"), as_float(variances, "variances")
    if gains.ndim != 1 or gains.shape != noises.shape:
        raise ValueError(f"variances must have the shape of lambdas, {gains.shape}: {noises.shape}")
    if np.any(noises < 0):
        raise ValueError(f"variances must be at least 0, got {noises.min()}")
    variance = np.zeros(gains.size + 1)
    for t in range(1, gains.size + 1):
        variance[t] = gains[t - 1] ** 2 * variance[t - 1] + noises[t - 1]
    return np.concatenate([[1.0], np.cumprod(gains)]), variance


def gaussian_product(
    mean: ArrayLike, variance: ArrayLike, slope: ArrayLike, target: ArrayLike, noise: ArrayLike
) -> tuple[Array, Array]:
    """Mean and variance in x of N(x; mean, variance) N(target; slope x, noise).  T-4.1.3, V-eq4.

    Precision 1 / variance + slope^2 / noise, with nothing divided by the variance, so that a point
    mass (variance 0) stays where it is.

    Args:
        mean: mean of the first factor.
        variance: its variance, at least 0.
        slope: gain from x to the mean of the second factor.
        target: observed value of the second factor.
        noise: variance of the second factor, positive.

    Raises:
        ValueError: noise is not positive or variance is negative.
    """
    prior, spread = as_float(mean, "mean"), as_float(variance, "variance")
    gain, seen = as_float(slope, "slope"), as_float(target, "target")
    floor = as_float(noise, "noise")
    if np.any(floor <= 0) or np.any(spread < 0):
        raise ValueError(f"noise must be positive and variance at least 0, got {floor}, {spread}")
    total = floor + gain**2 * spread
    correction = gain * spread / total * (seen - gain * prior)
    return prior + correction, spread * floor / total
