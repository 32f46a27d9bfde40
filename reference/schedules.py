r"""Schedules of noise: the betas of linear, cosine and log-SNR schedules, and custom ones.

Each function returns the chain of one schedule for any number of steps T >= 1. The betas are
written so that no digits cancel, since every coefficient is later taken from them as they are.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .chain import Chain


def linear_schedule(steps: int, first: float = 1e-4, last: float = 0.02) -> Chain:
    """Betas in arithmetic progression.  T-2.6-linear, V-5.2, G-3, G-3.3, K-2.1.

    Args:
        steps: T >= 1; a single step has beta `first`.
        first: beta_1 in (0, 1).
        last: beta_T in (0, 1].

    Raises:
        TypeError: steps is not an integer.
        ValueError: steps < 1 or an end leaves its range.
    """
    _check_steps(steps)
    if not 0 < first < 1 or not 0 < last <= 1:
        raise ValueError(f"first, last must lie in (0, 1), (0, 1], got {first}, {last}")
    return Chain(np.linspace(first, last, steps))


def cosine_schedule(steps: int, offset: float = 0.008, clip: float = 0.999) -> Chain:
    r"""Signal power proportional to cos^2, betas clipped.  T-2.6-cosine, G-3, G-3.3, G-46..48.

    With phi_t = (1 - t/T) / (1 + offset) pi/2, alpha_bar_t = sin^2 phi_t / sin^2 phi_0 before
    clipping and beta_t = sin(phi_{t-1} - phi_t) sin(phi_{t-1} + phi_t) / sin^2 phi_{t-1}, where
    1 - alpha_bar_t / alpha_bar_{t-1} would cancel. alpha_bar is that of the clipped betas.

    Args:
        steps: T >= 1.
        offset: small shift s >= 0 that keeps the first betas away from zero.
        clip: largest beta, in (0, 1]; 1 leaves beta_T = 1, zero terminal SNR.

    Raises:
        TypeError: steps is not an integer.
        ValueError: steps < 1, offset < 0 or infinite, or clip outside (0, 1].
    """
    _check_steps(steps)
    if not 0 <= offset < np.inf:
        raise ValueError(f"offset must be finite and at least 0, got {offset}")
    if not 0 < clip <= 1:
        raise ValueError(f"clip must lie in (0, 1], got {clip}")
    angle = np.pi / 2 / (1 + offset) / steps
    t = np.arange(1, steps + 1)
    before = np.sin((steps + 1 - t) * angle)
    # The two sums of angles add up to pi; the sine of the smaller one keeps its digits.
    total = np.minimum(2 * (steps - t) + 1, 2 * (t + offset * steps) - 1) * angle
    betas = np.sin(angle) / before * (np.sin(total) / before)
    return Chain(np.minimum(betas, clip))


def log_snr_schedule(log_snrs: ArrayLike) -> Chain:
    """Chain through given log signal-to-noise ratios at levels 1..T.  T-2.6-logsnr, T-2.6-inv.

    beta_1 = sigmoid(-g_1), beta_t = (1 - exp(g_t - g_{t-1})) sigmoid(-g_t).

    Args:
        log_snrs: shape (T,), strictly decreasing; only the last may be minus infinity.

    Raises:
        ValueError: log_snrs is empty, not one-dimensional or not strictly decreasing.
    """
    g = np.asarray(log_snrs, dtype=np.float64)
    if g.ndim != 1 or g.size == 0 or not np.all(g < np.inf):
        raise ValueError(f"log_snrs must be numbers of shape (T,) with T >= 1, got {g}")
    if not np.all(g[1:] < g[:-1]):
        raise ValueError("log_snrs must decrease strictly")
    drop = np.concatenate([[1.0], -np.expm1(np.diff(g))])
    return Chain(drop * _sigmoid(-g))


def linear_log_snr_schedule(steps: int, first: float = 9.2, last: float = -10.1) -> Chain:
    """Log signal-to-noise ratio in arithmetic progression.  T-2.6-logsnr.

    Args:
        steps: T >= 1; a single step has log SNR `last`.
        first: log SNR at level 1, greater than `last`.
        last: log SNR at level T.

    Raises:
        TypeError: steps is not an integer.
        ValueError: steps < 1, first <= last, or one of them is not finite.
    """
    _check_steps(steps)
    if not np.inf > first > last > -np.inf:
        raise ValueError(f"first must be greater than last, both finite, got {first}, {last}")
    return log_snr_schedule(np.linspace(last, first, steps)[::-1])


def alpha_bar_schedule(alpha_bars: ArrayLike) -> Chain:
    """Chain through given signal powers, beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}.  G-48.

    Args:
        alpha_bars: at levels 1..T, shape (T,), strictly decreasing from below 1; only the last may
            be 0.

    Raises:
        ValueError: alpha_bars is empty, leaves its range or does not decrease strictly.
    """
    powers = as_float(alpha_bars, "alpha_bars")
    levels = np.concatenate([[1.0], np.ravel(powers)])
    if powers.ndim != 1 or powers.size == 0 or np.any(np.diff(levels) >= 0) or levels[-1] < 0:
        raise ValueError(f"alpha_bars must decrease strictly from below 1 to at least 0: {powers}")
    return Chain(-np.diff(levels) / levels[:-1])


def lambda_schedule(lambdas: ArrayLike) -> Chain:
    """Chain of given step amplitudes, beta = 1 - lambda^2.  T-fn7, T-fn9, T-4.1.4.

    Args:
        lambdas: shape (T,), in [0, 1); only the last may be 0.

    Raises:
        ValueError: lambdas is empty or leaves its range.
    """
    values: Array = np.asarray(lambdas, dtype=np.float64)
    if not np.all((values >= 0) & (values < 1)):
        raise ValueError(f"lambdas must lie in [0, 1), got {values}")
    return Chain((1 - values) * (1 + values))


def _check_steps(steps: int) -> None:
    if not isinstance(steps, int | np.integer):
        raise TypeError(f"steps must be an integer, got {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")


def _sigmoid(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, decay) / (1 + decay))
