r"""The variational bound on the negative log-likelihood of data, and its unit for images.

-\log p(x_0) \le KL(q(x_T | x_0) || p(x_T)) + \sum_{t=2}^T E KL(q(x_{t-1} | x_t, x_0) || p)
                 - E \log p(x_0 | x_1).

For images it is drawn with one noise a level; for a linear reverse chain its expectation is closed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, shaped_like
from .average_bound import check_steps, expected_log_step
from .chain import Chain
from .decoder import decoder_log_likelihood
from .forward import q_sample
from .gaussian import kl_isotropic
from .linear_reverse import LinearReverse, rows
from .objectives import level_kl, prior_kl
from .posterior import posterior_coefficients
from .variances import Variance

Denoiser = Callable[[Array, int], Array]


class BoundTerms(NamedTuple):
    """Terms of the bound in nats: prior (batch,), kls (T - 1, batch), decoder (batch,).  L-2.4."""

    prior: Array
    kls: Array
    decoder: Array

    @property
    def total(self) -> Array:
        """The sum of the terms, shape (batch,), levels 2..T all included.

        K-54..57, K-63, K-3.7-range, L-2.4, V-eq3, V-8.3, G-20, T-4.3-elbo.
        """
        return np.asarray(self.prior + self.kls.sum(axis=0) + self.decoder)


def bound_terms(
    x0: Array,
    chain: Chain,
    denoise: Denoiser,
    noise: Array,
    deviation: ArrayLike,
    levels: int = 256,
    variance: Variance = "posterior",
) -> BoundTerms:
    """One draw of every term of the bound.  K-54..57, L-2.4, L-C0, L-CT, L-Ct, V-eq3, G-20, G-21.

    Args:
        x0: grey values on [-1, 1], shape (batch, ...).
        chain: the noising chain.
        denoise: gives the predicted x0 for (x_t, t).
        noise: standard normal numbers, shape (T, batch, ...); entry t - 1 makes x_t.
        deviation: the decoder's standard deviation, positive; not the posterior's, which is 0.
        levels: number of grey levels of the data.
        variance: variance of the model's steps.

    Returns:
        The terms; kls[t - 2] belongs to the step from t to t - 1.

    Raises:
        ValueError: the noise does not fit, or a term refuses its arguments.
    """
    clean = as_float(x0, "x0")
    if np.shape(noise) != (chain.steps, *clean.shape):
        raise ValueError(f"noise must have shape {(chain.steps, *clean.shape)}: {np.shape(noise)}")

    def guess(t: int) -> Array:
        noisy = q_sample(clean, chain.alpha_bar[t], noise[t - 1], chain.one_minus_alpha_bar[t])
        return denoise(noisy, t)

    kls = [
        level_kl("x0", clean, guess(t), chain, t - 1, t, variance)
        for t in range(2, chain.steps + 1)
    ]
    likelihood = decoder_log_likelihood(clean, guess(1), deviation, levels)
    decoder = -likelihood.reshape(clean.shape[0], int(np.prod(clean.shape[1:]))).sum(axis=1)
    return BoundTerms(
        prior_kl(clean, chain), np.reshape(kls, (chain.steps - 1, clean.shape[0])), decoder
    )


def expected_terms(chain: Chain, model: LinearReverse, x0: ArrayLike) -> BoundTerms:
    """Expectation of every term over q(x_{1:T} | x_0).  L-C0, L-CT, L-Ct, L-2.4, K-54..57, V-eq3.

    No term may be dropped; the decoder alone sees the last step.  G-21-ignore.

    Args:
        chain: the noising chain.
        model: its reverse, of as many steps.
        x0: clean samples, shape (batch, ...).

    Raises:
        ValueError: the model has another number of steps.
    """
    check_steps(chain, model)
    clean = rows(x0)
    end = chain.c[-1] * clean
    prior = kl_isotropic(
        end, chain.one_minus_alpha_bar[-1], model.terminal_mean, model.terminal_variance
    )
    kls = [expected_divergence(chain, model, t, clean) for t in range(2, chain.steps + 1)]
    decoder = -expected_log_step(chain, model, 1, clean).sum(axis=1)
    return BoundTerms(prior, np.reshape(kls, (chain.steps - 1, clean.shape[0])), decoder)


def step_divergence(
    chain: Chain, model: LinearReverse, t: int, x0: ArrayLike, x_t: ArrayLike
) -> Array:
    """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), a function of x_t.  K-62, G-20c, L-Ct.

    Args:
        chain: the noising chain.
        model: its reverse.
        t: noisier level, at least 2: the posterior of level 0 is a point mass.
        x0: clean samples, shape (batch, ...).
        x_t: noisy samples, same shape.

    Returns:
        Shape (batch,).

    Raises:
        ValueError: t leaves 2..T, or the shapes differ.
    """
    if t < 2:
        raise ValueError(f"t must be at least 2, got {t}: the last step is the decoder's term")
    a, b, s2 = posterior_coefficients(chain, t - 1, t)
    clean, noisy = rows(x0), rows(shaped_like(x_t, as_float(x0, "x0"), "x_t"))
    slope, shift, variance = model.step(t)
    return kl_isotropic(a * clean + b * noisy, s2, slope * noisy + shift, variance)


def expected_divergence(chain: Chain, model: LinearReverse, t: int, x0: ArrayLike) -> Array:
    """Expectation of the divergence over q(x_t | x_0), shape (batch,).  L-Ct, K-62, G-20c, G-21.

    It exceeds the divergence at the mean of x_t by what the difference of the means varies.

    Args:
        chain: the noising chain.
        model: its reverse.
        t: noisier level, at least 2.
        x0: clean samples, shape (batch, ...).
    """
    clean, (slope, _, variance) = rows(x0), model.step(t)
    gain = posterior_coefficients(chain, t - 1, t).b - slope
    varies = gain**2 * chain.one_minus_alpha_bar[t] / (2 * variance)
    at_the_mean = step_divergence(chain, model, t, clean, chain.c[t] * clean)
    return np.asarray(at_the_mean + clean.shape[1] * varies)


def bits_per_dimension(nats: ArrayLike, elements: int) -> Array:
    """Nats of a whole sample as bits of one of its elements.  L-2.4.

    Args:
        nats: shape (batch,) or a number.
        elements: number of elements of a sample, at least 1.

    Raises:
        ValueError: elements < 1.
    """
    if elements < 1:
        raise ValueError(f"elements must be at least 1, got {elements}")
    return np.asarray(as_float(nats, "nats") / (elements * np.log(2.0)))
