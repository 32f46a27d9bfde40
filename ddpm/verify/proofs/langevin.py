"""Langevin steps by exact moments, a matrix over a grid, and samples with a fixed seed."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.langevin import (
    annealed_langevin,
    langevin,
    langevin_step,
    stationary_variance,
)
from ddpm.reference.mixture import Mixture
from ddpm.verify.evidence import Evidence
from ddpm.verify.proofs.mixture import UNIT_BIMODAL, density
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators

# A step of Gaussian data is linear, so that three evaluations give its moments to rounding; a grid
# of step 0.05 carries a smooth law to 1e-9.
GRID = np.linspace(-6.0, 6.0, 241)


def linear_moments(variance: float, h: float) -> tuple[float, float]:
    """Factor on x and variance of the noise in one step for data N(0, variance)."""
    x, z = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    shift, gain, kick = langevin_step(lambda y: -y / variance, x, h, z)
    return float(gain - shift), float((kick - shift) ** 2)


@proof(
    "X-langevin",
    of=(langevin_step, stationary_variance),
    oracle="the recursion of the variance, run until it rests",
    given=(st.floats(0.2, 3.0), st.floats(0.05, 0.9)),
)
def the_variance_at_rest(evidence: Evidence, variance: float, share: float) -> None:
    """From any start the variance of the chain comes to rest at the closed form."""
    h = 2 * variance * share
    gain, kick = linear_moments(variance, h)
    for value in (0.0, 5.0):
        for _ in range(400):
            value = gain**2 * value + kick
        evidence.close(stationary_variance(variance, h), value, rtol=1e-9, what="variance")


@proof(
    "X-langevin",
    of=stationary_variance,
    oracle="the law of the data, approached by steps of half the length",
    given=(st.floats(0.2, 3.0),),
)
def the_bias_is_of_first_order(evidence: Evidence, variance: float) -> None:
    """The excess over the data's variance is h / 2 to first order, and unbounded at h = 2 v."""
    lengths = variance * np.array([1e-2, 5e-3, 2.5e-3])
    excess = [float(stationary_variance(variance, h)) - variance for h in lengths.tolist()]
    evidence.close(excess / lengths, 0.5, rtol=0.01, what="excess over the step")
    orders = np.log2(np.divide(excess[:-1], excess[1:]))
    evidence.close(orders, np.ones(2), atol=0.01, what="order")
    evidence.holds(stationary_variance(variance, 1.9999 * variance) > 1e3 * variance, "it diverges")


@proof(
    "X-langevin",
    of=(langevin, langevin_step),
    oracle="the transition matrix over a grid, and its law at rest",
)
def the_law_at_rest_of_bimodal_data(evidence: Evidence) -> None:
    """The law at rest differs from the data by the order of the step, for a score of two modes."""
    goal = density(UNIT_BIMODAL, GRID)
    gaps = []
    for h in (0.04, 0.02):
        drift = langevin_step(lambda x: UNIT_BIMODAL.score(x, 1.0, 0.0), GRID, h, 0 * GRID)
        width = langevin(lambda x: 0 * x, np.zeros(1), h, np.ones((1, 1)))[0]
        matrix = stats.norm.pdf(GRID[:, None], drift, width) * (GRID[1] - GRID[0])
        values, vectors = np.linalg.eig(matrix)
        first = np.argmax(values.real)
        evidence.close(values[first].real, 1.0, atol=1e-6, what="mass kept")
        rest = vectors[:, first].real
        rest /= rest.sum() * (GRID[1] - GRID[0])
        gaps.append(np.abs(rest - goal).max())
    evidence.close(gaps[0] / gaps[1], 2.0, rtol=0.1, what="gap at twice the step")
    evidence.at_most(gaps[1], 0.01, what="gap")


@proof(
    "X-langevin",
    of=(langevin, annealed_langevin),
    oracle="the steps written out one by one",
    given=(generators(), st.floats(0.01, 0.3)),
)
def steps_one_by_one(evidence: Evidence, rng: np.random.Generator, h: float) -> None:
    """Each step uses its own noise; each level its own score and a step as wide as its variance."""
    x, noises, sigmas = rng.normal(size=(3, 2)), rng.normal(size=(3, 4, 3, 2)), [2.0, 1.0, 0.5]
    want = x
    for z in noises[0]:
        want = want + h * np.cos(want) + (2 * h) ** 0.5 * z
    evidence.close(langevin(np.cos, x, h, noises[0]), want, rtol=1e-11, atol=1e-12, what="end")
    want = x
    for sigma, scale, draws in zip(sigmas, (16.0, 4.0, 1.0), noises, strict=True):
        for z in draws:
            want = want + h * scale * np.cos(sigma * want) + (2 * h * scale) ** 0.5 * z
    got = annealed_langevin(lambda y, sigma: np.cos(sigma * y), x, sigmas, h, noises)
    evidence.close(got, want, rtol=1e-9, atol=1e-10, what="end of the last level")


@proof(
    "X-langevin",
    of=(langevin, annealed_langevin),
    oracle="the shares of two distant modes, by samples with a fixed seed",
)
def annealing_finds_both_modes(evidence: Evidence) -> None:
    """Plain steps stay in the mode where they start; annealed ones are shared as the data are."""
    data = Mixture(np.array([0.25, 0.75]), np.array([-4.0, 4.0]), np.array([0.1, 0.1]))
    rng, start = np.random.default_rng(3), np.full(1000, -4.0)
    sigmas = np.geomspace(10.0, 0.1, 12).tolist()
    noises = rng.normal(size=(12, 40, 1000))

    def score(x: Array, sigma: float) -> Array:
        return data.score(x, 1.0, sigma**2)

    plain = langevin(lambda x: score(x, 0.0), start, 0.002, np.concatenate(noises))
    evidence.holds(plain < 0, "plain steps never leave the mode in which they start")
    annealed = annealed_langevin(score, start, sigmas, 0.002, noises)
    evidence.mean(annealed < 0, 0.25, what="share of the left mode")
    evidence.close(np.var(annealed[annealed > 0]), 0.11, rtol=0.2, what="variance of a mode")
