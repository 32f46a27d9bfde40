"""Densities and divergences of normal laws against scipy's densities and quadrature."""

from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from scipy.spatial.distance import mahalanobis

from ddpm.reference.gaussian import (
    entropy,
    kl_diagonal,
    kl_equal_variance,
    kl_full,
    kl_isotropic,
    log_density,
    spread_divergence,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import normal_grid, quad_kl
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators

# Quadrature with 200 nodes over 13 deviations leaves 1e-9, and 1e-11 where the value is zero.
QUADRATURE = {"rtol": 1e-8, "atol": 1e-10}

# Sums of a few numbers of size one, and solves with condition numbers below about 1e4.
ROUNDING = {"rtol": 1e-10, "atol": 1e-12}

MEANS = st.floats(-2, 2)
VARIANCES = st.floats(0.05, 4)


def covariance(rng: np.random.Generator, size: int) -> Array:
    """A random covariance with eigenvalues of at least 0.3."""
    root = rng.normal(size=(size, size))
    return np.asarray(root @ root.T + 0.3 * np.eye(size))


def hermite(mean: Array, spread: Array, nodes: int = 3) -> tuple[Array, Array]:
    """Points (n, d) and weights that integrate polynomials under a normal law exactly."""
    points, weights = normal_grid(mean.size, nodes)
    return mean + points.T @ np.linalg.cholesky(spread).T, weights


@proof(
    "K-66", "V-8.5", "V-eq5", "L-2.5", "G-39", "G-40",
    of=(kl_isotropic, kl_diagonal, kl_equal_variance, spread_divergence),
    oracle="quadrature of scipy's densities",
    given=(MEANS, VARIANCES, MEANS, VARIANCES),
)  # fmt: skip
def one_dimension(evidence: Evidence, m1: float, v1: float, m2: float, v2: float) -> None:
    """On the line every form of the divergence is the integral of q log(q / p)."""
    want = quad_kl(m1, np.sqrt(v1), m2, np.sqrt(v2))
    evidence.close(kl_isotropic([m1], v1, [m2], v2), want, what="isotropic", **QUADRATURE)
    evidence.close(kl_diagonal([m1], [v1], [m2], [v2]), want, what="diagonal", **QUADRATURE)
    equal = quad_kl(m1, np.sqrt(v1), m2, np.sqrt(v1))
    evidence.close(kl_equal_variance([m1], [m2], v1), equal, what="equal variance", **QUADRATURE)
    spread = quad_kl(0, np.sqrt(v1 / v2), 0, 1)
    evidence.close(spread_divergence(v1 / v2), spread, what="spread", **QUADRATURE)


@proof(
    "K-66", "V-8.5", "V-eq5", "L-2.5", "G-39", "G-40",
    of=(kl_isotropic, kl_diagonal, kl_equal_variance),
    oracle="sum of quadratures, one for each coordinate",
    given=(st.integers(1, 4), generators()),
)  # fmt: skip
def coordinates(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """Independent coordinates add up, so the trace term of d coordinates is d."""
    (m1, m2), (v1, v2) = rng.normal(size=(2, 3, size)), rng.uniform(0.1, 3, (2, 3, size))

    def total(q: Array, p: Array) -> Array:
        laws = np.broadcast_arrays(m1, np.sqrt(q), m2, np.sqrt(p))
        return np.asarray(np.sum(np.vectorize(quad_kl)(*laws), axis=1))

    u1, u2 = v1[:, :1], v2[:, :1]
    got = kl_isotropic(m1, u1[:, 0], m2, u2[:, 0])
    evidence.close(kl_diagonal(m1, v1, m2, v2), total(v1, v2), what="diagonal", **QUADRATURE)
    evidence.close(got, total(u1, u2), what="isotropic", **QUADRATURE)
    got = kl_equal_variance(m1, m2, u1[:, 0])
    evidence.close(got, total(u1, u1), what="equal variance", **QUADRATURE)


@proof(
    "L-A", "G-39",
    of=kl_full,
    oracle="Gauss-Hermite average of scipy's log densities, exact for a quadratic",
    given=(st.integers(1, 3), generators()),
)  # fmt: skip
def full_covariance(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """The closed form is E_q log(q / p) for any two covariances."""
    c1, c2 = covariance(rng, size), covariance(rng, size)
    m1, m2 = rng.normal(size=(2, size))
    points, weights = hermite(m1, c1)
    ratio = stats.multivariate_normal(m1, c1).logpdf(points)
    ratio -= stats.multivariate_normal(m2, c2).logpdf(points)
    evidence.close(kl_full(m1, c1, m2, c2), weights @ ratio, rtol=1e-9, atol=1e-10, what="KL")


@proof(
    "L-A", "G-39",
    of=kl_full,
    oracle="the divergence before an affine map of both laws",
    given=(generators(),),
)  # fmt: skip
def affine_invariance(evidence: Evidence, rng: np.random.Generator) -> None:
    """A change of coordinates does not change the divergence."""
    c1, c2, a = covariance(rng, 3), covariance(rng, 3), covariance(rng, 3)
    m1, m2, b = rng.normal(size=(3, 3))
    mapped = [(c + c.T) / 2 for c in (a @ c1 @ a.T, a @ c2 @ a.T)]
    got = kl_full(a @ m1 + b, mapped[0], a @ m2 + b, mapped[1])
    # The map squares the condition number of the covariances.
    evidence.close(got, kl_full(m1, c1, m2, c2), rtol=1e-6, what="KL")


@proof(
    "T-4.3-KL", "K-31",
    of=kl_full,
    oracle="numerical minimisation over the second law, and equal laws",
    given=(st.integers(1, 3), generators()),
    examples=20,
)  # fmt: skip
def least_at_equal_laws(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """The divergence is positive between different laws and zero between equal ones."""
    c1, c2 = covariance(rng, size), covariance(rng, size)
    m1, m2 = rng.normal(size=(2, size))
    evidence.holds(kl_full(m1, c1, m2, c2) > 0, "the divergence of different laws is positive")
    evidence.close(kl_full(m1, c1, m1, c1), 0.0, atol=1e-12, what="divergence of equal laws")

    def along(way: float) -> float:
        mix = c1 + way * (c2 - c1) if way >= 0 else c1 - way * 0.1 * np.eye(size)
        return kl_full(m1, c1, m1 + way * (m2 - m1), mix)

    found = optimize.minimize_scalar(along, bounds=(-1, 1), method="bounded")
    # A minimum is found to the root of the precision of its value.
    evidence.close(found.x, 0.0, atol=1e-4, what="place of the minimum along a line")


def bin_masses(edges: Array, mean: float, deviation: float) -> Array:
    """Probabilities of the bins of a normal law, each from the tail on its side of the mean."""
    left = np.diff(stats.norm.cdf(edges, mean, deviation))
    right = -np.diff(stats.norm.sf(edges, mean, deviation))
    return np.where(edges[1:] > mean, right, left)


@proof(
    "T-4.3-KL", "K-31",
    of=kl_full,
    oracle="scipy's divergence of the probabilities of ever finer bins",
    given=(generators(),),
    examples=20,
)  # fmt: skip
def bins_lose_divergence(evidence: Evidence, rng: np.random.Generator) -> None:
    """The divergence of the probabilities of bins is at least 0, and grows to that of the laws."""
    (m1, m2), (s1, s2) = rng.uniform(-1, 1, 2), rng.uniform(0.7, 1.5, 2)
    found = []
    for bins in (2, 8, 128, 2048):
        edges = np.concatenate([[-np.inf], np.linspace(-7, 7, bins - 1), [np.inf]])
        q, p = (bin_masses(edges, m, s) for m, s in ((m1, s1), (m2, s2)))
        found.append(stats.entropy(q, p))
    whole = kl_full(*(np.array(x) for x in ([m1], [[s1**2]], [m2], [[s2**2]])))
    evidence.at_most([0.0, *found[:-1]], np.array(found) + 1e-12, "divergence of coarser bins")
    # Bins of 0.007 lose a share of the order of their squared width.
    evidence.close(found[-1], whole, rtol=1e-3, atol=1e-6, what="divergence of fine bins")


@proof(
    "T-2.4-L", "V-8.5",
    of=log_density,
    oracle="scipy's densities",
    given=(st.integers(1, 4), generators()),
)  # fmt: skip
def density(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """The log density is scipy's, coordinate by coordinate."""
    x, mean = rng.normal(size=(2, 5, size))
    variance = rng.uniform(0.1, 3, 5)
    each = np.sum(stats.norm.logpdf(x, mean, np.sqrt(variance)[:, None]), axis=1)
    evidence.close(log_density(x, mean, variance), each, what="log density", **ROUNDING)


@proof(
    "V-8.5",
    of=(log_density, kl_isotropic),
    oracle="two-dimensional quadrature of the density",
    given=(MEANS, st.floats(0.2, 2), MEANS, st.floats(0.2, 2)),
    examples=6,
)
def normaliser_of_two_coordinates(
    evidence: Evidence, m1: float, v1: float, m2: float, v2: float
) -> None:
    """d/2 log 2 pi normalises; 1/2 log 2 pi does not, yet the divergence is the same with it."""
    m, p = np.array([m1, m2]), np.array([m2, m1])
    axis = [np.linspace(c - 9 * np.sqrt(v1), c + 9 * np.sqrt(v1), 161) for c in m]
    points = np.stack(np.meshgrid(*axis, indexing="ij"), axis=-1)

    def integral(values: Array) -> float:
        inner = integrate.trapezoid(values, axis[1], axis=1)
        return float(integrate.trapezoid(inner, axis[0]))

    log_q, log_p = log_density(points, m, v1), log_density(points, p, v2)
    evidence.close(integral(np.exp(log_q)), 1.0, atol=1e-9, what="mass")
    # The printed normaliser lacks (d - 1)/2 log 2 pi.
    lost = np.log(2 * np.pi) / 2
    evidence.close(
        integral(np.exp(log_q + lost)), np.sqrt(2 * np.pi), atol=1e-8, what="mass as printed"
    )
    divergence = integral(np.exp(log_q) * ((log_q + lost) - (log_p + lost)))
    evidence.close(kl_isotropic(m, v1, p, v2), divergence, rtol=1e-8, atol=1e-8, what="KL")


@proof(
    "T-fn19",
    of=entropy,
    oracle="scipy's entropy of a multivariate normal law",
    given=(st.integers(1, 4), VARIANCES),
)
def entropy_of_scipy(evidence: Evidence, size: int, variance: float) -> None:
    """The entropy is d/2 log(2 pi e variance)."""
    want = stats.multivariate_normal(np.zeros(size), variance * np.eye(size)).entropy()
    evidence.close(entropy(variance, size), want, what="entropy", **ROUNDING)


@proof(
    "G-39b",
    of=kl_equal_variance,
    oracle="quadrature, and scipy's Mahalanobis distance",
    given=(MEANS, MEANS, VARIANCES),
)
def half_the_squared_distance(evidence: Evidence, m1: float, m2: float, v: float) -> None:
    """The divergence is half the squared Mahalanobis distance, not the squared distance."""
    distance = float(mahalanobis([m1], [m2], [[1 / v]]))
    want = quad_kl(m1, np.sqrt(v), m2, np.sqrt(v))
    evidence.close(distance**2 / 2, want, what="half the squared distance", **QUADRATURE)
    evidence.close(kl_equal_variance([m1], [m2], v), want, what="KL", **QUADRATURE)
    # Named by the text: the distance squared, twice the divergence.
    evidence.holds(m1 == m2 or distance**2 > 1.9 * want - 1e-9, "the whole square is too large")


@proof(
    "V-eq5",
    of=(kl_equal_variance, kl_isotropic),
    oracle="quadrature of scipy's densities",
    given=(MEANS, MEANS, st.floats(0.05, 0.9), st.floats(1.2, 4)),
)
def only_the_posterior_variance(
    evidence: Evidence, m1: float, m2: float, v: float, factor: float
) -> None:
    """Another variance of the model's step changes the weight and adds a constant."""
    wide = factor * v
    want = quad_kl(m1, np.sqrt(v), m2, np.sqrt(wide))
    evidence.close(kl_isotropic([m1], v, [m2], wide), want, what="other variance", **QUADRATURE)
    constant = quad_kl(0, np.sqrt(v), 0, np.sqrt(wide))
    moved = float(kl_equal_variance([m1], [m2], v)) / factor
    evidence.close(moved + constant, want, what="weight and constant", **QUADRATURE)
    evidence.holds(constant > 1e-3, "the constant does not vanish")


def sum_of_quadratures(mean_q: Any, variance_q: Any, mean_p: Any, variance_p: Any) -> Array:
    """Divergence of independent coordinates, each by quadrature."""
    laws = np.broadcast_arrays(mean_q, np.sqrt(variance_q), mean_p, np.sqrt(variance_p))
    return np.asarray(np.sum(np.vectorize(quad_kl)(*laws), axis=-1))


def of_equal_variance(mean_q: Any, mean_p: Any, variance: Any) -> Array:
    """The same with one variance."""
    wide = np.asarray(variance, dtype=np.float64)[..., None]
    return sum_of_quadratures(mean_q, wide, mean_p, wide)


def vectors(low: float, high: float) -> st.SearchStrategy[Array]:
    """Two coordinates."""
    return generators().map(lambda rng: rng.uniform(low, high, 2))


refuted = partial(misprint, "G-40", oracle="quadrature of scipy's densities", rtol=1e-8, atol=1e-10)


@refuted(
    of=kl_equal_variance,
    truth=of_equal_variance,
    counterexample=Counterexample(([0.3], [0.0], 0.04), printed=28.125, right=1.125),
    search=(vectors(-2, 2), vectors(-2, 2), VARIANCES),
)
def squared_norm_of_the_covariance(mean_q: Any, mean_p: Any, variance: Any) -> Array:
    """Twice the squared norm of variance I as divisor, so the variance counts twice."""
    square = np.sum((np.asarray(mean_q) - np.asarray(mean_p)) ** 2, axis=-1)
    return np.asarray(square / (2 * np.asarray(variance) ** 2))


@refuted(
    of=kl_diagonal,
    truth=sum_of_quadratures,
    counterexample=Counterexample(
        ([0.3, 0.3], [0.04, 0.09], [0.0, 0.0], [0.04, 0.09]), printed=11.1111, right=1.625
    ),
    search=(vectors(-2, 2), vectors(0.05, 4), vectors(-2, 2), vectors(0.05, 4)),
)
def one_norm_for_a_diagonal(mean_q: Any, _: Any, mean_p: Any, variance_p: Any) -> Array:
    """One divisor for all coordinates of a diagonal covariance, its squared norm."""
    square = np.sum((np.asarray(mean_q) - np.asarray(mean_p)) ** 2, axis=-1)
    return np.asarray(square / (2 * np.max(variance_p, axis=-1) ** 2))


@refuted(
    of=kl_diagonal,
    truth=sum_of_quadratures,
    counterexample=Counterexample(
        ([0.3, 0.3], [0.04, 0.09], [0.0, 0.0], [0.08, 0.09]), printed=1.0625, right=1.15907
    ),
    search=(vectors(-2, 2), vectors(0.05, 4), vectors(-2, 2), vectors(0.05, 4)),
)
def trace_and_determinant_dropped(mean_q: Any, _: Any, mean_p: Any, variance_p: Any) -> Array:
    """The distance of the means alone, although a learned covariance differs from that of q."""
    square = (np.asarray(mean_q) - np.asarray(mean_p)) ** 2
    return np.asarray(np.sum(square / (2 * np.asarray(variance_p)), axis=-1))
