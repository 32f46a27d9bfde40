"""Sums, conditionals and marginals of normal laws against densities and exact node averages."""

from functools import partial

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.gaussian_algebra import (
    Law,
    affine_joint,
    affine_marginal,
    conditional,
    cross_covariance,
    decorrelate,
    independent_sum,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.proofs.gaussian import ROUNDING, covariance, hermite
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators

SIZES = st.integers(1, 2)


def moments(points: Array, weights: Array) -> Law:
    """Mean and covariance of weighted points."""
    mean = weights @ points
    return Law(mean, (weights[:, None] * (points - mean)).T @ (points - mean))


def product(x: tuple[Array, Array], y: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """Every pair of two sets of weighted points."""
    i, j = (axis.ravel() for axis in np.meshgrid(range(len(x[0])), range(len(y[0]))))
    return x[0][i], y[0][j], x[1][i] * y[1][j]


def flat(law: Law) -> Array:
    """All numbers of a law, for a comparison."""
    return np.concatenate([law.mean, law.covariance.ravel()])


def node_sum(mean_x: Array, spread_x: Array, mean_y: Array, spread_y: Array) -> Law:
    """Moments of X + Y over pairs of Gauss-Hermite nodes."""
    x, y, weights = product(hermite(mean_x, spread_x), hermite(mean_y, spread_y))
    return moments(x + y, weights)


@proof(
    "K-10-text",
    of=independent_sum,
    oracle="convolution of scipy's densities by quadrature",
    given=(generators(),),
    examples=20,
)
def convolution(evidence: Evidence, rng: np.random.Generator) -> None:
    """The density of the sum is the convolution, whose mean is the sum of the means."""
    (m1, m2), (v1, v2) = rng.normal(size=2), rng.uniform(0.3, 2, 2)
    law = independent_sum([m1], [[v1]], [m2], [[v2]])
    z = rng.normal(size=9) * 2
    reach = np.linspace(m1 - 12 * np.sqrt(v1), m1 + 12 * np.sqrt(v1), 2001)
    inside = stats.norm.pdf(reach, m1, np.sqrt(v1))
    other = stats.norm.pdf(z[:, None] - reach, m2, np.sqrt(v2))
    want = integrate.trapezoid(inside * other, reach, axis=1)
    got = stats.norm.pdf(z, law.mean[0], np.sqrt(law.covariance[0, 0]))
    evidence.close(got, want, rtol=1e-9, atol=1e-12, what="density of the sum")


@proof(
    "K-10-text",
    of=independent_sum,
    oracle="moments of the sum of two dependent coordinates",
    given=(st.integers(1, 3), generators()),
)
def independence_is_needed(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """Independent vectors add covariances; X + X has four times the covariance, not twice."""
    m1, m2 = rng.normal(size=(2, size))
    c1, c2 = covariance(rng, size), covariance(rng, size)
    got = independent_sum(m1, c1, m2, c2)
    pair = np.block([[c1, np.zeros((size, size))], [np.zeros((size, size)), c2]])
    both, weights = hermite(np.concatenate([m1, m2]), pair, nodes=2)
    want = moments(both[:, :size] + both[:, size:], weights)
    evidence.close(flat(got), flat(want), what="law of the sum", **ROUNDING)
    x, weights = hermite(m1, c1)
    twice = moments(2 * x, weights)
    evidence.close(twice.covariance, 4 * c1, what="covariance of X + X", **ROUNDING)
    evidence.holds(
        np.trace(twice.covariance) > 1.9 * np.trace(independent_sum(m1, c1, m1, c1).covariance),
        "dependence changes the covariance of a sum",
    )


@misprint(
    "K-10-text",
    of=independent_sum,
    truth=node_sum,
    oracle="moments over pairs of Gauss-Hermite nodes",
    counterexample=Counterexample(
        (np.ones(1), np.eye(1), np.ones(1), np.eye(1)), printed=[1.0, 2.0], right=[2.0, 2.0]
    ),
    search=(
        st.just(np.array([0.7, -0.4])),
        generators().map(lambda rng: covariance(rng, 2)),
        st.just(np.array([0.7, -0.4])),
        generators().map(lambda rng: covariance(rng, 2)),
    ),
    value=flat,
)
def mean_kept(mean_x: Array, spread_x: Array, _: Array, spread_y: Array) -> Law:
    """The sum of two laws with one mean keeps the mean."""
    return Law(mean_x, spread_x + spread_y)


def linear_case(rng: np.random.Generator, inner: int, outer: int) -> tuple[Array, ...]:
    """Mean and covariance of X, matrix, shift and noise of Y given X."""
    return (
        rng.normal(size=inner),
        covariance(rng, inner),
        rng.normal(size=(outer, inner)),
        rng.normal(size=outer),
        covariance(rng, outer),
    )


@proof(
    "L-B.2",
    of=(affine_joint, cross_covariance),
    oracle="scipy's density of X times that of Y given X",
    given=(SIZES, SIZES, generators()),
)
def joint_is_the_product(
    evidence: Evidence, inner: int, outer: int, rng: np.random.Generator
) -> None:
    """The joint density factorises into the marginal of X and the conditional of Y."""
    mean, spread, matrix, shift, noise = linear_case(rng, inner, outer)
    joint = affine_joint(mean, spread, matrix, shift, noise)
    x, y = rng.normal(size=(6, inner)), rng.normal(size=(6, outer))
    got = stats.multivariate_normal(joint.mean, joint.covariance).logpdf(np.hstack([y, x]))
    rest = stats.multivariate_normal(np.zeros(outer), noise).logpdf(y - x @ matrix.T - shift)
    want = stats.multivariate_normal(mean, spread).logpdf(x) + rest
    evidence.close(got, want, rtol=1e-9, atol=1e-9, what="log density of (Y, X)")


@proof(
    "L-B.2",
    of=affine_marginal,
    oracle="the conditional density averaged over Gauss-Hermite nodes of X",
    given=(SIZES, SIZES, generators()),
    examples=20,
)
def latent_integrated_out(
    evidence: Evidence, inner: int, outer: int, rng: np.random.Generator
) -> None:
    """The density of Y is that of Y given X, averaged over X."""
    mean, spread, matrix, shift, _ = linear_case(rng, inner, outer)
    matrix, noise = matrix / 4, covariance(rng, outer) + np.eye(outer)
    y = rng.normal(size=(5, outer)) + shift
    points, weights = hermite(mean, spread, nodes=40)
    offset = (y[:, None] - shift - points @ matrix.T).reshape(-1, outer)
    density = stats.multivariate_normal(np.zeros(outer), noise).pdf(offset).reshape(5, -1)
    law = affine_marginal(mean, spread, matrix, shift, noise)
    got = stats.multivariate_normal(law.mean, law.covariance).pdf(y)
    # Forty nodes resolve a density that is wider than the spread of the nodes.
    evidence.close(got, density @ weights, rtol=1e-8, atol=1e-12, what="density of Y")


def node_joint(mean: Array, spread: Array, matrix: Array, shift: Array, noise: Array) -> Law:
    """Moments of (A X + b + noise, X) over pairs of Gauss-Hermite nodes."""
    x, e, weights = product(hermite(mean, spread), hermite(0 * shift, noise))
    return moments(np.hstack([x @ matrix.T + shift + e, x]), weights)


def node_cross(spread: Array, matrix: Array) -> Array:
    """Average of X (A X)^T over Gauss-Hermite nodes."""
    x, weights = hermite(np.zeros(len(spread)), spread)
    return np.asarray((weights[:, None] * x).T @ (x @ matrix.T))


def square(low: float, high: float) -> st.SearchStrategy[Array]:
    """Matrices of two rows and columns."""
    return generators().map(lambda rng: rng.uniform(low, high, (2, 2)))


def pairs() -> st.SearchStrategy[Array]:
    """Vectors of two coordinates."""
    return generators().map(lambda rng: rng.normal(size=2))


def spreads(size: int) -> st.SearchStrategy[Array]:
    """Covariances of several coordinates."""
    return generators().map(lambda rng: covariance(rng, size))


@misprint(
    "L-B.2",
    of=affine_joint,
    truth=node_joint,
    oracle="moments over pairs of Gauss-Hermite nodes",
    counterexample=Counterexample(
        (np.zeros(1), np.eye(1), 2 * np.eye(1), np.zeros(1), 0.5 * np.eye(1)),
        printed=[0, 0, 4, 2, 2, 1],
        right=[0, 0, 4.5, 2, 2, 1],
    ),
    search=(pairs(), spreads(2), square(-2, 2), pairs(), spreads(2)),
    value=flat,
)
def noise_left_out(mean: Array, spread: Array, matrix: Array, shift: Array, noise: Array) -> Law:
    """The pair is built from A X + b, so that Y given X has no variance left."""
    return affine_joint(mean, spread, matrix, shift, 0 * noise)


@misprint(
    "L-B.2",
    of=cross_covariance,
    truth=node_cross,
    oracle="average over Gauss-Hermite nodes",
    counterexample=Counterexample(
        (np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 3.0], [0.0, 1.0]])),
        printed=[[3.5, 3.5], [0.5, 1.0]],
        right=[[3.5, 0.5], [3.5, 1.0]],
    ),
    search=(spreads(2), square(-2, 2)),
)
def transposed(spread: Array, matrix: Array) -> Array:
    """Cov(X, A X + b) written as A Cov(X, X), which is Cov(A X + b, X)."""
    return np.asarray(matrix @ spread)


