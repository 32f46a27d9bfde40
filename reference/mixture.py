r"""Data drawn from a Gaussian mixture on the line, where every level has an exact answer.

    q(x_t) = \sum_k w_k N(c_t m_k, c_t^2 v_k + d_t^2),

so the score, the best denoiser E[x_0 | x_t] and its uncertainty Var(x_0 | x_t) are sums over the
components. Levels are given as the signal's amplitude c and the noise's variance d^2, which need
not add up to one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from .arrays import Array, as_float

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of normal laws on the line.  T-2.5-opt, T-fn17, T-fn23.

    Args:
        weights: shape (K,), positive, summing to one.
        means: shape (K,).
        variances: shape (K,), at least 0.

    Raises:
        ValueError: the shapes differ, a weight is not positive, they do not sum to one, or a
            variance is negative.
    """

    weights: Array
    means: Array
    variances: Array

    def __post_init__(self) -> None:
        w, m, v = (as_float(getattr(self, n), n) for n in ("weights", "means", "variances"))
        if not w.shape == m.shape == v.shape or w.ndim != 1 or w.size == 0:
            raise ValueError(
                f"weights, means and variances must have one shape (K,) with K >= 1, got "
                f"{w.shape}, {m.shape} and {v.shape}"
            )
        if np.any(w <= 0) or abs(w.sum() - 1) > 1e-12:
            raise ValueError(f"weights must be positive and sum to 1, got {w}")
        if np.any(v < 0):
            raise ValueError(f"variances must be at least 0, got {v.min()}")
        for name, value in (("weights", w), ("means", m), ("variances", v)):
            object.__setattr__(self, name, value)

    @property
    def variance(self) -> float:
        """Variance of the data.  T-fn1, T-fn23, T-2.5-var1."""
        centre = self.weights @ self.means
        return float(self.weights @ (self.variances + (self.means - centre) ** 2))

    def log_density(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Log density of c x_0 + sqrt(noise) eps at x, any shape.  T-fn11, T-fn23.

        Args:
            x: points.
            c: amplitude of the signal.
            noise: variance of the noise, at least 0; positive if some component is a point.

        Raises:
            ValueError: noise is negative, or a component has no width at this level.
        """
        return np.asarray(logsumexp(self._log_parts(x, c, noise), axis=-1))

    def score(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Derivative of the log density at x.  T-fn23, G-54, G-56."""
        mean, spread = self._at(c, noise)
        return np.asarray(np.sum(self._shares(x, c, noise) * (mean - _column(x)) / spread, axis=-1))

    def denoised(self, x: ArrayLike, c: float, noise: float) -> Array:
        """E[x_0 | c x_0 + sqrt(noise) eps = x], the best denoiser.  K-79, T-fn21, T-fn23."""
        return np.asarray(np.sum(self._shares(x, c, noise) * self._means(x, c, noise), axis=-1))

    def uncertainty(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Var(x_0 | c x_0 + sqrt(noise) eps = x).  T-2.5-opt, T-fn23, T-fn24, T-2.5-var2."""
        shares, means = self._shares(x, c, noise), self._means(x, c, noise)
        within = self.variances * noise / self._at(c, noise)[1]
        centre = np.sum(shares * means, axis=-1, keepdims=True)
        return np.asarray(np.sum(shares * (within + (means - centre) ** 2), axis=-1))

    def expectation(self, function: Callable[[Array], Array], c: float, noise: float) -> float:
        """E f(c x_0 + sqrt(noise) eps) by Gauss-Legendre panels.  T-fn23, T-eq5.

        The panels are one standard deviation wide or less around each component, which resolves
        every place where the components trade their shares.

        Args:
            function: f, smooth, from points of shape (N,) to values of that shape.
            c: amplitude of the signal.
            noise: variance of the noise, as `log_density` takes it.
        """
        mean, spread = self._at(c, noise)
        edges = np.unique(mean + np.sqrt(spread) * np.arange(-9, 10)[:, None])
        half = np.diff(edges)[:, None] / 2
        x = np.ravel(edges[:-1, None] + half * (1 + _NODES))
        mass = np.ravel(half * _WEIGHTS) * np.exp(self.log_density(x, c, noise))
        return float(mass @ function(x))

    def mmse(self, c: float, noise: float) -> float:
        """E Var(x_0 | x_t), the least squared error of a denoiser.  T-2.5-opt, T-fn23, T-extra."""
        return self.expectation(lambda x: self.uncertainty(x, c, noise), c, noise)

    def _at(self, c: float, noise: float) -> tuple[Array, Array]:
        """Mean and variance of each component at this level."""
        spread = np.asarray(c**2 * self.variances + noise)
        if noise < 0 or np.any(spread <= 0):
            raise ValueError(
                f"noise must be at least 0, and positive for a component without width, got {noise}"
            )
        return c * self.means, spread

    def _log_parts(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Log of each component's share of the density at x, shape (..., K)."""
        mean, spread = self._at(c, noise)
        square = (_column(x) - mean) ** 2 / spread
        return np.asarray(np.log(self.weights) - (square + np.log(2 * np.pi * spread)) / 2)

    def _shares(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Posterior probability of each component at x, shape (..., K)."""
        parts = self._log_parts(x, c, noise)
        return np.asarray(np.exp(parts - logsumexp(parts, axis=-1, keepdims=True)))

    def _means(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Mean of x_0 at x under each component, shape (..., K)."""
        mean, spread = self._at(c, noise)
        return np.asarray(self.means + c * self.variances / spread * (_column(x) - mean))


def _column(x: ArrayLike) -> Array:
    return as_float(x, "x")[..., None]
