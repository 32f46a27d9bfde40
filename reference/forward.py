r"""Adding noise with preserved variance: one step, several steps, and all of them at once.

x_t = \sqrt{1 - \beta_t} x_{t-1} + \sqrt{\beta_t} \epsilon_t,
x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, per_sample
from .autoregression import ar1_law, with_noise
from .chain import Chain, Levels


def forward_step(x: ArrayLike, beta: ArrayLike) -> tuple[Array, Array]:
    """Mean and variance of q(x_t | x_{t-1}).  K-5..7, V-2, L-2.0, G-2, G-4, G-24.

    Args:
        x: samples at level t - 1, shape (batch, ...).
        beta: noise variance of the step in (0, 1], a number or shape (batch,).

    Returns:
        The mean sqrt(1 - beta) x, shaped like x, and the variance beta.

    Raises:
        ValueError: beta leaves (0, 1].
    """
    variance = np.asarray(beta, dtype=np.float64)
    if not np.all((variance > 0) & (variance <= 1)):
        raise ValueError(f"beta must lie in (0, 1], got {variance}")
    return ar1_law(x, np.sqrt(1 - variance), variance)


def forward_path(chain: Chain, x0: ArrayLike, noise: ArrayLike) -> Array:
    """Samples at every level, one step after another.  K-6, K-7, V-2, V-8.1, G-1, G-25..27.

    The papers write one symbol for the noise of all steps; each step needs its own draw.

    Args:
        chain: the noising chain.
        x0: clean samples, shape (batch, ...).
        noise: independent standard normal numbers, shape (T, batch, ...); entry t - 1 makes x_t.

    Returns:
        Shape (T + 1, batch, ...), indexed by the level; entry 0 is x0.

    Raises:
        ValueError: the noise does not fit.
    """
    clean, draws = as_float(x0, "x0"), as_float(noise, "noise")
    if draws.shape != (chain.steps, *clean.shape):
        raise ValueError(f"noise must have shape {(chain.steps, *clean.shape)}, got {draws.shape}")
    path = [clean]
    for beta, draw in zip(chain.betas, draws, strict=True):
        path.append(with_noise(*forward_step(path[-1], beta), draw))
    return np.stack(path)


def forward_jump(chain: Chain, s: Levels, t: Levels, x: ArrayLike) -> tuple[Array, Array]:
    """Mean and variance of q(x_t | x_s), t - s steps at once.  K-8..14, G-28, G-29.

    Args:
        chain: the noising chain.
        s: cleaner level, 0 <= s < t, a number or shape (batch,).
        t: noisier level, a number or shape (batch,).
        x: samples at level s, shape (batch, ...).

    Returns:
        The mean sqrt(alpha_bar_t / alpha_bar_s) x, shaped like x, and the variance
        1 - alpha_bar_t / alpha_bar_s.

    Raises:
        ValueError: a level is out of range or s >= t.
    """
    return ar1_law(x, np.sqrt(chain.alpha(s, t)), chain.beta(s, t))


def q_mean_variance(
    x0: ArrayLike, alpha_bar: ArrayLike, one_minus_alpha_bar: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean and variance of q(x_t | x_0).  T-eq1, T-fn10, K-14, K-15, V-eq1, L-fwd, G-30, G-31.

    Args:
        x0: clean samples, shape (batch, ...).
        alpha_bar: signal power at t in [0, 1], a number or shape (batch,).
        one_minus_alpha_bar: its complement as a chain holds it, exact where alpha_bar is so close
            to 1 that the subtraction loses digits; by default 1 - alpha_bar.

    Returns:
        The mean, shaped like x0, and the variance, shaped like alpha_bar.

    Raises:
        ValueError: alpha_bar leaves [0, 1], or the complement does not fit it.
    """
    clean, signal = as_float(x0, "x0"), as_float(alpha_bar, "alpha_bar")
    if np.any((signal < 0) | (signal > 1)):
        raise ValueError(f"alpha_bar must lie in [0, 1], got {signal}")
    noise = 1 - signal
    if one_minus_alpha_bar is not None:
        noise = as_float(one_minus_alpha_bar, "one_minus_alpha_bar")
        if np.any(np.abs(signal + noise - 1) > 1e-6):
            raise ValueError(f"one_minus_alpha_bar must be 1 - {signal}, got {noise}")
    return per_sample(np.sqrt(signal), clean) * clean, noise


def q_sample(
    x0: ArrayLike,
    alpha_bar: ArrayLike,
    noise: ArrayLike,
    one_minus_alpha_bar: ArrayLike | None = None,
) -> Array:
    """Sample of q(x_t | x_0) from standard normal noise.  T-eq1, V-eq1, K-14, K-15, L-fwd, G-30.

    Args:
        x0: clean samples, shape (batch, ...).
        alpha_bar: signal power at t in [0, 1], a number or shape (batch,).
        noise: standard normal numbers, shaped like x0.
        one_minus_alpha_bar: see `q_mean_variance`.

    Raises:
        ValueError: the shapes differ or alpha_bar leaves [0, 1].
    """
    return with_noise(*q_mean_variance(x0, alpha_bar, one_minus_alpha_bar), noise)
