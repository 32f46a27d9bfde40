r"""Kullback-Leibler divergence of two Gaussians, from the simplest case to the full one.

    KL(N(m_1, S_1) || N(m_2, S_2)) = 1/2 [\log(|S_2| / |S_1|) - d + tr(S_2^{-1} S_1)
                                      + (m_1 - m_2)^T S_2^{-1} (m_1 - m_2)].

All values are in nats and sum over the last axis, the coordinates.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from .arrays import Array, as_float


def kl_equal_variance(mean_q: ArrayLike, mean_p: ArrayLike, variance: ArrayLike) -> Array:
    """KL of two Gaussians with one covariance, variance I.  L-2.5, V-eq5, G-39b, K-66.

    Args:
        mean_q: shape (..., d).
        mean_p: shape (..., d).
        variance: common variance, positive, shape (...).

    Raises:
        ValueError: the variance is not positive.
    """
    difference = as_float(mean_q, "mean_q") - as_float(mean_p, "mean_p")
    return np.asarray(np.sum(difference**2, axis=-1) / (2 * _positive(variance, "variance")))


def kl_isotropic(
    mean_q: ArrayLike, variance_q: ArrayLike, mean_p: ArrayLike, variance_p: ArrayLike
) -> Array:
    """KL(N(mean_q, variance_q I) || N(mean_p, variance_p I)).  K-66, L-A, G-39, V-8.5.

    Args:
        mean_q: shape (..., d).
        variance_q: positive, shape (...).
        mean_p: shape (..., d).
        variance_p: positive, shape (...).

    Raises:
        ValueError: a variance is not positive.
    """
    q, p = _positive(variance_q, "variance_q"), _positive(variance_p, "variance_p")
    d = np.broadcast_shapes(np.shape(mean_q), np.shape(mean_p))[-1]
    return np.asarray(kl_equal_variance(mean_q, mean_p, p) + d * spread_divergence(q / p))


def kl_diagonal(
    mean_q: ArrayLike, variance_q: ArrayLike, mean_p: ArrayLike, variance_p: ArrayLike
) -> Array:
    """KL of Gaussians with independent coordinates.  L-1.3, L-A, G-39, G-40.

    Args:
        mean_q: shape (..., d).
        variance_q: positive, shape (..., d).
        mean_p: shape (..., d).
        variance_p: positive, shape (..., d).

    Raises:
        ValueError: a variance is not positive.
    """
    q, p = _positive(variance_q, "variance_q"), _positive(variance_p, "variance_p")
    difference = as_float(mean_q, "mean_q") - as_float(mean_p, "mean_p")
    return np.asarray(np.sum(difference**2 / (2 * p) + spread_divergence(q / p), axis=-1))


def kl_full(mean_q: Array, covariance_q: Array, mean_p: Array, covariance_p: Array) -> float:
    """KL of Gaussians with any covariance, by Cholesky factors.  L-A, G-39, G-50.

    Args:
        mean_q: shape (d,).
        covariance_q: symmetric positive definite, shape (d, d).
        mean_p: shape (d,).
        covariance_p: symmetric positive definite, shape (d, d).

    Raises:
        ValueError: a covariance is not symmetric positive definite.
    """
    factor_q = _cholesky(covariance_q, "covariance_q")
    factor_p = _cholesky(covariance_p, "covariance_p")
    log_ratio = 2 * (np.log(np.diag(factor_p)) - np.log(np.diag(factor_q))).sum()
    difference = as_float(mean_q, "mean_q") - as_float(mean_p, "mean_p")
    solve = cho_factor(as_float(covariance_p, "covariance_p"), lower=True)
    trace = np.trace(cho_solve(solve, as_float(covariance_q, "covariance_q")))
    distance = difference @ cho_solve(solve, difference)
    return float((log_ratio - difference.size + trace + distance) / 2)


def spread_divergence(ratio: ArrayLike) -> Array:
    """KL of N(0, ratio) to N(0, 1), (ratio - 1 - log ratio) / 2.  K-66, L-1.3.

    Args:
        ratio: quotient of variances, positive, any shape.

    Raises:
        ValueError: the ratio is not positive.
    """
    r = _positive(ratio, "ratio")
    return np.asarray((r - 1 - np.log(r)) / 2)


def _positive(value: ArrayLike, name: str) -> Array:
    array = as_float(value, name)
    if np.any(array <= 0):
        raise ValueError(f"{name} must be positive, got {array.min()}")
    return array


def _cholesky(covariance: Array, name: str) -> Array:
    matrix = as_float(covariance, name)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    if not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0):
        raise ValueError(f"{name} must be symmetric, got {matrix}")
    try:
        return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"{name} must be positive definite, got {matrix}") from error
