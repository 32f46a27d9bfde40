r"""Variances for the model's reverse step p(x_s | x_t), fixed, learned and best.

The posterior variance s2 leaves out what x_t does not tell about x_0: the step that fits best has

    \sigma^2 = s2 + a^2 E (x_0 - \hat x_0)^2,

which for data of variance at most one and the best denoiser lies between s2 and beta of the jump.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from .arrays import Array, as_float, per_sample
from .chain import Chain, Levels, checked_levels
from .posterior import posterior_coefficients

Variance = Literal["posterior", "beta"]


def model_variance(chain: Chain, s: Levels, t: Levels, variance: Variance) -> Array:
    """Fixed variance of p(x_s | x_t), beta or s2.  T-2.5-var1, T-2.5-var2, T-fn25, K-64, K-65.

    The step is N(mean, sigma^2 I) with sigma^2 the same for every x_t. Also L-sigma1, T-2.5-opt,
    and for s2 G-43.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        variance: "beta", exact for unit Gaussian data, or "posterior", exact for a point mass.

    Raises:
        ValueError: variance has another name.
    """
    if variance == "beta":
        return chain.beta(s, t)
    if variance == "posterior":
        return posterior_coefficients(chain, s, t).s2
    raise ValueError(f"variance must be 'posterior' or 'beta', got {variance!r}")


def gaussian_variance(chain: Chain, s: Levels, t: Levels, data_variance: ArrayLike) -> Array:
    """Var(x_s | x_t) for Gaussian data.  T-2.5-var1, T-2.5-var2, T-2.5-opt, T-fn25, K-3.5-highvar.

    It is beta v_s / v_t with v = alpha_bar V + 1 - alpha_bar: s2 for V = 0, beta for V = 1, more
    than beta for V > 1. For other data of variance V it bounds the mean over x_t from above.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        data_variance: V, at least 0, a number or broadcast with the levels.

    Raises:
        ValueError: V is negative, a level is out of range, or s >= t.
    """
    v = _at_least_zero(data_variance, "data_variance")
    beta = chain.beta(s, t)
    low, high = (
        chain.alpha_bar[np.asarray(level)] * v + chain.one_minus_alpha_bar[np.asarray(level)]
        for level in (s, t)
    )
    return np.asarray(beta * low / high)


def optimal_variance(chain: Chain, s: Levels, t: Levels, error: ArrayLike) -> Array:
    """The constant variance that fits best, s2 + a^2 error.  T-2.5-opt, T-2.5-var2.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        error: mean of (x_0 - x0_hat)^2 per coordinate at level t, at least 0; that of the best
            denoiser is the mean of Var(x_0 | x_t).

    Raises:
        ValueError: the error is negative, a level is out of range, or s >= t.
    """
    a, _, s2 = posterior_coefficients(chain, s, t)
    return np.asarray(s2 + a**2 * _at_least_zero(error, "error"))


def optimal_share(chain: Chain, t: Levels, error: ArrayLike) -> Array:
    """The share of beta that makes `mixed_variance` the best variance.  T-fn24, T-2.5-opt.

    It is error / (1 - alpha_bar_t) for every s. With the error at one x_t in place of its mean it
    may exceed 1, out of reach of a sigmoid.

    Args:
        chain: the noising chain.
        t: noisier level, at least 1.
        error: see `optimal_variance`.

    Raises:
        ValueError: the error is negative, or t is out of range.
    """
    level = checked_levels(t, chain.steps)
    if np.any(level == 0):
        raise ValueError(f"t must be at least 1, got {t}: level 0 has no noise")
    return np.asarray(_at_least_zero(error, "error") / chain.one_minus_alpha_bar[level])


def mixed_variance(chain: Chain, s: Levels, t: Levels, share: Array) -> Array:
    """Learned variance rho beta + (1 - rho) s2, elementwise.  T-fn24.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        share: rho, shape (batch, ...), in [0, 1]; at s = 0, where s2 = 0, rho = 0 leaves nothing.

    Raises:
        ValueError: rho leaves [0, 1].
    """
    rho = as_float(share, "share")
    if np.any((rho < 0) | (rho > 1)):
        raise ValueError(f"share must lie in [0, 1], got {rho.min()}..{rho.max()}")
    beta = per_sample(chain.beta(s, t), rho)
    return rho * beta + (1 - rho) * per_sample(posterior_coefficients(chain, s, t).s2, rho)


def sigmoid_variance(chain: Chain, s: Levels, t: Levels, logits: Array) -> Array:
    """Learned variance whose share of beta is a sigmoid of the network's output.  T-fn24.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        logits: output of the last layer, any real numbers, shape (batch, ...).
    """
    return mixed_variance(chain, s, t, np.asarray(expit(as_float(logits, "logits"))))


def log_interpolated_variance(chain: Chain, s: Levels, t: Levels, fraction: Array) -> Array:
    """Learned variance beta^v s2^(1 - v), elementwise.  G-44.

    Args:
        chain: the noising chain.
        s: cleaner level, s >= 1, where s2 is positive.
        t: noisier level.
        fraction: v, shape (batch, ...); 0 gives s2, 1 gives beta, outside it extrapolates.

    Raises:
        ValueError: some s is 0, where log s2 is minus infinity; `decoder_variance` is for that.
    """
    if np.any(np.asarray(s) == 0):
        raise ValueError(f"s must be at least 1, got {s}: the posterior variance is 0 at s = 0")
    v = as_float(fraction, "fraction")
    log_beta = per_sample(np.log(chain.beta(s, t)), v)
    log_s2 = per_sample(np.log(posterior_coefficients(chain, s, t).s2), v)
    return np.exp(v * log_beta + (1 - v) * log_s2)


def decoder_variance(chain: Chain, variance: Variance = "beta") -> float:
    """Positive variance of the decoder p(x_0 | x_1), where s2 is 0.  L-sigma1.

    Args:
        chain: the noising chain.
        variance: "beta" for beta_1, exact for unit Gaussian data, or "posterior" for the smallest
            posterior variance that is not 0, that of the step from level 2 to 1.

    Raises:
        ValueError: variance has another name, or is "posterior" for a chain of one step.
    """
    if variance == "beta":
        return float(model_variance(chain, 0, 1, variance))
    if chain.steps == 1:
        raise ValueError("variance must be 'beta' for a chain of one step: there is no level 2")
    return float(model_variance(chain, 1, 2, variance))


def _at_least_zero(value: ArrayLike, name: str) -> Array:
    array = as_float(value, name)
    if np.any(array < 0):
        raise ValueError(f"{name} must be at least 0, got {array.min()}")
    return array
