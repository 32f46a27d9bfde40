r"""Density and entropy of a Gaussian, and the Kullback-Leibler divergence of two.

    KL(N(m_1, S_1) || N(m_2, S_2)) = 1/2 [\log(|S_2| / |S_1|) - d + tr(S_2^{-1} S_1)
                                      + (m_1 - m_2)^T S_2^{-1} (m_1 - m_2)].

All values are in nats and sum over the last axis, the coordinates.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve

from .arrays import Array, as_float
from .gaussian_algebra import cholesky_factor, expected_quadratic_form


def log_density(x: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> Array:
    """Log N(x; mean, variance I), normalised by d/2 log(2 pi variance).  T-2.4-L, V-8.5.

    Args:
        x: shape (..., d).
        mean: shape (..., d).
        variance: positive, shape (...).

    Raises:
        ValueError: the variance is not positive.
    """
    spread = _positive(variance, "variance")
    difference = _difference(x, "x", mean, "mean")
    normaliser = difference.shape[-1] / 2 * np.log(2 * np.pi * spread)
    return np.asarray(-np.sum(difference**2, axis=-1) / (2 * spread) - normaliser)


def entropy(variance: ArrayLike, elements: int) -> Array:
    """Entropy of N(m, variance I) in nats, d/2 log(2 pi e variance).  T-fn19.

    Args:
        variance: positive, any shape.
        elements: number d of coordinates.

    Raises:
        ValueError: the variance is not positive.
    """
    return np.asarray(elements / 2 * (1 + np.log(2 * np.pi * _positive(variance, "variance"))))


def kl_equal_variance(mean_q: ArrayLike, mean_p: ArrayLike, variance: ArrayLike) -> Array:
    """KL of two Gaussians with one covariance, variance I.  V-eq5, L-2.5, G-39b, G-40.

    Half the squared Mahalanobis distance of the means.

    Args:
        mean_q: shape (..., d).
        mean_p: shape (..., d).
        variance: common variance, positive, shape (...).

    Raises:
        ValueError: the variance is not positive.
    """
    square = np.sum(_difference(mean_q, "mean_q", mean_p, "mean_p") ** 2, axis=-1)
    return np.asarray(square / (2 * _positive(variance, "variance")))


def kl_isotropic(
    mean_q: ArrayLike, variance_q: ArrayLike, mean_p: ArrayLike, variance_p: ArrayLike
) -> Array:
    """KL(N(mean_q, variance_q I) || N(mean_p, variance_p I)).  K-66, G-39, V-8.5, T-fn19.

    Args:
        mean_q: shape (..., d).
        variance_q: positive, shape (...).
        mean_p: shape (..., d).
        variance_p: positive, shape (...).

    Raises:
        ValueError: a variance is not positive.
    """
    q, p = _positive(variance_q, "variance_q"), _positive(variance_p, "variance_p")
    d = _difference(mean_q, "mean_q", mean_p, "mean_p").shape[-1]
    return np.asarray(kl_equal_variance(mean_q, mean_p, p) + d * spread_divergence(q / p))


def kl_diagonal(
    mean_q: ArrayLike, variance_q: ArrayLike, mean_p: ArrayLike, variance_p: ArrayLike
) -> Array:
    """KL of Gaussians with independent coordinates.  L-1.3, G-39, G-40.

    Args:
        mean_q: shape (..., d).
        variance_q: positive, shape (..., d).
        mean_p: shape (..., d).
        variance_p: positive, shape (..., d).

    Raises:
        ValueError: a variance is not positive.
    """
    q, p = _positive(variance_q, "variance_q"), _positive(variance_p, "variance_p")
    difference = _difference(mean_q, "mean_q", mean_p, "mean_p")
    return np.asarray(np.sum(difference**2 / (2 * p) + spread_divergence(q / p), axis=-1))


def kl_full(mean_q: Array, covariance_q: Array, mean_p: Array, covariance_p: Array) -> float:
    """KL of Gaussians with any covariance, by Cholesky factors.  L-A, G-39, G-50, T-4.3-KL, K-31.

    Never negative, and zero for equal laws only.

    Args:
        mean_q: shape (d,).
        covariance_q: symmetric positive definite, shape (d, d).
        mean_p: shape (d,).
        covariance_p: symmetric positive definite, shape (d, d).

    Raises:
        ValueError: a covariance is not symmetric positive definite.
    """
    factor_q = cholesky_factor(covariance_q, "covariance_q")
    factor_p = cholesky_factor(covariance_p, "covariance_p")
    log_ratio = 2 * (np.log(np.diag(factor_p)) - np.log(np.diag(factor_q))).sum()
    precision = cho_solve((factor_p, True), np.eye(len(factor_p)))
    form = expected_quadratic_form(mean_q, covariance_q, precision, mean_p)
    return float(log_ratio - len(factor_p) + form) / 2


def spread_divergence(ratio: ArrayLike) -> Array:
    """KL of N(0, ratio) to N(0, 1), (ratio - 1 - log ratio) / 2.  K-66, L-1.3.

    Args:
        ratio: quotient of variances, positive, any shape.

    Raises:
        ValueError: the ratio is not positive.
    """
    r = _positive(ratio, "ratio")
    return np.asarray((r - 1 - np.log(r)) / 2)


def _difference(x: ArrayLike, name: str, mean: ArrayLike, other: str) -> Array:
    difference = np.asarray(as_float(x, name) - as_float(mean, other))
    if difference.ndim == 0:
        raise ValueError(f"{name} must have shape (..., d), got the number {x!r}")
    return difference


def _positive(value: ArrayLike, name: str) -> Array:
    array = as_float(value, name)
    if np.any(array <= 0):
        raise ValueError(f"{name} must be positive, got {array.min()}")
    return array
