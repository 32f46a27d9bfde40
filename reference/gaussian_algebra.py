r"""Operations under which normal laws stay normal, and two numbers that follow from them.

With X = (X_1, X_2) ~ N(\mu, \Sigma) in blocks and B = [[I, -\Sigma_{12} \Sigma_{22}^{-1}], [0, I]]
the blocks of B X are independent, which gives the conditional law of X_1 given X_2.  Of
Y = A X + b + noise the law is N(A \mu + b, A \Sigma A^T + S), and Cov(X, Y) = \Sigma A^T.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_solve

from .arrays import Array, as_float, shaped_like


class Law(NamedTuple):
    """Mean (d,) and covariance (d, d) of a normal law.  L-B.1, L-B.2, K-10-text."""

    mean: Array
    covariance: Array


def independent_sum(
    mean_x: ArrayLike, covariance_x: ArrayLike, mean_y: ArrayLike, covariance_y: ArrayLike
) -> Law:
    """Law of X + Y for independent X and Y: means and covariances add.  K-10-text.

    Args:
        mean_x: shape (d,).
        covariance_x: symmetric, shape (d, d).
        mean_y: shape (d,).
        covariance_y: symmetric, shape (d, d).

    Raises:
        ValueError: a shape does not fit or a covariance is not symmetric.
    """
    x, y = _law(mean_x, covariance_x, "x"), _law(mean_y, covariance_y, "y")
    return Law(x.mean + shaped_like(y.mean, x.mean, "mean_y"), x.covariance + y.covariance)


def cross_covariance(covariance: ArrayLike, matrix: ArrayLike) -> Array:
    """Cov(X, A X + b + independent noise) = Sigma A^T, shape (d, e).  L-B.2.

    Args:
        covariance: that of X, symmetric, shape (d, d).
        matrix: A, shape (e, d).

    Raises:
        ValueError: the shapes do not fit.
    """
    spread, slope = _symmetric(covariance, "covariance"), as_float(matrix, "matrix")
    if slope.ndim != 2 or slope.shape[1] != spread.shape[0]:
        raise ValueError(f"matrix must have shape (e, {spread.shape[0]}), got {slope.shape}")
    return np.asarray(spread @ slope.T)


def affine_marginal(
    mean: ArrayLike, covariance: ArrayLike, matrix: ArrayLike, shift: ArrayLike, noise: ArrayLike
) -> Law:
    """Law of Y where Y given X is N(A X + b, noise), N(A mu + b, A Sigma A^T + noise).  L-B.2.

    Args:
        mean: that of X, shape (d,).
        covariance: that of X, symmetric, shape (d, d).
        matrix: A, shape (e, d).
        shift: b, shape (e,).
        noise: covariance of Y given X, symmetric, shape (e, e).

    Raises:
        ValueError: a shape does not fit or a covariance is not symmetric.
    """
    x, slope = _law(mean, covariance, "x"), as_float(matrix, "matrix")
    explained = slope @ cross_covariance(x.covariance, slope)
    return independent_sum(slope @ x.mean, explained, shift, noise)


def affine_joint(
    mean: ArrayLike, covariance: ArrayLike, matrix: ArrayLike, shift: ArrayLike, noise: ArrayLike
) -> Law:
    """Law of (Y, X) where Y given X is N(A X + b, noise), Y first.  L-B.2.

    Args:
        mean: that of X, shape (d,).
        covariance: that of X, symmetric, shape (d, d).
        matrix: A, shape (e, d).
        shift: b, shape (e,).
        noise: covariance of Y given X, symmetric, shape (e, e).

    Raises:
        ValueError: a shape does not fit or a covariance is not symmetric.
    """
    x = _law(mean, covariance, "x")
    y = affine_marginal(x.mean, x.covariance, matrix, shift, noise)
    cross = cross_covariance(x.covariance, matrix)
    return Law(
        np.concatenate([y.mean, x.mean]),
        np.block([[y.covariance, cross.T], [cross, x.covariance]]),
    )


def decorrelate(
    x: ArrayLike, mean: ArrayLike, covariance: ArrayLike, first: int
) -> tuple[Array, Law]:
    """Value z = B x and law of Z = B X, whose two blocks are independent.  L-B.1.

    B takes the regression on the last block out of the first, so that the covariance of Z is
    block diagonal with the blocks Sigma_11 - Sigma_12 Sigma_22^{-1} Sigma_21 and Sigma_22.

    Args:
        x: a point, shape (d,).
        mean: that of X, shape (d,).
        covariance: that of X, symmetric positive definite, shape (d, d).
        first: length of the first block, 0 < first < d.

    Raises:
        ValueError: a shape does not fit, the covariance is not positive definite, or a block is
            empty.
    """
    law = _law(mean, covariance, "x")
    point = shaped_like(x, law.mean, "x")
    if not 0 < first < point.size:
        raise ValueError(f"first must lie in 1..{point.size - 1}, got {first}")
    cholesky_factor(law.covariance, "covariance_x")
    factor = cholesky_factor(law.covariance[first:, first:], "covariance_x")
    change = np.eye(point.size)
    change[:first, first:] = -cho_solve((factor, True), law.covariance[first:, :first]).T
    spread = change @ law.covariance @ change.T
    spread[:first, first:] = spread[first:, :first] = 0.0
    return change @ point, Law(change @ law.mean, spread)


def conditional(mean: ArrayLike, covariance: ArrayLike, value: ArrayLike) -> Law:
    """Law of the first block given the value of the last one.  L-B.1.

    Args:
        mean: that of the whole vector, shape (d,).
        covariance: that of the whole vector, symmetric positive definite, shape (d, d).
        value: the last block, shape (k,), 0 < k < d.

    Raises:
        ValueError: a shape does not fit or the covariance is not positive definite.
    """
    known = as_float(value, "value")
    first = np.size(mean) - known.size
    if known.ndim != 1 or first < 0:
        raise ValueError(f"value must have shape (k,), 0 < k < {np.size(mean)}, got {known.shape}")
    z, law = decorrelate(np.concatenate([np.zeros(first), known]), mean, covariance, first)
    return Law(law.mean[:first] - z[:first], law.covariance[:first, :first])


def expected_quadratic_form(
    mean: ArrayLike, covariance: ArrayLike, matrix: ArrayLike, centre: ArrayLike
) -> float:
    """E (X - u)^T A (X - u) = (mu - u)^T A (mu - u) + tr(A Sigma), X ~ N(mu, Sigma).  V-9, L-A.

    Any square A, symmetric or not; with A = S^{-1} it is the third term of the divergence.

    Args:
        mean: mu, shape (d,).
        covariance: Sigma, symmetric, shape (d, d).
        matrix: A, shape (d, d).
        centre: u, shape (d,).

    Raises:
        ValueError: a shape does not fit or the covariance is not symmetric.
    """
    law = _law(mean, covariance, "x")
    form = shaped_like(matrix, law.covariance, "matrix")
    offset = law.mean - shaped_like(centre, law.mean, "centre")
    return float(offset @ form @ offset + np.trace(form @ law.covariance))


def frechet_distance(
    mean_x: ArrayLike, covariance_x: ArrayLike, mean_y: ArrayLike, covariance_y: ArrayLike
) -> float:
    """Squared Frechet (2-Wasserstein) distance of two normal laws.  X-FID.

    |m_x - m_y|^2 + tr(S_x) + tr(S_y) - 2 |S_x^{1/2} S_y^{1/2}|, with the sum of the singular values
    as the norm, which equals the trace of (S_x S_y)^{1/2}.

    Args:
        mean_x: shape (d,).
        covariance_x: symmetric positive semidefinite, shape (d, d).
        mean_y: shape (d,).
        covariance_y: symmetric positive semidefinite, shape (d, d).

    Raises:
        ValueError: a shape does not fit, or a covariance is not positive semidefinite.
    """
    x, y = _law(mean_x, covariance_x, "x"), _law(mean_y, covariance_y, "y")
    offset = x.mean - shaped_like(y.mean, x.mean, "mean_y")
    roots = _root(x.covariance, "covariance_x") @ _root(y.covariance, "covariance_y")
    overlap = np.linalg.svd(roots, compute_uv=False).sum()
    return float(offset @ offset + np.trace(x.covariance + y.covariance) - 2 * overlap)


def cholesky_factor(covariance: ArrayLike, name: str) -> Array:
    """Lower triangular L with L L^T the covariance.  L-A, L-B.1, G-50.

    Args:
        covariance: symmetric positive definite, shape (d, d).
        name: the argument's name, for the message.

    Raises:
        ValueError: the covariance is not symmetric positive definite.
    """
    matrix = _symmetric(covariance, name)
    try:
        return np.asarray(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError as error:
        raise ValueError(f"{name} must be positive definite, got {matrix}") from error


def _symmetric(covariance: ArrayLike, name: str) -> Array:
    matrix = as_float(covariance, name)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    if np.any(np.abs(matrix - matrix.T) > 1e-10 * np.abs(matrix).max()):
        raise ValueError(f"{name} must be symmetric, got {matrix}")
    return matrix


def _law(mean: ArrayLike, covariance: ArrayLike, name: str) -> Law:
    centre = as_float(mean, f"mean_{name}")
    spread = _symmetric(covariance, f"covariance_{name}")
    if centre.shape != spread.shape[:1]:
        raise ValueError(f"mean_{name} must have shape {spread.shape[:1]}, got {centre.shape}")
    return Law(centre, spread)


def _root(covariance: Array, name: str) -> Array:
    """Symmetric square root; rounding moves an eigenvalue that is zero by far less than 1e-12."""
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-12 * values[-1]:
        raise ValueError(f"{name} must be positive semidefinite, got the eigenvalue {values[0]}")
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
