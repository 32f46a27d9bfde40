"""The empirical density: what its samples repeat and what its best denoiser returns."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.empirical import empirical_mixture, empirical_sample, nearest_distance
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import generators


@proof(
    "T-fn3",
    of=(empirical_sample, nearest_distance),
    oracle="every distance, one pair at a time; the frequency of each point",
    given=(generators(), st.integers(1, 7), st.integers(1, 3)),
    examples=20,
)
def repeats(evidence: Evidence, generator: np.random.Generator, size: int, d: int) -> None:
    """Samples repeat training points, all of them equally often; fresh ones lie elsewhere."""
    points = generator.standard_normal((size, d))
    samples = empirical_sample(points, generator.random(4_000))
    evidence.equal(nearest_distance(samples, points), np.zeros(4_000))
    drawn = np.stack([np.all(samples == point, axis=1) for point in points], axis=1)
    evidence.equal(drawn.sum(axis=1), np.ones(4_000))
    # The frequencies add up to one, so one point has no frequency of its own.
    evidence.mean(drawn[:, 1:] * 1.0, np.full(size - 1, 1 / size), "frequency of a point")
    fresh = generator.standard_normal((5, d))
    want = [min(float(np.sqrt(sum((a - b) ** 2))) for b in points) for a in fresh]
    evidence.close(nearest_distance(fresh, points), np.array(want), rtol=1e-14)
    evidence.holds(np.array(want) > 0, "a fresh sample is no training point")


@proof(
    "T-fn3",
    of=empirical_mixture,
    oracle="the average of scipy's densities; the nearest training point",
    given=(generators(), st.integers(1, 7), st.floats(0.1, 1), st.floats(0.05, 2)),
)
def noised(
    evidence: Evidence, generator: np.random.Generator, size: int, c: float, noise: float
) -> None:
    """Noised it is the average of N normal laws; with little noise its denoiser memorises."""
    points, x = generator.standard_normal(size), generator.standard_normal(5)
    law = empirical_mixture(points)
    density = np.mean([stats.norm.pdf(x, c * point, np.sqrt(noise)) for point in points], axis=0)
    evidence.close(np.exp(law.log_density(x, c, noise)), density, rtol=1e-12, what="density")
    evidence.close(law.variance, np.var(points), atol=1e-14, what="variance of the training set")
    evidence.close(law.denoised(points, 1.0, 1e-12), points, atol=1e-9, what="denoised")
