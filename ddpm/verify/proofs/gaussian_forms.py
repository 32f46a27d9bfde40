"""The quadratic form's expectation and the Frechet distance against nodes, roots and quantiles."""

import numpy as np
from hypothesis import strategies as st
from scipy import linalg, stats

from ddpm.reference.gaussian_algebra import expected_quadratic_form, frechet_distance
from ddpm.verify.evidence import Evidence
from ddpm.verify.proofs.gaussian import ROUNDING, covariance, hermite, vectors
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators


def hermite_form(mean: Array, spread: Array, matrix: Array, centre: Array) -> Array:
    """Average of the quadratic form over Gauss-Hermite nodes."""
    points, weights = hermite(np.asarray(mean), np.asarray(spread))
    offset = points - centre
    return np.asarray(weights @ np.sum((offset @ matrix) * offset, axis=1))


@misprint(
    "L-A",
    of=expected_quadratic_form,
    truth=hermite_form,
    oracle="Gauss-Hermite average of the quadratic form",
    counterexample=Counterexample(
        (np.array([0.3]), np.array([[0.64]]), np.array([[1 / 2.89]]), np.array([-0.5])),
        printed=0.8615,
        right=0.4429,
    ),
    search=(
        vectors(-2, 2),
        generators().map(lambda rng: covariance(rng, 2)),
        generators().map(lambda rng: np.linalg.inv(covariance(rng, 2))),
        vectors(-2, 2),
    ),
)
def lost_bracket(mean: Array, spread: Array, matrix: Array, centre: Array) -> float:
    """The inverse covariance multiplies X - m_1 only and misses m_1 - m_2."""
    offset = mean - centre
    return float(np.trace(matrix @ spread) + offset @ offset)


@proof(
    "V-9", "L-A",
    of=expected_quadratic_form,
    oracle="Gauss-Hermite average, exact for a quadratic",
    given=(st.integers(1, 3), generators()),
)  # fmt: skip
def quadratic_form(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """The expectation holds for any matrix; a law centred on u would leave the trace alone."""
    mean, centre = rng.normal(size=(2, size))
    spread, matrix = covariance(rng, size), rng.normal(size=(size, size))
    values = []
    for middle in (mean, centre):
        points, weights = hermite(middle, spread)
        offset = points - centre
        values.append(weights @ np.einsum("ni,ij,nj->n", offset, matrix, offset))
    got = expected_quadratic_form(mean, spread, matrix, centre)
    evidence.close(got, values[0], rtol=1e-10, atol=1e-11, what="law centred on its mean")
    read = expected_quadratic_form(centre, spread, matrix, centre)
    evidence.close(read, values[1], rtol=1e-10, atol=1e-11, what="law centred on u")
    evidence.close(read, np.trace(matrix @ spread), rtol=1e-10, atol=1e-11, what="the trace alone")
    definite = matrix @ matrix.T + np.eye(size)
    apart = expected_quadratic_form(mean, spread, definite, centre)
    alone = expected_quadratic_form(centre, spread, definite, centre)
    evidence.holds(apart > alone, "the trace alone is too small")


@proof(
    "X-FID",
    of=frechet_distance,
    oracle="scipy's matrix square root of the product",
    given=(st.integers(1, 4), generators()),
)
def matrix_root(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """The overlap of the spreads is the trace of (S_x S_y)^{1/2}."""
    m1, m2 = rng.normal(size=(2, size))
    c1, c2 = covariance(rng, size), covariance(rng, size)
    overlap = np.trace(linalg.sqrtm(c1 @ c2)).real
    want = np.sum((m1 - m2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * overlap
    evidence.close(frechet_distance(m1, c1, m2, c2), want, rtol=1e-8, atol=1e-9, what="distance")
    evidence.close(frechet_distance(m1, c1, m1, c1), 0.0, atol=1e-11, what="distance to itself")


@proof(
    "X-FID",
    of=frechet_distance,
    oracle="quadrature of the squared difference of scipy's quantiles",
    given=(st.floats(-2, 2), st.floats(0.1, 4), st.floats(-2, 2), st.floats(0.1, 4)),
)
def quantiles(evidence: Evidence, m1: float, v1: float, m2: float, v2: float) -> None:
    """On the line the best coupling pairs equal quantiles."""
    z, weights = np.polynomial.hermite_e.hermegauss(6)
    level = stats.norm.cdf(z)
    gap = stats.norm.ppf(level, m1, np.sqrt(v1)) - stats.norm.ppf(level, m2, np.sqrt(v2))
    want = weights @ gap**2 / weights.sum()
    got = frechet_distance([m1], [[v1]], [m2], [[v2]])
    evidence.close(got, want, rtol=1e-9, atol=1e-12, what="distance")


@proof(
    "X-FID",
    of=frechet_distance,
    oracle="coordinates of commuting covariances, some without width",
    given=(generators(),),
)
def flat_directions(evidence: Evidence, rng: np.random.Generator) -> None:
    """Covariances need no inverse: a point mass and a flat direction have a distance too."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    v1, v2 = rng.uniform(0.1, 2, (2, 3)) * [[1, 0, 1], [0, 0, 1]]
    m1, m2 = rng.normal(size=(2, 3))
    c1, c2 = ((turn * v) @ turn.T for v in (v1, v2))
    want = np.sum((m1 - m2) ** 2) + np.sum((np.sqrt(v1) - np.sqrt(v2)) ** 2)
    got = frechet_distance(m1, (c1 + c1.T) / 2, m2, (c2 + c2.T) / 2)
    # The root of an eigenvalue that rounding leaves at 1e-16 is 1e-8.
    evidence.close(got, want, rtol=1e-7, atol=1e-7, what="distance")
    point = frechet_distance(m1, np.zeros((3, 3)), m2, np.zeros((3, 3)))
    evidence.close(point, np.sum((m1 - m2) ** 2), what="distance of two points", **ROUNDING)
