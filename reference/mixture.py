r"""Data drawn from a Gaussian mixture on the line, where every level has an exact answer.

    q(x_t) = \sum_k w_k N(c_t m_k, c_t^2 v_k + d_t^2),

so the score, the best denoiser E[x_0 | x_t] and its uncertainty Var(x_0 | x_t) are sums over the
components. Levels are given as the signal's amplitude c and the noise's variance d^2, which need
not add up to one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from .arrays import Array, as_float


@dataclass(frozen=True)
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
            raise ValueError(f"weights must have shape (K,) like means and variances: {w.shape}")
        if np.any(w <= 0) or abs(w.sum() - 1) > 1e-12:
            raise ValueError(f"weights must be positive and sum to 1, got {w}")
        if np.any(v < 0):
            raise ValueError(f"variances must be at least 0, got {v.min()}")

    @property
    def variance(self) -> float:
        """Variance of the data.  T-fn1, T-2.5-var1."""
        m, w = np.asarray(self.means), np.asarray(self.weights)
        return float(w @ (m**2 + self.variances) - (w @ m) ** 2)

    def log_density(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Log density of c x_0 + sqrt(noise) eps at x, any shape.  T-fn11, T-fn23.

        Args:
            x: points.
            c: amplitude of the signal.
            noise: variance of the noise, at least 0; positive if some component is a point.

        Raises:
            ValueError: a component has no width at this level.
        """
        mean, spread = self._at(c, noise)
        parts = -((_column(x) - mean) ** 2 / spread + np.log(2 * np.pi * spread)) / 2
        return np.asarray(logsumexp(parts, b=self.weights, axis=-1))

    def score(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Derivative of the log density at x.  T-fn23, G-54, G-56."""
        mean, spread = self._at(c, noise)
        return np.asarray(np.sum(self._shares(x, c, noise) * (mean - _column(x)) / spread, axis=-1))

    def denoised(self, x: ArrayLike, c: float, noise: float) -> Array:
        """E[x_0 | c x_0 + sqrt(noise) eps = x], the best denoiser.  K-79, T-fn21, T-2.5-opt."""
        return np.asarray(np.sum(self._shares(x, c, noise) * self._means(x, c, noise), axis=-1))

    def uncertainty(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Var(x_0 | c x_0 + sqrt(noise) eps = x).  T-2.5-opt, T-fn24, T-2.5-var2."""
        shares, means = self._shares(x, c, noise), self._means(x, c, noise)
        within = self.variances * noise / self._at(c, noise)[1]
        centre = np.sum(shares * means, axis=-1, keepdims=True)
        return np.asarray(np.sum(shares * (within + (means - centre) ** 2), axis=-1))

    def _at(self, c: float, noise: float) -> tuple[Array, Array]:
        spread = np.asarray(c**2 * np.asarray(self.variances) + noise)
        if np.any(spread <= 0):
            raise ValueError(f"noise must be positive for a component without width, got {noise}")
        return c * np.asarray(self.means), spread

    def _shares(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Posterior probability of each component at x, shape (..., K)."""
        mean, spread = self._at(c, noise)
        parts = np.log(self.weights) - ((_column(x) - mean) ** 2 / spread + np.log(spread)) / 2
        return np.asarray(np.exp(parts - logsumexp(parts, axis=-1, keepdims=True)))

    def _means(self, x: ArrayLike, c: float, noise: float) -> Array:
        """Mean of x_0 at x under each component, shape (..., K)."""
        mean, spread = self._at(c, noise)
        return self.means + c * self.variances / spread * (_column(x) - mean)


def _column(x: ArrayLike) -> Array:
    return as_float(x, "x")[..., None]
