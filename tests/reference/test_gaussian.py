import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.gaussian import (
    kl_diagonal,
    kl_equal_variance,
    kl_full,
    kl_isotropic,
    spread_divergence,
)
from ddpm.verify.oracles import quad_kl
from ddpm.verify.strategies import Array, generators

# Quadrature with 200 nodes over 13 deviations leaves 1e-9, and 1e-11 where the value is zero.
means = st.floats(-2, 2)
variances = st.floats(0.05, 4)


@given(means, variances, means, variances)
def test_one_dimension_by_quadrature(m1: float, v1: float, m2: float, v2: float) -> None:
    want = quad_kl(m1, np.sqrt(v1), m2, np.sqrt(v2))
    np.testing.assert_allclose(kl_isotropic([m1], v1, [m2], v2), want, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(kl_diagonal([m1], [v1], [m2], [v2]), want, rtol=1e-8, atol=1e-10)
    full = kl_full(np.array([m1]), np.array([[v1]]), np.array([m2]), np.array([[v2]]))
    np.testing.assert_allclose(full, want, rtol=1e-8, atol=1e-10)
    equal = quad_kl(m1, np.sqrt(v1), m2, np.sqrt(v1))
    np.testing.assert_allclose(kl_equal_variance([m1], [m2], v1), equal, rtol=1e-8, atol=1e-10)
    spread = quad_kl(0, np.sqrt(v1 / v2), 0, 1)
    np.testing.assert_allclose(spread_divergence(v1 / v2), spread, rtol=1e-8, atol=1e-10)


@given(st.integers(1, 4), generators())
def test_coordinates_add_up(size: int, rng: np.random.Generator) -> None:
    m1, m2 = rng.normal(size=(2, 3, size))
    v1, v2 = rng.uniform(0.1, 3, (2, 3, size))
    rows = [
        [quad_kl(a, np.sqrt(b), c, np.sqrt(d)) for a, b, c, d in zip(*row, strict=True)]
        for row in zip(m1, v1, m2, v2, strict=True)
    ]
    np.testing.assert_allclose(kl_diagonal(m1, v1, m2, v2), np.sum(rows, axis=1), rtol=1e-8)
    same = np.broadcast_to(v1[:, :1], v1.shape)
    np.testing.assert_allclose(
        kl_isotropic(m1, v1[:, 0], m2, v2[:, 0]),
        kl_diagonal(m1, same, m2, np.broadcast_to(v2[:, :1], v2.shape)),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        kl_equal_variance(m1, m2, v1[:, 0]), kl_diagonal(m1, same, m2, same), rtol=1e-12
    )


def covariance(rng: np.random.Generator, size: int) -> Array:
    root = rng.normal(size=(size, size))
    return np.asarray(root @ root.T + 0.3 * np.eye(size))


@given(st.integers(1, 3), generators())
def test_full_covariance_by_quadrature(size: int, rng: np.random.Generator) -> None:
    c1, c2 = covariance(rng, size), covariance(rng, size)
    m1, m2 = rng.normal(size=(2, size))
    # The log ratio of the densities is a quadratic: three nodes a dimension integrate it exactly.
    x, w = np.polynomial.hermite_e.hermegauss(3)
    grid = np.stack(np.meshgrid(*[x] * size), axis=-1).reshape(-1, size)
    weights = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * size), axis=-1), axis=-1).ravel()
    points = m1 + grid @ np.linalg.cholesky(c1).T
    ratio = stats.multivariate_normal(m1, c1).logpdf(points)
    ratio -= stats.multivariate_normal(m2, c2).logpdf(points)
    np.testing.assert_allclose(kl_full(m1, c1, m2, c2), weights @ ratio, rtol=1e-9, atol=1e-10)


@given(generators())
def test_full_covariance_under_an_affine_map(rng: np.random.Generator) -> None:
    c1, c2, a = covariance(rng, 3), covariance(rng, 3), covariance(rng, 3)
    m1, m2, b = rng.normal(size=(3, 3))
    mapped = [(c + c.T) / 2 for c in (a @ c1 @ a.T, a @ c2 @ a.T)]
    got = kl_full(a @ m1 + b, mapped[0], a @ m2 + b, mapped[1])
    np.testing.assert_allclose(got, kl_full(m1, c1, m2, c2), rtol=1e-6)
    assert got >= 0
    assert abs(kl_full(m1, c1, m1, c1)) < 1e-12


def test_refuted_signs_and_norms() -> None:
    # L-1.3 prints + s^2 and gets -1 for the KL of a standard normal to itself.
    assert kl_diagonal([0.0], [1.0], [0.0], [1.0]) == 0
    # G-40 divides by twice the squared norm of the covariance: 28.125 instead of 1.125.
    assert np.isclose(quad_kl(0.3, 0.2, 0, 0.2), 1.125)
    assert np.isclose(kl_equal_variance([0.3], [0.0], 0.04), 1.125)
    assert np.isclose(0.09 / (2 * 0.04**2), 28.125)
    # The same line on a diagonal covariance: 11.11 instead of 1.625.
    want = quad_kl(0.3, 0.2, 0, 0.2) + quad_kl(0.3, 0.3, 0, 0.3)
    assert np.isclose(want, 1.625)
    assert np.isclose(kl_diagonal([0.3, 0.3], [0.04, 0.09], [0, 0], [0.04, 0.09]), 1.625)
    assert np.isclose(0.18 / (2 * 0.09**2), 11.11, atol=1e-2)
    # L-A without its bracket has 0.8615 for the sum of trace and distance, 0.4429.
    got = kl_full(*(np.array(x) for x in ([0.3], [[0.64]], [-0.5], [[2.89]])))
    assert np.isclose(got, quad_kl(0.3, 0.8, -0.5, 1.7))
    assert np.isclose(2 * got + 1 - np.log(2.89 / 0.64), 0.4429, atol=1e-4)


@pytest.mark.parametrize(
    "bad",
    [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.4, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]],
)
def test_refused_covariances(bad: list[list[float]]) -> None:
    m, eye, matrix = np.zeros(2), np.eye(2), np.array(bad)
    with pytest.raises(ValueError, match="covariance_q must be"):
        kl_full(m, matrix, m, eye)
    with pytest.raises(ValueError, match="covariance_p must be"):
        kl_full(m, eye, m, matrix)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_refused_variances(bad: float) -> None:
    with pytest.raises(ValueError, match="variance must be positive"):
        kl_equal_variance([0.0], [0.0], bad)
    with pytest.raises(ValueError, match="variance_q must be positive"):
        kl_isotropic([0.0], bad, [0.0], 1.0)
    with pytest.raises(ValueError, match="variance_p must be positive"):
        kl_diagonal([0.0], [1.0], [0.0], [bad])
    with pytest.raises(ValueError, match="ratio must be positive"):
        spread_divergence(bad)
