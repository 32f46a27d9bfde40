"""Steps on a subsequence of levels: their variance, the largest eta, samples of known data."""

from itertools import pairwise

import mpmath as mp
import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.ddim import (
    ddim_coefficients,
    ddim_kl_weight,
    ddim_sample,
    ddim_step,
    ddim_variance,
    largest_eta,
)
from ddpm.reference.sampling import Denoiser
from ddpm.reference.schedules import linear_schedule
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import PRECISION, condition, joint_covariance, signal_products
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import (
    Array,
    betas,
    generators,
    level_pairs,
    moderate_betas,
    subsequences,
)

# A solve in a covariance of condition number 1e4 leaves 1e-11.
SOLVED = 1e-9
LINEAR = linear_schedule(1000)
ETAS = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
MIDDLE = (moderate_betas(min_steps=3).map(Chain), st.just(1), st.just(3), st.floats(0.1, 1.0))


def conditioned(chain: Chain, s: ArrayLike, t: ArrayLike, eta: float) -> Array:
    """The share eta^2 of the variance that x_0 and x_t leave in x_s; no variance is left in x_0."""
    covariance = joint_covariance(chain.betas)

    def rest(low: int, high: int) -> float:
        return condition(covariance, low, [0, high])[1] if low else 0.0

    return np.asarray(eta**2 * np.vectorize(rest, otypes=[float])(s, t))


@proof(
    "L-tau", "L-2.14",
    of=ddim_variance,
    oracle="conditioning the joint covariance of all levels",
    given=(st.data(), moderate_betas(), st.floats(0, 1)),
)  # fmt: skip
def variance(evidence: Evidence, data: st.DataObject, steps: Array, eta: float) -> None:
    """sigma^2 is eta^2 times what the jump leaves, and 0 for the level that leads to x_0."""
    levels = np.array(data.draw(subsequences(steps.size)))
    got = ddim_variance(Chain(steps), levels[1:], levels[:-1], eta)
    want = conditioned(Chain(steps), levels[1:], levels[:-1], eta)
    evidence.close(got, want, rtol=SOLVED, what="sigma^2")


@misprint(
    "L-tau",
    of=ddim_variance,
    truth=conditioned,
    oracle="conditioning the joint covariance of all levels",
    counterexample=Counterexample(
        (LINEAR, np.array([1, 500, 900, 0]), np.array([101, 600, 1000, 100]), 1.0),
        printed=[0.04533, 0.1097, 0.1414, 0.0451],
        right=[0.01, 0.7965, 0.9237, 0.0],
    ),
    search=MIDDLE,
    value=np.sqrt,
)
def neighbouring_level(chain: Chain, _s: Levels, t: Levels, eta: float) -> Array:
    """The alpha of one step and the level before t, where the last one visited belongs."""
    one_step = chain.beta(t - 1, t)
    return np.asarray(
        eta**2 * one_step * chain.one_minus_alpha_bar[t - 1] / chain.one_minus_alpha_bar[t]
    )


@misprint(
    "L-tau",
    of=ddim_variance,
    truth=conditioned,
    oracle="conditioning the joint covariance of all levels",
    counterexample=Counterexample((LINEAR, 500, 600, 1.0), printed=0.1067, right=0.7965),
    search=MIDDLE,
    value=np.sqrt,
)
def alpha_of_one_step(chain: Chain, s: Levels, t: Levels, eta: float) -> Array:
    """The level visited before, but still the alpha of one step."""
    one_step = chain.beta(t - 1, t)
    return np.asarray(
        eta**2 * one_step * chain.one_minus_alpha_bar[s] / chain.one_minus_alpha_bar[t]
    )


@proof("L-tau", of=ddim_variance, oracle="conditioning the joint covariance of all levels")
def printed_radicands(evidence: Evidence) -> None:
    """The printed sigma leaves negative radicands at eta = 1; it is right only on all levels."""
    room = 1 - joint_covariance(LINEAR.betas)[0] ** 2
    for s, t, want in ((1, 101, -1.95e-3), (0, 100, -2.0e-3)):
        printed = neighbouring_level(LINEAR, s, t, 1.0)
        evidence.at_most(abs(room[s] - printed - want), 5e-5, "distance from the figure")
        right = ddim_variance(LINEAR, s, t, 1.0)
        evidence.at_most(right, room[s] + 1e-15, "sigma^2 against the room")
    every = np.arange(1, 1001)
    printed = neighbouring_level(LINEAR, every - 1, every, 1.0)
    evidence.close(
        ddim_variance(LINEAR, every - 1, every, 1.0), printed, rtol=1e-14, what="all levels"
    )


