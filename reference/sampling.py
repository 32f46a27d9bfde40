r"""Ancestral sampling: from level t to a cleaner level s, and from noise down to the data.

    p(x_s | x_t) = N(a \hat x_0 + b x_t, \sigma^2 I),   \sigma^2 = s2 or \beta,

with (a, b, s2) the coefficients of the posterior and beta that of the jump. For s = t - 1 and noise
predicted, the mean is (x_t - \beta_t / \sqrt{1 - \bar\alpha_t} \hat\epsilon) / \sqrt{\alpha_t}.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels
from .posterior import posterior_mean_variance
from .variances import Variance, model_variance

Denoiser = Callable[[Array, int], Array]
"""Estimate of x_0 from (x_t, t), shaped like x_t."""

Step = Callable[[int, int, Array, Array, Array], Array]
"""x_s from (s, t, x_t, the estimate of x_0, standard normal numbers)."""


def model_mean_variance(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> tuple[Array, Array]:
    """Mean and variance of the model's p(x_s | x_t).  K-80, G-42, T-2.5-x0, V-6.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: level of x_t, s < t.
        x_t: noisy samples, shape (batch, ...).
        x0_hat: the denoiser's estimate, same shape.
        variance: "posterior" or "beta".
        noise_at_end: keep the variance of "beta" at s = 0, which is 0 otherwise; unit Gaussian data
            need it and other data do not want it (G-Alg2-last).

    Returns:
        The mean, shaped like x_t, and sigma^2, the variance and not its root, shaped like the
        levels.

    Raises:
        ValueError: a level is out of range, or the variance has another name.
    """
    mean, _ = posterior_mean_variance(chain, s, t, x0_hat, x_t)
    spread = model_variance(chain, s, t, variance)
    return mean, spread if noise_at_end else np.where(np.asarray(s) == 0, 0.0, spread)


def ancestral_step(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    noise: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> Array:
    """Draw x_s, the mean plus sigma times the noise.  V-6, V-alg2, K-80, K-81, G-42, G-42-vs-54.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: level of x_t, s < t.
        x_t: noisy samples, shape (batch, ...).
        x0_hat: the denoiser's estimate, same shape.
        noise: standard normal numbers, same shape.
        variance: "posterior" or "beta".
        noise_at_end: see `model_mean_variance`; the papers differ (V-alg2, G-Alg2, G-Alg2-last).

    Raises:
        ValueError: a level is out of range, the shapes differ, or the variance has another name.
    """
    mean, spread = model_mean_variance(chain, s, t, x_t, x0_hat, variance, noise_at_end)
    return mean + per_sample(np.sqrt(spread), mean) * shaped_like(noise, mean, "noise")


def ancestral_sample(
    chain: Chain,
    denoiser: Denoiser,
    levels: Sequence[int],
    noise: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> Array:
    """Samples of the model, by ancestral steps from noise.  V-6, V-alg2, G-Alg2, G-Alg2-last.

    Args:
        chain: the noising chain.
        denoiser: the model.
        levels: levels to visit, as in `descend`.
        noise: standard normal numbers, as in `descend`.
        variance: "posterior" or "beta".
        noise_at_end: see `model_mean_variance`.

    Raises:
        ValueError: the levels or the noise do not fit, or the variance has another name.
    """
    step = partial(ancestral_step, chain, variance=variance, noise_at_end=noise_at_end)
    return descend(step, denoiser, levels, noise)


def descend(step: Step, denoiser: Denoiser, levels: Sequence[int], noise: Array) -> Array:
    """Take a sampler from the first of its levels down to level 0.  V-alg2, G-Alg2, L-tau.

    Args:
        step: one step of the sampler.
        denoiser: the model.
        levels: strictly decreasing, at least two, the last one 0.
        noise: standard normal numbers, shape (len(levels), batch, ...); the last entry is where the
            sampler starts, entry i is used in the step to the i-th level, counted from 0 upwards.

    Raises:
        ValueError: the levels do not decrease to 0, or the noise has another length.
    """
    draws, path = as_float(noise, "noise"), list(levels)
    if len(path) < 2 or path[-1] != 0 or any(s >= t for t, s in pairwise(path)):
        raise ValueError(f"levels must decrease strictly and end at 0, got {path}")
    if draws.shape[:1] != (len(path),):
        raise ValueError(f"noise must have {len(path)} entries, one a level, got {draws.shape[:1]}")
    x: Array = draws[-1]
    for i, (t, s) in enumerate(pairwise(path), start=2):
        x = step(s, t, x, denoiser(x, t), draws[-i])
    return x
