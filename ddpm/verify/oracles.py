"""Truths derived without the formulas under test."""

from collections.abc import Iterable, Sequence

import mpmath as mp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, stats

Array = NDArray[np.float64]

# 1 - beta is exact and 12 steps of 1e-12 stay far from the last of 135 digits.
PRECISION = 450


def signal_products(betas: ArrayLike) -> list[mp.mpf]:
    """Products of (1 - beta) at levels 0..T, to about 135 digits."""
    with mp.workprec(PRECISION):
        products = [mp.mpf(1)]
        for beta in np.asarray(betas, dtype=np.float64).tolist():
            products.append(products[-1] * (1 - mp.mpf(beta)))
    return products


def worst_ulp(got: ArrayLike, want: Iterable[mp.mpf]) -> float:
    """Largest distance in units of the last place of the float64 next to the truth."""
    pairs = zip(np.ravel(got).tolist(), want, strict=True)
    return max((_ulps(value, truth) for value, truth in pairs), default=0.0)


def _ulps(value: float, truth: mp.mpf) -> float:
    nearest = float(truth)
    if not np.isfinite(nearest) or not np.isfinite(value):
        return 0.0 if value == nearest else np.inf
    with mp.workprec(PRECISION):
        return float(abs(mp.mpf(value) - truth) / mp.mpf(float(np.spacing(abs(nearest)))))


def joint_covariance(betas: ArrayLike, data_variance: float = 1.0) -> Array:
    """Covariance of (x_0..x_T): the recursion run on the coefficients of unit normals."""
    steps = np.asarray(betas, dtype=np.float64)
    rows = np.zeros((steps.size + 1, steps.size + 1))
    rows[0, 0] = np.sqrt(data_variance)
    for t, beta in enumerate(steps, start=1):
        rows[t] = np.sqrt(1 - beta) * rows[t - 1]
        rows[t, t] = np.sqrt(beta)
    return rows @ rows.T


def condition(covariance: Array, target: int, given: Sequence[int]) -> tuple[Array, float]:
    """Regression weights on the given coordinates, and the variance that remains."""
    inner = covariance[np.ix_(given, given)]
    cross = covariance[target, list(given)]
    weights = np.asarray(np.linalg.solve(inner, cross), dtype=np.float64)
    return weights, float(covariance[target, target] - weights @ cross)


def quad_kl(mean_q: float, sd_q: float, mean_p: float, sd_p: float) -> float:
    """KL of two normal laws in one dimension by quadrature of scipy's densities."""

    def integrand(x: Array) -> Array:
        log_q = stats.norm.logpdf(x, mean_q, sd_q)
        return np.asarray(np.exp(log_q) * (log_q - stats.norm.logpdf(x, mean_p, sd_p)))

    reach = 13 * sd_q
    return float(integrate.fixed_quad(integrand, mean_q - reach, mean_q + reach, n=200)[0])


def normal_grid(dimensions: int, nodes: int) -> tuple[Array, Array]:
    """Gauss-Hermite grid of independent unit normals: points (dimensions, N), probabilities (N,).

    Exact for polynomials of degree 2 nodes - 1 in each variable.
    """
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    points = np.stack([axis.ravel() for axis in np.meshgrid(*[x] * dimensions)])
    weights = np.prod([axis.ravel() for axis in np.meshgrid(*[w] * dimensions)], axis=0)
    return points, np.asarray(weights / weights.sum(), dtype=np.float64)
