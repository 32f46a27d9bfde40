r"""Densities of whole paths x_0, ..., x_T, which both chains split into densities of steps.

    q(x_{1:T} | x_0) = \prod_{t=1}^T q(x_t | x_{t-1}),
    p(x_{0:T}) = p(x_T) \prod_{t=1}^T p(x_{t-1} | x_t).

A path has shape (T + 1, batch, ...) and is indexed by the level first. Log densities are in nats
and sum over the coordinates of a sample. Either way a level depends on its neighbours alone.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, shaped_like
from .chain import Chain
from .forward import forward_step
from .gaussian import log_density


def forward_log_density(chain: Chain, path: ArrayLike) -> Array:
    """Log q(x_{1:T} | x_0) of a path, a sum over steps.  K-1..4, L-2.1, V-2, G-1, G-5, G-9, T-fn6.

    Args:
        chain: the noising chain.
        path: samples at levels 0..T, shape (T + 1, batch, ...).

    Returns:
        Shape (batch,), in nats.

    Raises:
        ValueError: the path does not have T + 1 levels.
    """
    levels = _checked_path(path)
    if levels.shape[0] != chain.steps + 1:
        raise ValueError(f"path must have {chain.steps + 1} levels, got {levels.shape[0]}")
    means, variances = forward_step(levels[:-1], chain.betas)
    return np.asarray(_step_densities(levels[1:], means, variances).sum(axis=0))


def reverse_log_density(
    path: ArrayLike,
    means: ArrayLike,
    variances: ArrayLike,
    terminal_mean: ArrayLike = 0.0,
    terminal_variance: float = 1.0,
) -> Array:
    """Log p(x_{0:T}) of a path.  T-fn6, K-16..19, L-2.1, V-3-joint, G-6..8, G-10, G-11.

    Each step is Gaussian; its mean and variance may be any functions of the noisier level.

    Args:
        path: samples at levels 0..T, shape (T + 1, batch, ...).
        means: mean of each step on this path, shape (T, batch, ...); entry t - 1 is that of
            p(x_{t-1} | x_t), a function of path[t].
        variances: positive variances of the steps, entry t - 1 that of p(x_{t-1} | x_t); the shape
            is a leading part of that of means: a number, (T,), (T, batch) or all of it.
        terminal_mean: mean of p(x_T), shaped like one level or a number.
        terminal_variance: variance of p(x_T), positive, a number.

    Returns:
        Shape (batch,), in nats.

    Raises:
        ValueError: the shapes do not fit, or a variance is not positive.
    """
    levels = _checked_path(path)
    steps = _step_densities(levels[:-1], shaped_like(means, levels[:-1], "means"), variances)
    if not 0 < terminal_variance < np.inf:
        raise ValueError(f"terminal_variance must be positive, got {terminal_variance}")
    end = np.broadcast_to(as_float(terminal_mean, "terminal_mean"), levels[-1:].shape)
    start = _step_densities(levels[-1:], end, [terminal_variance])
    return np.asarray(start[0] + steps.sum(axis=0))


def level_precision(chain: Chain, data_variance: float) -> Array:
    """Inverse covariance of x_0, ..., x_T for Gaussian data.  T-fn6, G-4, G-9.

    It is tridiagonal: given its neighbours a level is independent of all others, so the chain is
    Markov in both directions.

    Args:
        chain: the noising chain.
        data_variance: variance of the data, positive.

    Returns:
        Shape (T + 1, T + 1).

    Raises:
        ValueError: data_variance is not positive.
    """
    if not 0 < data_variance < np.inf:
        raise ValueError(f"data_variance must be positive and finite, got {data_variance}")
    kept, drawn = chain.lambdas, 1 / chain.betas
    own = np.concatenate([[1 / data_variance], drawn]) + np.append(kept**2 * drawn, 0.0)
    return np.diag(own) - np.diag(kept * drawn, 1) - np.diag(kept * drawn, -1)


def _checked_path(path: ArrayLike) -> Array:
    levels = as_float(path, "path")
    if levels.ndim < 2 or levels.shape[0] < 2:
        raise ValueError(f"path must have shape (T + 1, batch, ...), T >= 1, got {levels.shape}")
    return levels


def _step_densities(x: Array, mean: Array, variance: ArrayLike) -> Array:
    """Log N(x; mean, variance) of each step and sample, shape (steps, batch)."""
    spread = as_float(variance, "variances")
    if spread.shape != x.shape[: spread.ndim]:
        raise ValueError(f"variances must lead the shape {x.shape}, got {spread.shape}")
    if np.any(spread <= 0):
        raise ValueError(f"variances must be positive, got {spread.min()}")
    wide = np.broadcast_to(spread.reshape(spread.shape + (1,) * (x.ndim - spread.ndim)), x.shape)
    elements = log_density(x[..., None], mean[..., None], wide)
    return np.asarray(elements.sum(axis=tuple(range(2, x.ndim))))
