r"""One step of a sampler, from level t to any cleaner level s.

    ancestral:  x_s = a \hat x_0 + b x_t + \sigma z,  \sigma^2 = s2 or \beta,
    DDIM:       x_s = c_s \hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2} \hat\epsilon + \sigma z,
                \sigma^2 = \eta^2 s2,

with beta and s2 those of the jump, so that eta = 1 is ancestral sampling on every subsequence.
"""

import numpy as np

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels
from .parameterisations import predict_eps
from .posterior import (
    Variance,
    model_variance,
    posterior_coefficients,
    posterior_mean_variance,
)


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
    """Draw x_s from the model's Gaussian.  V-6, V-alg2, K-80, K-81, G-42, G-Alg2, T-2.5-x0.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: level of x_t, s < t.
        x_t: noisy samples, shape (batch, ...).
        x0_hat: the denoiser's estimate, same shape.
        noise: standard normal numbers, same shape.
        variance: "posterior" or "beta".
        noise_at_end: add the noise of "beta" at s = 0 too, which unit Gaussian data need and other
            data do not want (V-alg2, G-Alg2-last); "posterior" has none there.

    Raises:
        ValueError: a level is out of range, or the variance has another name.
    """
    mean, _ = posterior_mean_variance(chain, s, t, x0_hat, x_t)
    spread = model_variance(chain, s, t, variance)
    if not noise_at_end:
        spread = np.where(np.asarray(s) == 0, 0.0, spread)
    return mean + per_sample(np.sqrt(spread), mean) * shaped_like(noise, mean, "noise")


def ddim_variance(chain: Chain, s: Levels, t: Levels, eta: float) -> Array:
    """Noise variance eta^2 s2 of a DDIM step on a subsequence.  L-tau, L-2.14, L-tau-etamax.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level.
        eta: at least 0; 0 is deterministic, 1 ancestral; at most sqrt((1 - alpha_bar_t) / beta).

    Raises:
        ValueError: eta is negative, or so large that 1 - alpha_bar_s - sigma^2 < 0 (L-2.13).
    """
    if not eta >= 0:
        raise ValueError(f"eta must be at least 0, got {eta}")
    sigma2 = eta**2 * posterior_coefficients(chain, s, t).s2
    room = chain.one_minus_alpha_bar[np.asarray(s)]
    if np.any(sigma2 > room * (1 + 1e-12)):
        raise ValueError(f"eta = {eta} asks for more noise than level s = {s} holds")
    return np.asarray(np.minimum(sigma2, room))


def ddim_step(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    noise: Array,
    eta: float = 0.0,
) -> Array:
    """Draw x_s from the non-Markovian family.  L-2.13, L-Lemma2.1, L-DDIM-det, L-DDIM-mean, L-tau.

    The noise in x_t is recomputed from x0_hat, so a clipped estimate stays consistent.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: level of x_t, s < t.
        x_t: noisy samples, shape (batch, ...).
        x0_hat: the denoiser's estimate, same shape.
        noise: standard normal numbers, same shape; unused where eta = 0.
        eta: see `ddim_variance`.

    Raises:
        ValueError: a level is out of range or eta too large.
    """
    clean, sigma2 = as_float(x0_hat, "x0_hat"), ddim_variance(chain, s, t, eta)
    eps = predict_eps("x0", clean, x_t, chain, t)
    level = np.asarray(s)
    direction = np.sqrt(chain.one_minus_alpha_bar[level] - sigma2)
    mean = per_sample(chain.c[level], clean) * clean + per_sample(direction, eps) * eps
    return mean + per_sample(np.sqrt(sigma2), mean) * shaped_like(noise, mean, "noise")
