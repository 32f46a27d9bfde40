r"""The evidence of a model with a latent variable, and the bound below its logarithm.

    p(x) = \int p(x, z) dz,   p(x, z) = p(z) p(x | z),
    \log p(x) = E_q \log [p(x, z) / q(z)] + KL(q(z) || p(z | x))   for every q.

Two models have all of it exactly: a latent of finitely many values, where integrals are sums, and
one normal latent with a linear observation. Everything is at one observed x, in nats.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .gaussian import kl_isotropic, log_density
from .linear_reverse import expected_log_density


@dataclass(frozen=True)
class FiniteLatent:
    """A latent variable of K values, seen through one observation.  K-20, K-21, G-12, T-fn2.

    Args:
        prior: p(z), positive, shape (K,), sums to one.
        likelihood: p(x | z) of the observed x, positive, shape (K,).

    Raises:
        ValueError: the shapes differ, an entry is not positive or the prior does not sum to one.
    """

    prior: Array
    likelihood: Array

    def __post_init__(self) -> None:
        prior, likelihood = as_float(self.prior, "prior"), as_float(self.likelihood, "likelihood")
        _check_law(prior, "prior")
        if likelihood.shape != prior.shape:
            raise ValueError(f"likelihood must have shape {prior.shape}, got {likelihood.shape}")
        if np.any(prior == 0) or np.any(likelihood <= 0):
            raise ValueError(f"prior and likelihood must be positive, got {prior}, {likelihood}")
        object.__setattr__(self, "prior", prior)
        object.__setattr__(self, "likelihood", likelihood)

    @cached_property
    def joint(self) -> Array:
        """p(x, z) at the observed x, shape (K,).  K-21, K-3.3."""
        return self.prior * self.likelihood

    @cached_property
    def evidence(self) -> float:
        """p(x), the joint summed over the latent.  K-20, K-23, K-37, G-12, T-fn2."""
        return float(self.joint.sum())

    @cached_property
    def posterior(self) -> Array:
        """p(z | x), shape (K,).  K-22, K-25, L-1.1."""
        return self.joint / self.evidence

    def importance_evidence(self, q: ArrayLike) -> float:
        """E_q[p(x, z) / q(z)], which is p(x) if q misses no value of z.  K-24, K-38.

        Args:
            q: probabilities, shape (K,).
        """
        law = self._checked(q)
        drawn = law > 0
        return float(law[drawn] @ (self.joint[drawn] / law[drawn]))

    def log_importance_evidence(self, q: ArrayLike) -> float:
        """Log E_q[p(x, z) / q(z)], at least E_q log[p(x, z) / q(z)].  K-39, K-3.5-text, K-40."""
        return float(np.log(self.importance_evidence(q)))

    def posterior_evidence(self, q: ArrayLike) -> float:
        """E_q[p(x, z) / p(z | x)], which is p(x) for every q.  K-25..27."""
        return float(self._checked(q) @ (self.joint / self.posterior))

    def posterior_log_evidence(self, q: ArrayLike) -> float:
        """E_q log[p(x, z) / p(z | x)], which is log p(x) for every q.  K-28, K-29."""
        return float(self._checked(q) @ np.log(self.joint / self.posterior))

    def elbo(self, q: ArrayLike) -> float:
        """E_q log[p(x, z) / q(z)], the evidence lower bound.  K-30, K-32..34, K-40, L-1.1."""
        law = self._checked(q)
        drawn = law > 0
        return float(law[drawn] @ np.log(self.joint[drawn] / law[drawn]))

    def gap(self, q: ArrayLike) -> float:
        """KL(q(z) || p(z | x)), by which the bound falls short.  K-22, K-30, K-33..36, L-1.1."""
        law = self._checked(q)
        drawn = law > 0
        return float(law[drawn] @ np.log(law[drawn] / self.posterior[drawn]))

    def _checked(self, q: ArrayLike) -> Array:
        law = as_float(q, "q")
        if law.shape != self.prior.shape:
            raise ValueError(f"q must have shape {self.prior.shape}, got {law.shape}")
        _check_law(law, "q")
        return law


@dataclass(frozen=True)
class LinearGaussian:
    """z ~ N(0, 1) and x | z ~ N(slope z + shift, noise).  K-21, K-23, L-1.1, G-12, T-fn2.

    Args:
        slope: gain from the latent to the observation.
        shift: mean of the observation.
        noise: variance of the observation given the latent, positive.

    Raises:
        ValueError: the noise is not positive.
    """

    slope: float
    shift: float
    noise: float

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise ValueError(f"noise must be positive, got {self.noise}")

    def log_joint(self, x: ArrayLike, z: ArrayLike) -> Array:
        """Log p(x, z) = log p(z) + log p(x | z), broadcast.  K-21, K-3.3."""
        latent, seen = (value[..., None] for value in (as_float(z, "z"), as_float(x, "x")))
        likelihood = log_density(seen, self.slope * latent + self.shift, self.noise)
        return np.asarray(log_density(latent, 0.0, 1.0) + likelihood)

    def log_evidence(self, x: ArrayLike) -> Array:
        """Log p(x), any shape.  K-20, K-23, K-37, G-12, G-14, T-fn2, L-1.1."""
        seen = as_float(x, "x")[..., None]
        return log_density(seen, self.shift, self.slope**2 + self.noise)

    def posterior(self, x: ArrayLike) -> tuple[Array, float]:
        """Mean, shaped like x, and variance of p(z | x).  K-22, L-1.1."""
        spread = self.slope**2 + self.noise
        return self.slope / spread * (as_float(x, "x") - self.shift), self.noise / spread

    def elbo(self, x: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> Array:
        """E_q log p(x | z) - KL(q || p(z)), q = N(mean, variance).  L-1.2, G-14, K-32..34, T-fig3.

        Args:
            x: observation, any shape.
            mean: mean of q, broadcast with x.
            variance: variance of q, positive, broadcast with x.

        Raises:
            ValueError: the variance is not positive.
        """
        centre = as_float(mean, "mean")
        divergence = kl_isotropic(centre[..., None], variance, np.zeros(1), 1.0)
        decoded = self.slope * centre + self.shift
        spread = self.slope**2 * as_float(variance, "variance")
        return np.asarray(expected_log_density(decoded, spread, x, self.noise) - divergence)

    def gap(self, x: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> Array:
        """KL(q(z) || p(z | x)), q = N(mean, variance).  K-22, K-30, K-33..36, L-1.1, T-fig3."""
        centre, spread = self.posterior(x)
        return kl_isotropic(as_float(mean, "mean")[..., None], variance, centre[..., None], spread)


def log_mean(ratio: ArrayLike, weights: ArrayLike) -> float:
    """Log E R of a positive variable, at least E log R: the log is concave.  K-28-text, K-40.

    Equal to E log R only if R is constant where its weight is positive.

    Args:
        ratio: values of R, positive, shape (K,).
        weights: their probabilities, shape (K,).

    Raises:
        ValueError: the shapes differ, a value is not positive, or the weights are no probabilities.
    """
    values, law = as_float(ratio, "ratio"), as_float(weights, "weights")
    _check_law(law, "weights")
    if values.shape != law.shape or np.any(values <= 0):
        raise ValueError(f"ratio must be positive with shape {law.shape}, got {values}")
    return float(np.log(law @ values))


def _check_law(law: Array, name: str) -> None:
    if law.ndim != 1 or np.any(law < 0) or abs(law.sum() - 1) > 1e-12:
        raise ValueError(f"{name} must be probabilities of shape (K,) that sum to 1, got {law}")
