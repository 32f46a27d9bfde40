"""The hybrid loss against quadrature, enumeration of the levels and differences."""

from collections.abc import Callable
from functools import partial

import numpy as np
from hypothesis import strategies as st
from scipy import optimize, stats

from ddpm.reference.chain import Chain
from ddpm.reference.forward import q_sample
from ddpm.reference.hybrid import (
    RATE,
    bound_term,
    hybrid_estimate,
    hybrid_gradient,
    hybrid_loss,
)
from ddpm.reference.objectives import simple_loss
from ddpm.reference.variances import log_interpolated_variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, quad_kl
from ddpm.verify.proofs.objectives import mean_of
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, moderate_betas

# Quadrature with 200 nodes leaves 1e-9 of a divergence.
DIVERGENCE = {"rtol": 1e-7, "atol": 1e-9}

# Sums of some ten terms of size one.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


@proof(
    "G-45", "G-40",
    of=bound_term,
    oracle="regressions in the joint covariance, and quadrature for each element",
    given=(st.data(), moderate_betas(min_steps=2), generators()),
    examples=25,
)  # fmt: skip
def divergence_of_each_element(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """From level 2 on the term is the divergence, trace and determinant included."""
    t = data.draw(st.integers(2, steps.size))
    x0, x_t, mean = rng.normal(size=(3, 2, 3))
    variance = rng.uniform(0.05, 1, (2, 3))
    _, s2 = condition(joint_covariance(steps), t - 1, [0, t])
    target = mean_of("x0", x0, x_t, steps, t - 1, t)
    want = np.vectorize(quad_kl)(target, np.sqrt(s2), mean, np.sqrt(variance))
    got = bound_term(x0, x_t, Chain(steps), t, mean, variance)
    evidence.close(got, np.sum(want, axis=1), what="divergence", **DIVERGENCE)


@proof(
    "G-45",
    of=bound_term,
    oracle="areas between the bins' edges by scipy's distribution function",
    given=(generators(),),
    examples=25,
)
def first_term_is_the_decoder(evidence: Evidence, rng: np.random.Generator) -> None:
    """At level 1 the term is -log p(x_0 | x_1), with the variance predicted for each element."""
    x0 = rng.integers(0, 5, (2, 3)) / 2 - 1
    mean, variance = rng.uniform(-1, 1, (2, 3)), rng.uniform(0.1, 1, (2, 3))
    law = stats.norm(mean, np.sqrt(variance))
    upper = np.where(x0 == 1, 1.0, law.cdf(x0 + 0.25))
    lower = np.where(x0 == -1, 0.0, law.cdf(x0 - 0.25))
    got = bound_term(x0, 0 * x0, Chain([0.1, 0.2]), 1, mean, variance, levels=5)
    evidence.close(got, -np.sum(np.log(upper - lower), axis=1), rtol=1e-10, what="ell_1")


def toy(first: float, slope: float, error: float) -> Callable[[int], Array]:
    """A term of the form of the bound's, for every t, with beta_0 > 0 and alpha_bar_0 = 1."""

    def term(t: int) -> Array:
        betas = first + slope * np.arange(1, t + 1)
        beta = np.float64(first + slope * t)
        return np.asarray(beta**2 * error / (2 * (1 - beta) * (1 - np.prod(1 - betas))))

    return term


def toys() -> st.SearchStrategy[Callable[[int], Array]]:
    """Terms with betas that stay below one up to t = 8."""
    sizes = st.floats(0.01, 0.1)
    return st.builds(toy, sizes, sizes, st.floats(0.1, 1))


def quadratic(rng: np.random.Generator) -> Callable[[int], Array]:
    """Squared errors of a batch of two, other ones at each level."""
    a, b = rng.uniform(0.1, 1, (2, 2))
    return lambda t: np.asarray(a + b * t)


def enumerated(
    simple: Callable[[int], Array], term: Callable[[int], Array], steps: int, rate: float = RATE
) -> Array:
    """Mean over a uniform level of ell(t) + rate T ell_t."""
    law, total = stats.randint(1, steps + 1), np.zeros(())
    for t in range(-1, steps + 3):
        if law.pmf(t) > 0:
            total = total + law.pmf(t) * (simple(t) + rate * steps * term(t))
    return total


@proof(
    "G-45",
    of=hybrid_loss,
    oracle="scipy's law of a uniform level, and its expectation",
    given=(st.integers(1, 6), st.floats(0, 0.1), generators().map(quadratic), toys()),
)
def sum_over_levels(
    evidence: Evidence,
    steps: int,
    rate: float,
    simple: Callable[[int], Array],
    term: Callable[[int], Array],
) -> None:
    """The simple loss is a mean over the levels 1..T, the bound a sum over the same."""
    want = enumerated(simple, term, steps, rate)
    evidence.close(hybrid_loss(simple, term, steps, rate), want, what="loss", **ROUNDING)
    usual = enumerated(simple, term, steps, 0.001)
    evidence.close(hybrid_loss(simple, term, steps), usual, what="loss at 0.001", **ROUNDING)


@misprint(
    "G-45",
    of=hybrid_loss,
    truth=enumerated,
    oracle="expectation over scipy's law of a uniform level",
    counterexample=Counterexample(
        (lambda t: np.asarray(1.0 / t), toy(0.1, 0.1, 0.5), 3, 0.1), printed=np.inf, right=0.63471
    ),
    search=(
        generators().map(quadratic),
        toys(),
        st.integers(1, 6),
        st.floats(1e-4, 0.1),
    ),
)
def sum_from_level_zero(
    simple: Callable[[int], Array], term: Callable[[int], Array], steps: int, rate: float = RATE
) -> Array:
    """The sum starts at t = 0, where 1 - alpha_bar_0 = 0 divides any beta_0."""
    return np.asarray(hybrid_loss(simple, term, steps, rate) + rate * term(0))


@proof(
    "G-45-T",
    of=(hybrid_estimate, hybrid_loss),
    oracle="all levels enumerated, and levels drawn at random",
    given=(st.integers(2, 6), generators(), toys()),
    examples=20,
)
def one_level_estimates_all(
    evidence: Evidence, steps: int, rng: np.random.Generator, term: Callable[[int], Array]
) -> None:
    """With the factor T the estimate has the hybrid loss as its mean; without, another."""
    simple = quadratic(rng)

    def estimate(t: int, count: int, rate: float = RATE) -> Array:
        return hybrid_estimate(simple(t), np.broadcast_to(term(t), (2,)), count, rate)

    levels = range(1, steps + 1)
    mean = np.mean([estimate(t, steps) for t in levels], axis=0)
    evidence.close(mean, hybrid_loss(simple, term, steps), what="mean of estimates", **ROUNDING)
    heavy = np.array([estimate(t, steps, 1.0) for t in levels])
    want = hybrid_loss(simple, term, steps, 1.0)
    evidence.mean(heavy[rng.integers(0, steps, 4000)], want, "estimates at random levels")
    lost = want - np.mean([estimate(t, 1, 1.0) for t in levels], axis=0)
    share = (steps - 1) * np.mean([term(t) for t in levels])
    evidence.close(lost, share, rtol=1e-9, what="lost without the factor")


@proof(
    "G-45", "G-45-T",
    of=(hybrid_gradient, hybrid_estimate, bound_term),
    oracle="central differences of the estimate, its mean held fixed",
    given=(st.data(), moderate_betas(min_steps=2), generators()),
    examples=12,
)  # fmt: skip
def gradient_stops_at_the_mean(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """The slope by v is that of the bound, the slope by the noise that of the simple loss."""
    t, rate = data.draw(st.integers(2, steps.size)), 0.1
    chain = Chain(steps)
    x0, noise, output = rng.normal(size=(3, 2, 3))
    fraction = rng.uniform(-0.2, 1.2, (2, 3))
    x_t = q_sample(x0, chain.alpha_bar[t], noise)
    mean = mean_of("eps", output, x_t, steps, t - 1, t)

    def loss(guess: Array, v: Array) -> Array:
        variance = log_interpolated_variance(chain, t - 1, t, v)
        term = bound_term(x0, x_t, chain, t, mean, variance)
        return hybrid_estimate(simple_loss(noise, guess), term, chain.steps, rate)

    got = hybrid_gradient(x0, noise, chain, t, output, fraction, rate)
    way, width = rng.normal(size=(2, 3)), 1e-5
    by_v = loss(output, fraction + width * way) - loss(output, fraction - width * way)
    by_output = loss(output + width * way, fraction) - loss(output - width * way, fraction)
    # A central difference of width 1e-5 leaves 1e-10 of the value and of its third slope.
    scale = 1e-8 * (1 + np.abs(got.fraction).max() + np.abs(loss(output, fraction)).max())
    for slopes, change in ((got.fraction, by_v), (got.output, by_output)):
        along = np.sum(slopes * way, axis=1)
        evidence.close(along, change / (2 * width), atol=scale, what="slope along a direction")
    usual = hybrid_gradient(x0, noise, chain, t, output, fraction)
    evidence.close(usual.fraction, got.fraction / 100, rtol=1e-12, what="slope at the usual rate")


@proof(
    "G-45", "G-40",
    of=bound_term,
    oracle="numerical minimisation over the variance",
    given=(st.data(), moderate_betas(min_steps=2), generators()),
    examples=12,
)  # fmt: skip
def best_learned_variance(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """The term is least at s2 + |error|^2 / d; the distance alone would only ask for more."""
    t = data.draw(st.integers(2, steps.size))
    x0, x_t = rng.normal(size=(2, 1, 4))
    target = mean_of("x0", x0, x_t, steps, t - 1, t)
    mean = target + rng.uniform(0.1, 0.5, (1, 4))
    _, s2 = condition(joint_covariance(steps), t - 1, [0, t])
    term = partial(bound_term, x0, x_t, Chain(steps), t, mean)

    def loss(log_variance: float) -> float:
        return float(term(np.full((1, 4), np.exp(log_variance)))[0])

    found = optimize.minimize_scalar(
        loss, bounds=(-12, 3), method="bounded", options={"xatol": 1e-8}
    )
    want = s2 + np.mean((mean - target) ** 2)
    # A minimum is found to the root of the precision of its value.
    evidence.close(np.exp(found.x), want, rtol=1e-5, what="best variance")
    evidence.holds(loss(np.log(want) + 1) > loss(np.log(want)), "more variance costs again")
    distance = [np.sum((mean - target) ** 2) / (2 * v) for v in (want, np.e * want)]
    evidence.holds(distance[1] < distance[0], "the distance alone falls without end")