@proof(
    "L-tau-etamax",
    of=(largest_eta, ddim_variance),
    oracle="conditioning the joint covariance of all levels",
    given=(st.data(), moderate_betas(min_steps=2)),
)
def largest(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """At the largest eta, at least 1, sigma^2 is all the noise of level s; more is refused."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain, covariance = Chain(steps), joint_covariance(steps)
    room, rest = 1 - covariance[0, s] ** 2, condition(covariance, s, [0, t])[1]
    got = float(largest_eta(chain, s, t))
    evidence.close(got, np.sqrt(room / rest), rtol=SOLVED, what="largest eta")
    evidence.at_most(1.0, got, "1 against the largest eta")
    evidence.close(ddim_variance(chain, s, t, got), room, rtol=SOLVED, what="sigma^2")
    unit = np.eye(3)
    x = ddim_step(chain, s, t, unit[0], unit[1], unit[2], got)
    want = np.array([0.0, covariance[0, s], np.sqrt(room)])
    evidence.close(x, want, atol=1e-7, what="step at the largest eta, which forgets x_t")
    try:
        ddim_variance(chain, s, t, got * (1 + 1e-15))
    except ValueError:
        return
    evidence.holds(False, "a larger eta is refused")


@proof(
    "L-2.13", "L-Lemma2.1", "L-tau", "L-tau-etamax", "L-DDIM-KL",
    of=(ddim_coefficients, ddim_variance, ddim_step, largest_eta, ddim_kl_weight),
    oracle="arithmetic of 135 digits",
    given=(st.data(), betas(), ETAS, st.floats(1e-6, 0.999)),
)  # fmt: skip
def last_digit(
    evidence: Evidence, data: st.DataObject, steps: Array, eta: float, share: float
) -> None:
    """Every coefficient is right to the last digit, whatever the betas."""
    s, t = data.draw(level_pairs(steps.size))
    chain, products = Chain(steps), signal_products(steps)
    sigma2 = float(share * chain.one_minus_alpha_bar[s])
    with mp.workprec(PRECISION):
        kept, room = signal_products(steps[s:t])[-1], 1 - products[s] - mp.mpf(sigma2)
        noise = 1 - products[t]
        b = mp.sqrt(room / noise)
        a = mp.sqrt(products[s]) - mp.sqrt(products[t]) * b
        posterior = (1 - kept) * (1 - products[s]) / noise
        scaled, bound = mp.mpf(eta) ** 2 * posterior, mp.sqrt(noise / (1 - kept))
        slope = mp.sqrt((1 - products[s] - scaled) / noise)
        weights = [mp.sqrt(products[s]) - mp.sqrt(products[t]) * slope, slope, mp.sqrt(scaled)]
    got = ddim_coefficients(chain, s, t, sigma2)
    evidence.ulps(np.stack(got), [a, b, mp.mpf(sigma2)], 1.0, "(a, b, s2)")
    evidence.ulps(ddim_variance(chain, s, t, eta), [scaled], 1.0, "sigma^2")
    unit = np.eye(3)
    moved = ddim_step(chain, s, t, unit[1], unit[0], unit[2], eta)
    evidence.ulps(moved, weights, 1.0, "weights of a step")
    evidence.ulps(largest_eta(chain, s, t), [bound if s else mp.inf], 1.0, "largest eta")
    if s and products[t]:
        with mp.workprec(PRECISION):
            weight = (mp.sqrt(room) - mp.sqrt(noise / kept)) ** 2 / (2 * mp.mpf(sigma2))
        evidence.ulps(ddim_kl_weight(chain, s, t, sigma2), [weight], 1.0, "weight")


def gaussian_denoiser(chain: Chain, data_variance: float) -> Denoiser:
    """E[x_0 | x_t] of data N(0, data_variance), by regression in the covariance of a level."""

    def denoised(x: Array, t: int) -> Array:
        signal = joint_covariance([chain.one_minus_alpha_bar[t]], data_variance)
        return np.asarray(condition(signal, 0, [1])[0] * x)

    return denoised


def evenly(count: int) -> list[int]:
    """Levels T i / S of a chain of 1000 steps, and 0."""
    return [1000 * i // count for i in range(count, -1, -1)]


@proof(
    "L-DDIM-exact",
    of=(ddim_sample, ddim_step),
    oracle="regressions of x_s on x_t in the covariance of levels that hold one noise",
)
def samples_of_gaussian_data(evidence: Evidence) -> None:
    """Variance of deterministic samples of N(0, 1/2), whose limit is reached from below."""
    known = {10: 0.3155, 20: 0.3983, 50: 0.4566, 100: 0.4777, 500: 0.4954, 1000: 0.4977}
    denoiser, found = gaussian_denoiser(LINEAR, 0.5), []
    for count, figure in known.items():
        levels = np.array(evenly(count))
        c = np.sqrt(np.cumprod(np.concatenate([[1.0], 1 - LINEAR.betas])))[levels]
        rows = np.stack([np.sqrt(0.5) * c, np.sqrt(1 - c**2)], axis=1)
        slopes = np.sum(rows[1:] * rows[:-1], axis=1) / np.sum(rows[:-1] ** 2, axis=1)
        one = np.ones(count)
        estimates = np.concatenate([denoiser(np.ones(1), int(t)) for t in levels[:-1]])
        steps = ddim_step(LINEAR, levels[1:], levels[:-1], one, estimates, one)
        evidence.close(steps, slopes, rtol=SOLVED, what=f"slopes, {count} levels")
        found.append(float(np.prod(steps) ** 2))
        evidence.at_most(abs(found[-1] - figure), 5e-5, f"distance from {figure}")
        if count < 100:
            noise = np.zeros((count + 1, 1))
            noise[-1] = 1.0
            walked = ddim_sample(LINEAR, denoiser, levels.tolist(), noise)
            evidence.close(walked**2, found[-1], rtol=SOLVED, what=f"variance, {count} levels")
    evidence.holds(np.all(np.diff(found) > 0) and found[-1] < 0.5, "the variance grows towards .5")


@proof(
    "L-DDIM-exact", "L-tau",
    of=ddim_sample,
    oracle="the point itself",
    given=(subsequences(1000), ETAS, generators()),
    examples=20,
)  # fmt: skip
def samples_of_a_point(
    evidence: Evidence, levels: list[int], eta: float, rng: np.random.Generator
) -> None:
    """With the exact noise of a point mass every eta and every subsequence return the point."""
    point, noise = rng.normal(size=3), rng.normal(size=(len(levels), 3))

    def exact(x: Array, t: int) -> Array:
        eps = (x - LINEAR.c[t] * point) / LINEAR.d[t]
        return np.asarray((x - LINEAR.d[t] * eps) / LINEAR.c[t])

    got = ddim_sample(LINEAR, exact, levels, noise, eta)
    # The estimate divides by an amplitude of at least 0.0063 after subtracting numbers of size 1.
    evidence.close(got, point, atol=1e-12, what="sample")


@proof(
    "L-DDIM-exact", "G-3.5-DDIM",
    of=ddim_sample,
    oracle="regressions of x_s on x_t in the joint covariance, with what they leave over",
    given=(st.data(), moderate_betas(max_steps=6), st.floats(0.05, 3.0)),
)  # fmt: skip
def samples_with_noise(
    evidence: Evidence, data: st.DataObject, steps: Array, data_variance: float
) -> None:
    """At eta = 1 the exact estimate of Gaussian data gives the regression of the chain's x_s."""
    levels, chain = data.draw(subsequences(steps.size)), Chain(steps)
    denoiser, called = gaussian_denoiser(chain, data_variance), []

    def counted(x: Array, t: int) -> Array:
        called.append(t)
        return denoiser(x, t)

    weights = ddim_sample(chain, counted, levels, np.eye(len(levels)), eta=1.0)
    evidence.equal(called, levels[:-1], "levels at which the model is called")
    truth, unit, total = joint_covariance(steps, data_variance), joint_covariance(steps), 1.0
    for t, s in pairwise(levels):
        slope = condition(truth, s, [t])[0][0]
        total = slope**2 * total + (condition(unit, s, [0, t])[1] if s else 0.0)
    evidence.close(weights @ weights, total, rtol=1e-8, what="variance of the samples")