@proof(
    "L-B.1",
    of=conditional,
    oracle="scipy's joint density over that of the known block",
    given=(SIZES, SIZES, generators()),
)
def conditional_is_the_quotient(
    evidence: Evidence, first: int, known: int, rng: np.random.Generator
) -> None:
    """The conditional density is the joint one over the marginal of what is known."""
    mean, spread = rng.normal(size=first + known), covariance(rng, first + known)
    value, points = rng.normal(size=known), rng.normal(size=(7, first))
    law = conditional(mean, spread, value)
    whole = np.hstack([points, np.broadcast_to(value, (7, known))])
    want = stats.multivariate_normal(mean, spread).logpdf(whole)
    want -= stats.multivariate_normal(mean[first:], spread[first:, first:]).logpdf(value)
    got = stats.multivariate_normal(law.mean, law.covariance).logpdf(points)
    evidence.close(got, want, rtol=1e-9, atol=1e-9, what="log density of the first block")


def node_blocks(x: Array, mean: Array, spread: Array, first: int) -> tuple[Array, Law]:
    """Moments of X with its regression on the last block taken out, over Gauss-Hermite nodes."""
    points, weights = hermite(mean, spread)
    root = np.sqrt(weights)[:, None]
    last = np.hstack([np.ones((len(points), 1)), points[:, first:]])
    fit = np.linalg.lstsq(root * last, root * points[:, :first], rcond=None)[0][1:]

    def change(values: Array) -> Array:
        residual = values[..., :first] - values[..., first:] @ fit
        return np.concatenate([residual, values[..., first:]], axis=-1)

    return change(x), moments(change(points), weights)


