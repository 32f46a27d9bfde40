r"""Diffusion towards a Gaussian fitted to the data, N(\mu, \Sigma), instead of N(0, I).

    z_0 = x_0 - \mu,   z_t = \sqrt{\bar\alpha_t} z_0 + \sqrt{1 - \bar\alpha_t} \epsilon,
    \epsilon ~ N(0, \Sigma),   loss = |\epsilon - \hat\epsilon|^2 in the metric of \Sigma^{-1}.

Everything is the usual chain seen through \Sigma = L L^T: L^{-1} z_t diffuses towards N(0, I).
Samples have shape (batch, d); functions take standard normal numbers and colour them themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from .arrays import Array, as_float, shaped_like
from .chain import Chain, Levels, checked_levels
from .forward import forward_step, q_sample
from .gaussian_algebra import cholesky_factor
from .posterior import posterior_mean_variance
from .sampling import Denoiser, ancestral_sample, ancestral_step
from .variances import Variance


@dataclass(frozen=True)
class Prior:
    """The Gaussian N(mean, covariance) that the noise ends in.  G-49, G-50.

    Args:
        mean: shape (d,).
        covariance: symmetric positive definite, shape (d, d); raise vanishing variances first.

    Raises:
        ValueError: the covariance is not symmetric positive definite, or the shapes do not fit.
    """

    mean: Array
    covariance: Array

    def __post_init__(self) -> None:
        centre, d = as_float(self.mean, "mean"), cholesky_factor(self.covariance, "covariance")
        if centre.shape != d.shape[:1]:
            raise ValueError(f"mean must have shape {d.shape[:1]}, got {centre.shape}")

    @cached_property
    def factor(self) -> Array:
        """Lower triangular L with L L^T the covariance.  G-50."""
        return cholesky_factor(self.covariance, "covariance")

    def coloured(self, noise: Array) -> Array:
        """Noise of this covariance from standard normal numbers.  G-49, G-49-sample.

        Args:
            noise: standard normal numbers, shape (..., d).
        """
        return as_float(noise, "noise") @ self.factor.T

    def whitened(self, z: Array) -> Array:
        """The inverse of `coloured`, L^{-1} z.  G-50.

        Args:
            z: samples less the mean, or noise, shape (batch, d).
        """
        return np.asarray(solve_triangular(self.factor, as_float(z, "z").T, lower=True).T)


def prior_q_sample(chain: Chain, t: Levels, x0: Array, noise: Array, prior: Prior) -> Array:
    """Centred sample z_t given x_0; x_t of the uncentred chain is z_t + mean.  G-49, G-51.

    Args:
        chain: the noising chain.
        t: level in 0..T, a number or shape (batch,).
        x0: clean samples, shape (batch, d).
        noise: standard normal numbers, same shape.
        prior: where the noise ends.

    Raises:
        ValueError: a level is out of range or the shapes differ.
    """
    level, centred = checked_levels(t, chain.steps), as_float(x0, "x0") - prior.mean
    return q_sample(
        centred, chain.alpha_bar[level], prior.coloured(noise), chain.one_minus_alpha_bar[level]
    )


def uncentred_step(x: Array, beta: ArrayLike, prior: Prior) -> tuple[Array, Array]:
    """Mean and covariance of one step of x_t, mean + sqrt(1 - beta) (x_{t-1} - mean).  G-49.

    The chain that keeps the mean; it tends to N(mean, covariance), and x_t - mean is z_t.

    Args:
        x: samples at level t - 1, shape (batch, d).
        beta: noise of the step in (0, 1], a number or shape (batch,).
        prior: where the noise ends.

    Returns:
        The mean, shape (batch, d), and the covariance, shaped like beta and then (d, d).

    Raises:
        ValueError: beta leaves (0, 1].
    """
    mean, variance = forward_step(as_float(x, "x") - prior.mean, beta)
    return prior.mean + mean, variance[..., None, None] * prior.covariance


def prior_posterior(
    chain: Chain, s: Levels, t: Levels, z0: Array, z_t: Array, prior: Prior
) -> tuple[Array, Array]:
    """Mean a z_0 + b z_t and covariance s2 Sigma of q(z_s | z_t, z_0).  G-49.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: noisier level, s < t.
        z0: clean samples less the mean, shape (batch, d).
        z_t: noisy samples, same shape.
        prior: where the noise ends.

    Returns:
        The mean, shape (batch, d), and the covariance, shaped like the levels and then (d, d).
    """
    mean, s2 = posterior_mean_variance(chain, s, t, z0, z_t)
    return mean, s2[..., None, None] * prior.covariance


def prior_step(
    chain: Chain,
    s: Levels,
    t: Levels,
    z_t: Array,
    z0_hat: Array,
    noise: Array,
    prior: Prior,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> Array:
    """Ancestral step whose noise has the prior's covariance too.  G-49-sample.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: level of z_t, s < t.
        z_t: noisy samples less the mean, shape (batch, d).
        z0_hat: the denoiser's estimate, same shape.
        noise: standard normal numbers, same shape.
        prior: where the noise ends.
        variance: "posterior" or "beta".
        noise_at_end: see `ancestral_step`.
    """
    coloured = prior.coloured(noise)
    return ancestral_step(chain, s, t, z_t, z0_hat, coloured, variance, noise_at_end)


def prior_sample(
    chain: Chain,
    denoiser: Denoiser,
    levels: Sequence[int],
    noise: Array,
    prior: Prior,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> Array:
    """Samples of x_0: from N(0, Sigma) down all levels, the mean added at the end.  G-49-sample.

    Args:
        chain: the noising chain.
        denoiser: estimate of z_0 = x_0 - mean from (z_t, t).
        levels: levels to visit, as in `sampling.descend`.
        noise: standard normal numbers, as in `sampling.descend`, shape (len(levels), batch, d).
        prior: where the noise ends.
        variance: "posterior" or "beta".
        noise_at_end: see `ancestral_step`.

    Raises:
        ValueError: the levels or the noise do not fit, or the variance has another name.
    """
    coloured = prior.coloured(noise)
    z = ancestral_sample(chain, denoiser, levels, coloured, variance, noise_at_end)
    return z + prior.mean


def mahalanobis_loss(eps: Array, output: Array, prior: Prior) -> Array:
    """Squared error of each sample in the metric of Sigma^{-1}, summed.  G-50.

    It is the plain squared error of the whitened noise; the bound weighs it as it does that one.

    Args:
        eps: noise of covariance Sigma, shape (batch, d).
        output: the network's estimate of it, same shape.
        prior: where the noise ends.

    Returns:
        Shape (batch,).

    Raises:
        ValueError: the shapes differ.
    """
    drawn = as_float(eps, "eps")
    difference = shaped_like(output, drawn, "output") - drawn
    return np.asarray(np.sum(prior.whitened(difference) ** 2, axis=-1))
