r"""The hybrid loss of a network that predicts the noise and the variance of each step.

    \ell + \lambda \sum_{t=1}^T \ell_t,   \ell = E_t |\epsilon - \epsilon_\theta|^2,
    \ell_t = KL(q(x_{t-1} | x_t, x_0) || N(\mu_\theta, \Sigma_\theta)) for t \ge 2,
    \ell_1 = -\log p(x_0 | x_1),

with a diagonal \Sigma_\theta = \beta_t^v s2_t^{1 - v}.  The second part trains v alone: the mean in
it counts as a constant.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .arrays import Array, as_float, shaped_like
from .chain import Chain
from .decoder import decoder_log_likelihood
from .forward import q_sample
from .gaussian import kl_diagonal
from .parameterisations import predict_mean
from .posterior import posterior_mean_variance
from .variances import log_interpolated_variance

RATE = 0.001
"""The factor lambda of the bound in the hybrid loss.  G-45."""

Term = Callable[[int], Array]
"""A loss of shape (batch,) at a level."""


class HybridGradient(NamedTuple):
    """Derivatives of a sample's loss by the predicted noise and by v, shape (batch, ...).  G-45."""

    output: Array
    fraction: Array


def bound_term(
    x0: Array,
    x_t: Array,
    chain: Chain,
    t: int,
    mean: Array,
    variance: Array,
    levels: int = 256,
) -> Array:
    """Term ell_t of the bound with a variance of its own for each element, in nats.  G-45, G-40.

    Args:
        x0: clean samples, shape (batch, ...); at t = 1 grey values on [-1, 1].
        x_t: noisy samples, same shape.
        chain: the noising chain.
        t: level of x_t, 1 <= t <= T.
        mean: the model's mean of x_{t-1}, same shape.
        variance: the model's variances, positive, same shape.
        levels: number of grey levels, for t = 1.

    Returns:
        Shape (batch,): the divergence for t >= 2, -log p(x_0 | x_1) of the decoder for t = 1.

    Raises:
        ValueError: a shape does not fit, t leaves 1..T, or a variance is not positive.
    """
    clean = as_float(x0, "x0")
    centre = shaped_like(mean, clean, "mean")
    spread = shaped_like(variance, clean, "variance")
    target, s2 = posterior_mean_variance(chain, t - 1, t, clean, x_t)
    if np.any(spread <= 0):
        raise ValueError(f"variance must be positive, got {spread.min()}")
    if t == 1:
        terms = -decoder_log_likelihood(clean, centre, np.sqrt(spread), levels)
    else:
        terms = kl_diagonal(target[..., None], s2, centre[..., None], spread[..., None])
    return np.asarray(terms.reshape(len(clean), int(np.prod(clean.shape[1:]))).sum(axis=1))


def hybrid_loss(simple: Term, term: Term, steps: int, rate: float = RATE) -> Array:
    """The loss ell + lambda sum_{t=1}^T ell_t, every level evaluated.  G-45.

    Args:
        simple: squared error of the noise at a level, shape (batch,).
        term: term ell_t of the bound at a level, shape (batch,).
        steps: number T of levels, at least 1; there is no term at t = 0.
        rate: lambda, at least 0.

    Raises:
        ValueError: steps < 1 or rate < 0.
    """
    _check(steps, rate)
    levels = range(1, steps + 1)
    bound = np.sum([term(t) for t in levels], axis=0)
    return np.asarray(np.mean([simple(t) for t in levels], axis=0) + rate * bound)


def hybrid_estimate(simple: Array, term: Array, steps: int, rate: float = RATE) -> Array:
    """Estimate of the hybrid loss from one uniform level, ell(t) + lambda T ell_t.  G-45-T.

    Without the factor T the bound would count T times too little.

    Args:
        simple: squared error of the noise at the level, shape (batch,).
        term: term ell_t of the bound at the level, shape (batch,).
        steps: number T of levels, at least 1.
        rate: lambda, at least 0.

    Raises:
        ValueError: the shapes differ, steps < 1 or rate < 0.
    """
    _check(steps, rate)
    error = as_float(simple, "simple")
    return error + rate * steps * shaped_like(term, error, "term")


def hybrid_gradient(
    x0: Array,
    noise: Array,
    chain: Chain,
    t: int,
    output: Array,
    fraction: Array,
    rate: float = RATE,
) -> HybridGradient:
    """Gradient of each sample's estimated hybrid loss at one level t >= 2.  G-45, G-45-T.

    The predicted noise gets that of the simple loss only.  With the error m of the mean,
    d KL / d v = log(beta / s2) (1 - (s2 + m^2) / variance) / 2, which ends at s2 + m^2.

    Args:
        x0: clean samples, shape (batch, ...).
        noise: standard normal numbers that make x_t, same shape.
        chain: the noising chain.
        t: level of x_t, 2 <= t <= T.
        output: the predicted noise, same shape.
        fraction: v of the learned variance, same shape.
        rate: lambda, at least 0.

    Raises:
        ValueError: a shape does not fit, t leaves 2..T, or rate < 0.
    """
    _check(chain.steps, rate)
    clean = as_float(x0, "x0")
    guess = shaped_like(output, clean, "output")
    variance = log_interpolated_variance(chain, t - 1, t, shaped_like(fraction, clean, "fraction"))
    x_t = q_sample(clean, chain.alpha_bar[t], noise, chain.one_minus_alpha_bar[t])
    target, s2 = posterior_mean_variance(chain, t - 1, t, clean, x_t)
    error = predict_mean("eps", guess, x_t, chain, t, t - 1) - target
    slope = np.log(chain.beta(t - 1, t) / s2) * (1 - (s2 + error**2) / variance) / 2
    elements = int(np.prod(clean.shape[1:]))
    return HybridGradient(2 * (guess - noise) / elements, rate * chain.steps * slope)


def _check(steps: int, rate: float) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not rate >= 0:
        raise ValueError(f"rate must be at least 0, got {rate}")
