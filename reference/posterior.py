r"""The law of a cleaner level given a noisier one and the clean sample.

    q(x_s | x_t, x_0) = N(a x_0 + b x_t, s2 I),  s < t, any jump:
    a = \sqrt{\bar\alpha_s} \beta / (1 - \bar\alpha_t),
    b = \sqrt{\alpha} (1 - \bar\alpha_s) / (1 - \bar\alpha_t),
    s2 = \beta (1 - \bar\alpha_s) / (1 - \bar\alpha_t),

with alpha = alpha_bar_t / alpha_bar_s and beta = 1 - alpha those of the jump.
"""

from typing import Literal, NamedTuple

import numpy as np

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels
from .double_double import root_exp

Variance = Literal["posterior", "beta"]


class Coefficients(NamedTuple):
    """Weights of x_0 and x_t in the posterior mean, and the posterior variance.  T-eq2."""

    a: Array
    b: Array
    s2: Array


def posterior_coefficients(chain: Chain, s: Levels, t: Levels) -> Coefficients:
    """Coefficients (a, b, s2) of q(x_s | x_t, x_0).  T-eq2, T-fn20, K-58..60, L-post, V-eq4, G-35.

    Exactly (1, 0, 0) at s = 0. At zero signal in x_t: b = 0 and s2 = 1 - alpha_bar_s (G-43).

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
    """Mean and variance of q(x_s | x_t, x_0).  T-eq2, K-58..60, V-eq4, L-post, G-33, G-35.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: noisier level, a number or shape (batch,).
        x0: clean samples, shape (batch, ...).
        x_t: noisy samples, same shape.

    Returns:
        The mean, shaped like x0, and the variance, shaped like the levels.
    """
    clean = as_float(x0, "x0")
    noisy = shaped_like(x_t, clean, "x_t")
    a, b, s2 = posterior_coefficients(chain, s, t)
    return per_sample(a, clean) * clean + per_sample(b, noisy) * noisy, s2


def model_variance(chain: Chain, s: Levels, t: Levels, variance: Variance) -> Array:
    """Fixed variance of p(x_s | x_t): beta of the jump or s2.  T-2.5-var1, T-2.5-var2, K-64, G-43.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        variance: "beta", exact for data of unit variance, or "posterior", exact for a point mass.

    Raises:
        ValueError: variance has another name.
    """
    if variance == "beta":
        return chain.beta(s, t)
    if variance == "posterior":
        return posterior_coefficients(chain, s, t).s2
    raise ValueError(f"variance must be 'posterior' or 'beta', got {variance!r}")


def log_interpolated_variance(chain: Chain, s: Levels, t: Levels, fraction: Array) -> Array:
    """Learned variance beta^v s2^(1 - v), elementwise.  G-44.

    Args:
        chain: the noising chain.
        s: cleaner level, s >= 1, where s2 is positive.
        t: noisier level.
        fraction: v, shape (batch, ...); 0 gives s2, 1 gives beta, outside it extrapolates.

    Raises:
        ValueError: some s is 0, where log s2 is minus infinity.
    """
    if np.any(np.asarray(s) == 0):
        raise ValueError(f"s must be at least 1, got {s}: the posterior variance is 0 at s = 0")
    v = as_float(fraction, "fraction")
    log_beta = per_sample(np.log(chain.beta(s, t)), v)
    log_s2 = per_sample(np.log(posterior_coefficients(chain, s, t).s2), v)
    return np.exp(v * log_beta + (1 - v) * log_s2)


def mixed_variance(chain: Chain, s: Levels, t: Levels, rho: Array) -> Array:
    """Learned variance rho beta + (1 - rho) s2, elementwise.  T-fn24.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        rho: share of beta, shape (batch, ...), in [0, 1].

    Raises:
        ValueError: rho leaves [0, 1].
    """
    share = as_float(rho, "rho")
    if np.any((share < 0) | (share > 1)):
        raise ValueError(f"rho must lie in [0, 1], got {share.min()}..{share.max()}")
    beta = per_sample(chain.beta(s, t), share)
    return share * beta + (1 - share) * per_sample(posterior_coefficients(chain, s, t).s2, share)
