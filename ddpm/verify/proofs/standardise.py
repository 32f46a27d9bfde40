"""Standardised data, and what of the chain needs them: correlated data in two dimensions."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.forward import q_mean_variance
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.standardise import Standardiser
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas

SHAPES = st.sampled_from([(1, 3), (7,), (20, 2), (9, 2, 3)])


@proof(
    "T-4.1", "T-fn1",
    of=(Standardiser, Standardiser.fit, Standardiser.standardise, Standardiser.restore),
    oracle="scipy's z-scores",
    given=(generators(), SHAPES, st.floats(1e-3, 1e3)),
)  # fmt: skip
def round_trip(
    evidence: Evidence, rng: np.random.Generator, shape: tuple[int, ...], scale: float
) -> None:
    """Training data come out with mean 0 and variance 1, and back unchanged; so do new data."""
    data = scale * rng.normal(3.0, 2.0, shape)
    scaler = Standardiser.fit(data)
    got = scaler.standardise(data)
    if shape[0] > 1:
        evidence.close(got, stats.zscore(data, axis=0), rtol=1e-9, atol=1e-9, what="z-score")
    new = scale * rng.normal(size=(5, *shape[1:]))
    evidence.close(
        scaler.restore(scaler.standardise(new)), new, rtol=1e-9, atol=1e-9 * scale, what="x"
    )
    evidence.close(scaler.restore(got), data, rtol=1e-12, atol=1e-12 * scale, what="training data")


@proof(
    "T-4.1",
    of=(Standardiser.fit, Standardiser.standardise, Standardiser.restore),
    oracle="the constant itself",
    given=(st.floats(-1e3, 1e3), st.integers(1, 9)),
)
def constant_features(evidence: Evidence, value: float, count: int) -> None:
    """A feature that never varies becomes exactly 0 and comes back exactly; its scale is kept."""
    data = np.stack([np.full(count, value), np.arange(count, dtype=float)], axis=1)
    scaler = Standardiser.fit(data)
    evidence.equal(scaler.standardise(data)[:, 0], np.zeros(count), "standardised constant")
    evidence.equal(scaler.restore(np.zeros((1, 2)))[0, 0], value, "restored constant")
    moved = scaler.standardise([[value + 0.5, 0.0]])[0, 0]
    evidence.close(moved, 0.5, rtol=1e-9, what="a new value half a unit away")


def planar_covariance(steps: Array, data: Array) -> Array:
    """Covariance of all levels in two dimensions, level by level, each step on its own draw."""
    size = steps.size + 1
    rows = np.zeros((2 * size, 2 * size))
    rows[:2, :2] = np.linalg.cholesky(data)
    for t, beta in enumerate(steps, start=1):
        here = slice(2 * t, 2 * t + 2)
        rows[here] = np.sqrt(1 - beta) * rows[2 * t - 2 : 2 * t]
        rows[here, here] = np.sqrt(beta) * np.eye(2)
    return rows @ rows.T


def regression(covariance: Array, target: int, given: list[int]) -> tuple[Array, Array]:
    """Weights of whole levels in the mean of another, and the covariance that is left."""
    known = [2 * level + i for level in given for i in (0, 1)]
    wanted = [2 * target, 2 * target + 1]
    cross = covariance[np.ix_(known, wanted)]
    weights: Array = np.linalg.solve(covariance[np.ix_(known, known)], cross).T.astype(np.float64)
    return weights, covariance[np.ix_(wanted, wanted)] - weights @ cross


@proof(
    "T-fn1",
    of=(Standardiser, q_mean_variance, posterior_coefficients),
    oracle="conditioning the joint covariance of correlated data in two dimensions",
    given=(st.data(), moderate_betas(), st.floats(-0.9, 0.9), st.floats(0.3, 3)),
)
def correlated_data(
    evidence: Evidence, data: st.DataObject, steps: Array, correlation: float, width: float
) -> None:
    """In any dimension the coefficients multiply the identity, though the data are correlated."""
    s, t = data.draw(level_pairs(steps.size))
    chain, unit = Chain(steps), np.eye(2)
    mixed = np.array([[1.0, correlation * width], [correlation * width, width**2]])
    covariance = planar_covariance(steps, mixed)
    weights, rest = regression(covariance, t, [0])
    mean, variance = q_mean_variance(np.array([[1.0, 0.0]]), chain.alpha_bar[t])
    evidence.close(weights, mean[0, 0] * unit, rtol=1e-9, atol=1e-10, what="weight of x_0 in x_t")
    evidence.close(rest, variance * unit, rtol=1e-9, atol=1e-10, what="covariance given x_0")
    if s == 0:
        return
    a, b, s2 = posterior_coefficients(chain, s, t)
    weights, rest = regression(covariance, s, [0, t])
    want = np.hstack([a * unit, b * unit])
    evidence.close(weights, want, rtol=1e-8, atol=1e-9, what="weights of x_0 and x_t in x_s")
    evidence.close(rest, s2 * unit, rtol=1e-8, atol=1e-10, what="covariance given x_0 and x_t")