def flat_blocks(result: tuple[Array, Law]) -> Array:
    """All numbers of a point and a law."""
    return np.concatenate([result[0], flat(result[1])])


@proof(
    "L-B.1",
    of=decorrelate,
    oracle="least squares and moments over Gauss-Hermite nodes",
    given=(SIZES, SIZES, generators()),
)
def independent_blocks(
    evidence: Evidence, first: int, known: int, rng: np.random.Generator
) -> None:
    """B takes the regression out, so that the blocks of the new covariance share nothing."""
    mean, spread = rng.normal(size=first + known), covariance(rng, first + known)
    x = rng.normal(size=first + known)
    got, want = decorrelate(x, mean, spread, first), node_blocks(x, mean, spread, first)
    evidence.close(flat_blocks(got), flat_blocks(want), rtol=1e-9, atol=1e-10, what="z and its law")


blocks = partial(
    misprint,
    "L-B.1",
    of=decorrelate,
    truth=node_blocks,
    oracle="least squares and moments over Gauss-Hermite nodes",
    search=(
        generators().map(lambda rng: rng.normal(size=3)),
        generators().map(lambda rng: rng.normal(size=3)),
        spreads(3),
        st.just(2),
    ),
    atol=1e-10,
)


@blocks(
    counterexample=Counterexample(
        (np.array([2.0, 1.0]), np.zeros(2), np.array([[2.0, 1.0], [1.0, 2.0]]), 1),
        printed=[1.5, 1.0],
        right=[0.0, 0.0],
    ),
    value=lambda result: result[1].mean,
)
def vector_for_its_mean(x: Array, mean: Array, spread: Array, first: int) -> tuple[Array, Law]:
    """The mean of Z written as B X, which is Z itself."""
    z, law = decorrelate(x, mean, spread, first)
    return z, Law(z, law.covariance)


@blocks(
    counterexample=Counterexample(
        (
            np.zeros(3),
            np.zeros(3),
            np.array([[3.0, 1.7, 0.0], [1.7, 2.0, 0.0], [0.0, 0.0, 1.0]]),
            2,
        ),
        printed=np.diag([3.0, 2.0, 1.0]),
        right=[[3.0, 1.7, 0.0], [1.7, 2.0, 0.0], [0.0, 0.0, 1.0]],
    ),
    value=lambda result: result[1].covariance,
)
def diagonal_blocks(x: Array, mean: Array, spread: Array, first: int) -> tuple[Array, Law]:
    """The covariance of Z called diagonal, although only its blocks share nothing."""
    z, law = decorrelate(x, mean, spread, first)
    return z, Law(law.mean, np.diag(np.diag(law.covariance)))
