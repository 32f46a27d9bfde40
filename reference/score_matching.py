r"""Learning the score, the gradient of the log density, from noisy data.

With x = c x_0 + \sqrt{v} \epsilon the score of the noise alone is known,

    \nabla \log q(x | x_0) = -(x - c x_0) / v = -\epsilon / \sqrt{v},

and the s that is closest to it on average over x_0 and eps is the score of q(x), the mixture over
all x_0. Losses sum over the elements of a sample.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels, checked_levels
from .mixture import Mixture
from .posterior import posterior_coefficients
from .sde import SDE


def conditional_score(x: Array, x0: Array, c: ArrayLike, noise: ArrayLike) -> Array:
    """Gradient in x of log N(x; c x_0, noise I), -(x - c x_0) / noise.  T-fn23, G-55, G-56.

    Args:
        x: noisy samples, shape (batch, ...).
        x0: clean samples, same shape.
        c: amplitude of the signal, any real number, or shape (batch,).
        noise: variance of the noise, positive, a number or shape (batch,).

    Raises:
        ValueError: the shapes differ or noise is not positive.
    """
    noisy = as_float(x, "x")
    clean = shaped_like(x0, noisy, "x0")
    gain = per_sample(as_float(c, "c"), noisy)
    return -(noisy - gain * clean) / per_sample(_positive(noise), noisy)


def denoising_loss(score: Array, x: Array, x0: Array, c: ArrayLike, noise: ArrayLike) -> Array:
    """Squared distance of a score to that of the noise.  T-fn23, G-55, G-56.

    Args:
        score: s(x), shape (batch, ...).
        x: noisy samples, same shape.
        x0: clean samples, same shape.
        c: amplitude of the signal.
        noise: variance of the noise, positive.

    Returns:
        Shape (batch,), summed over the elements of a sample.
    """
    target = conditional_score(x, x0, c, noise)
    return _squared(shaped_like(score, target, "score") - target)


def noise_loss(score: Array, eps: Array, noise: ArrayLike) -> Array:
    """The same loss by the noise, |(-sqrt(noise) s) - eps|^2 / noise.  T-fn23.

    Args:
        score: s(x), shape (batch, ...).
        eps: the standard normal numbers in x, same shape.
        noise: variance of the noise, positive.

    Returns:
        Shape (batch,), summed over the elements of a sample.
    """
    draws, variance = as_float(eps, "eps"), _positive(noise)
    guess = -per_sample(np.sqrt(variance), draws) * shaped_like(score, draws, "score")
    return _squared(guess - draws) / variance


def least_denoising_loss(data: Mixture, c: float, noise: float) -> float:
    """Least expected denoising loss, that of the score of q(x).  T-fn23, G-56, G-56-lam.

    E Var(score of the noise | x) = (c / noise)^2 E Var(x_0 | x). It is also what the loss exceeds
    the explicit one, E |s - grad log q(x)|^2, by, whatever s is.

    Args:
        data: the law of x_0.
        c: amplitude of the signal.
        noise: variance of the noise, positive.
    """
    return float((c / _positive(noise)) ** 2 * data.mmse(c, noise))


def mean_factor(chain: Chain, s: Levels, t: Levels) -> Array:
    """Factor kappa = (a d / c)^2 from the error of eps to that of the mean, squared.  T-fn23.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level, s < t.

    Raises:
        ValueError: a level is out of range, or x_t holds no signal, so that eps does not determine
            the mean.
    """
    a = posterior_coefficients(chain, s, t).a
    return np.asarray((a * chain.d[np.asarray(t)] / _amplitude(chain, t)) ** 2)


def bound_score_weight(chain: Chain, s: Levels, t: Levels) -> Array:
    """Weight of the denoising loss in the bound if sigma^2 = beta, beta / (2 alpha).  G-55-elbo.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level, s < t.

    Raises:
        ValueError: a level is out of range, or x_t holds no signal.
    """
    beta, alpha = chain.beta(s, t), chain.alpha(s, t)
    _amplitude(chain, t)
    return np.asarray(beta / (2 * alpha))


def score_loss(chain: Chain, t: Levels, x0: Array, x_t: Array, score: Array) -> Array:
    """Denoising loss of a level times 1 - alpha_bar_t, which is |eps - eps_theta|^2.  G-55.

    Args:
        chain: the noising chain.
        t: level in 1..T, a number or shape (batch,).
        x0: clean samples, shape (batch, ...).
        x_t: noisy samples, same shape.
        score: s(x_t, t), same shape.

    Returns:
        Shape (batch,), summed over the elements of a sample.
    """
    level = checked_levels(t, chain.steps)
    noise = chain.one_minus_alpha_bar[level]
    return noise * denoising_loss(score, x_t, x0, chain.c[level], noise)


def continuous_score_loss(
    sde: SDE, t: float, x0: Array, x_t: Array, score: Array, weight: float
) -> Array:
    """Denoising loss at a time, times a weight lambda(t).  G-56, G-56-lam.

    Its minimiser is the score of p_t, not that of the noise, which no function of x(t) can be.
    With the noise's variance as weight, 1 - exp(-B(t)) for the VP equation, it is
    |eps - eps_theta|^2; without it the loss is infinite at t = 0, so draw t from [t_eps, T].

    Args:
        sde: an equation whose marginals are known.
        t: time, where x(t) is noisy.
        x0: clean samples, shape (batch, ...).
        x_t: noisy samples, same shape.
        score: s(x(t), t), same shape.
        weight: lambda(t) > 0.

    Returns:
        Shape (batch,), summed over the elements of a sample.

    Raises:
        ValueError: the weight or the noise at t is not positive, or the shapes differ.
    """
    if not weight > 0:
        raise ValueError(f"weight must be positive, got {weight}")
    return weight * denoising_loss(score, x_t, x0, *sde.marginal(t))


def _amplitude(chain: Chain, t: Levels) -> Array:
    c = chain.c[checked_levels(t, chain.steps)]
    if np.any(c == 0):
        raise ValueError(f"t must be a level with signal, got {t} at zero SNR")
    return c


def _positive(noise: ArrayLike) -> Array:
    variance = as_float(noise, "noise")
    if np.any(variance <= 0):
        raise ValueError(f"noise must be positive, got {variance.min()}")
    return variance


def _squared(difference: Array) -> Array:
    """Squares summed over all axes but the first."""
    return np.asarray(np.sum(difference**2, axis=tuple(range(1, difference.ndim))))
