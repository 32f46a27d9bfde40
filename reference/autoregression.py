r"""Gaussian processes of first order, x_t = \lambda_t x_{t-1} + \sigma_t \epsilon_t.

Nothing here asks for a preserved variance, \sigma_t^2 = 1 - \lambda_t^2; lambda may be any real
number, 1 throughout (variance exploding) too.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, per_sample, shaped_like


def ar1_law(x: ArrayLike, gain: ArrayLike, variance: ArrayLike) -> tuple[Array, Array]:
    """Mean and variance of q(x_t | x_{t-1}), a first-order autoregression.  T-2.1-ar1.

    Args:
        x: samples at level t - 1, shape (batch, ...).
        gain: lambda_t, any real, a number or shape (batch,).
        variance: sigma_t^2 >= 0, a number or shape (batch,).

    Returns:
        The mean lambda_t x, shaped like x, and the variance.

    Raises:
        ValueError: the variance is negative.
    """
    samples, spread = as_float(x, "x"), _at_least_zero(variance, "variance")
    return per_sample(as_float(gain, "gain"), samples) * samples, spread


def ar1_sample(x: ArrayLike, gain: ArrayLike, variance: ArrayLike, noise: ArrayLike) -> Array:
    """Sample of q(x_t | x_{t-1}), lambda_t x_{t-1} + sigma_t eps_t.  T-2.1-ar1.

    Args:
        x: samples at level t - 1, shape (batch, ...).
        gain: lambda_t, any real, a number or shape (batch,).
        variance: sigma_t^2 >= 0, a number or shape (batch,).
        noise: standard normal numbers, shaped like x, independent of x.

    Raises:
        ValueError: the variance is negative or the shapes differ.
    """
    return with_noise(*ar1_law(x, gain, variance), noise)


def with_noise(mean: Array, variance: ArrayLike, noise: ArrayLike) -> Array:
    """Sample of N(mean, variance I) from standard normal noise, mean + sigma eps.  T-2.1-ar1, K-6.

    Args:
        mean: shape (batch, ...).
        variance: at least 0, a number or shape (batch,).
        noise: standard normal numbers, shaped like the mean and independent of it.

    Raises:
        ValueError: the shapes differ.
    """
    centre = as_float(mean, "mean")
    draws = shaped_like(noise, centre, "noise")
    return centre + per_sample(np.sqrt(as_float(variance, "variance")), draws) * draws


def ar1_variance(variance: ArrayLike, gain: ArrayLike, noise: ArrayLike) -> Array:
    """Variance of x_t from that of x_{t-1}, lambda^2 Var + sigma^2.  T-fn9, T-4.1.1, V-8.1.

    It stays one where it is one and sigma^2 = 1 - lambda^2.

    Args:
        variance: variance of x_{t-1}, at least 0.
        gain: lambda_t, any real.
        noise: sigma_t^2 >= 0.

    Raises:
        ValueError: a variance is negative.
    """
    before, added = _at_least_zero(variance, "variance"), _at_least_zero(noise, "noise")
    return np.asarray(as_float(gain, "gain") ** 2 * before + added)


def mean_square_step(variance: ArrayLike, gain: ArrayLike, noise: ArrayLike) -> Array:
    """E (x_t - x_{t-1})^2 of a centred chain, (1 - lambda)^2 Var + sigma^2.  T-2.1-cond3.

    For data and steps of preserved unit variance it is 2 (1 - lambda): a step whose lambda is near
    one is near the identity.

    Args:
        variance: variance of x_{t-1}, at least 0.
        gain: lambda_t, any real.
        noise: sigma_t^2 >= 0.

    Raises:
        ValueError: a variance is negative.
    """
    return ar1_variance(variance, 1 - as_float(gain, "gain"), noise)


def telescope(lambdas: ArrayLike, variances: ArrayLike) -> tuple[Array, Array]:
    """Gain and variance of x_t given x_0 at every level, by recursion.  T-4.1.2, T-fn10, T-3-VE.

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
    gains, noises = _checked_steps(lambdas, variances)
    variance = np.zeros(gains.size + 1)
    for t in range(1, gains.size + 1):
        variance[t] = ar1_variance(variance[t - 1], gains[t - 1], noises[t - 1])
    return np.concatenate([[1.0], np.cumprod(gains)]), variance


def unroll(lambdas: ArrayLike, variances: ArrayLike) -> Array:
    """Weights of x_0, eps_1, ..., eps_T in x_T, the recursion written out.  T-4.1.2.

    The weight of eps_s is sigma_s times every lambda after s.

    Args:
        lambdas: shape (T,), any real numbers.
        variances: sigma_t^2 >= 0, shape (T,).

    Returns:
        Shape (T + 1,), the weight of x_0 first.

    Raises:
        ValueError: the shapes differ or a variance is negative.
    """
    gains, noises = _checked_steps(lambdas, variances)
    later = np.concatenate([np.cumprod(gains[::-1])[::-1], [1.0]])
    return np.asarray(later * np.concatenate([[1.0], np.sqrt(noises)]))


def _checked_steps(lambdas: ArrayLike, variances: ArrayLike) -> tuple[Array, Array]:
    gains, noises = as_float(lambdas, "lambdas"), _at_least_zero(variances, "variances")
    if gains.ndim != 1 or gains.shape != noises.shape:
        raise ValueError(f"variances must have the shape of lambdas, {gains.shape}: {noises.shape}")
    return gains, noises


def _at_least_zero(value: ArrayLike, name: str) -> Array:
    array = as_float(value, name)
    if np.any(array < 0):
        raise ValueError(f"{name} must be at least 0, got {array.min()}")
    return array
