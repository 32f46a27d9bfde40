r"""The law of a cleaner level given a noisier one and the clean sample.

    q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0) = N(a x_0 + b x_t, s2 I),
    a = \sqrt{\bar\alpha_s} \beta / (1 - \bar\alpha_t),
    b = \sqrt{\alpha} (1 - \bar\alpha_s) / (1 - \bar\alpha_t),
    s2 = \beta (1 - \bar\alpha_s) / (1 - \bar\alpha_t),

for any jump s < t, with alpha = alpha_bar_t / alpha_bar_s and beta = 1 - alpha those of the jump.
The law of the data does not enter, so the covariance is a multiple of the identity for all data.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels
from .double_double import root_exp


class Coefficients(NamedTuple):
    """Weights of x_0 and x_t in the posterior mean, and the posterior variance.  T-eq2."""

    a: Array
    b: Array
    s2: Array


def posterior_coefficients(chain: Chain, s: Levels, t: Levels) -> Coefficients:
    """Coefficients (a, b, s2) of q(x_s | x_t, x_0).  T-eq2, T-fn20, K-58..60, K-67, L-post.

    Also V-eq4, V-8.4, G-32, G-35, G-43. Exactly (1, 0, 0) at s = 0. At zero signal in x_t they are
    (sqrt(alpha_bar_s), 0, 1 - alpha_bar_s).

    Args:
        chain: the noising chain.
        s: cleaner level, 0 <= s < t; an integer or integers.
        t: noisier level, t <= T; broadcast with s.

    Raises:
        ValueError: a level is out of range or s >= t.
    """
    beta, noise_s, noise_t = chain.step_noise(s, t), chain.noise(s), chain.noise(t)
    a = chain.amplitude(s) * beta / noise_t
    b = root_exp(chain.log_signal_ratio(s, t)) * noise_s / noise_t
    s2 = beta * noise_s / noise_t
    return Coefficients(a.high, b.high, s2.high)


def posterior_mean_variance(
    chain: Chain, s: Levels, t: Levels, x0: Array, x_t: Array
) -> tuple[Array, Array]:
    """Mean and variance of q(x_s | x_t, x_0).  T-eq2, T-4.1.3-x, K-58..60, K-67, V-eq4, V-8.4.

    Also L-post, G-32, G-34, G-35.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: noisier level, a number or shape (batch,).
        x0: clean samples, shape (batch, ...).
        x_t: noisy samples, same shape.

    Returns:
        The mean, shaped like x0, and the variance, shaped like the levels.

    Raises:
        ValueError: a level is out of range, s >= t, or the shapes do not fit.
    """
    clean = as_float(x0, "x0")
    noisy = shaped_like(x_t, clean, "x_t")
    a, b, s2 = posterior_coefficients(chain, s, t)
    return per_sample(a, clean) * clean + per_sample(b, noisy) * noisy, s2


def posterior_log_density(
    chain: Chain, s: Levels, t: Levels, x0: Array, x_t: Array, x_s: Array
) -> Array:
    """Log q(x_s | x_t, x_0) of each element, in nats.  L-2.2, G-18, G-19, G-33.

    By the rule of Bayes it is log q(x_t | x_s) + log q(x_s | x_0) - log q(x_t | x_0), where the
    first law needs no x_0, because the chain is Markov.

    Args:
        chain: the noising chain.
        s: cleaner level, s >= 1, a number or shape (batch,).
        t: noisier level, a number or shape (batch,).
        x0: clean samples, shape (batch, ...).
        x_t: noisy samples, same shape.
        x_s: samples at the cleaner level, same shape.

    Returns:
        Shaped like x0; the sum over the elements of a sample is the log density of the sample.

    Raises:
        ValueError: s = 0, where the law is a point mass, or as `posterior_mean_variance`.
    """
    if np.any(np.asarray(s) == 0):
        raise ValueError(f"s must be at least 1, got {s}: x_0 given itself is a point mass")
    mean, s2 = posterior_mean_variance(chain, s, t, x0, x_t)
    spread = per_sample(s2, mean)
    square = (shaped_like(x_s, mean, "x_s") - mean) ** 2
    return -(square / spread + np.log(2 * np.pi * spread)) / 2


def gaussian_product(
    mean: ArrayLike, variance: ArrayLike, slope: ArrayLike, target: ArrayLike, noise: ArrayLike
) -> tuple[Array, Array]:
    """Mean and variance in x of N(x; mean, variance) N(target; slope x, noise).  T-4.1.3.

    The posterior is the case mean = sqrt(alpha_bar_s) x_0, variance = 1 - alpha_bar_s,
    slope = sqrt(alpha), target = x_t, noise = beta, in x = x_s. Its precision is
    1 / variance + slope^2 / noise, written so that nothing is divided by the variance and a point
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
