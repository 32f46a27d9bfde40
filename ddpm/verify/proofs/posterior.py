"""The posterior of a cleaner level against conditioning of the assembled covariance."""

import mpmath as mp
import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.arrays import per_sample
from ddpm.reference.chain import Chain, Levels
from ddpm.reference.posterior import (
    Coefficients,
    posterior_coefficients,
    posterior_mean_variance,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import PRECISION, condition, joint_covariance, signal_products
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import (
    Array,
    betas,
    generators,
    level_pairs,
    moderate_betas,
    shapes,
)

# Betas of at least 0.02 and at most eight steps keep the condition number of a covariance below
# about 1e4, so that a solve leaves 1e-11.
GOLDEN = Chain([0.1, 0.2, 0.3])
CHAINS = moderate_betas(min_steps=3).map(Chain)
NUMBERS = st.floats(-2.0, 2.0).map(lambda number: np.array([number]))


def conditioned(chain: Chain, s: int, t: int, data_variance: float = 1.0) -> Coefficients:
    """Regression of x_s on (x_0, x_t) in the joint covariance."""
    (a, b), rest = condition(joint_covariance(chain.betas, data_variance), s, [0, t])
    return Coefficients(a, b, np.array(rest))


def conditioned_law(chain: Chain, s: int, t: int, x0: Array, x_t: Array) -> tuple[Array, Array]:
    """Mean and variance of x_s given the values of x_0 and x_t."""
    a, b, s2 = conditioned(chain, s, t)
    return a * x0 + b * x_t, s2


def multiplied_law(chain: Chain, s: int, t: int, x0: Array, x_t: Array) -> tuple[Array, Array]:
    """Mean and variance over x_s of q(x_s | x_0) q(x_t | x_s), on a grid of x_s."""
    covariance = joint_covariance(chain.betas)
    (to_s,), from_clean = condition(covariance, s, [0])
    (gain,), step = condition(covariance, t, [s])
    x = to_s * x0 + np.sqrt(from_clean) * np.linspace(-25, 25, 4001)
    weight = stats.norm.pdf(x, to_s * x0, np.sqrt(from_clean))
    weight *= stats.norm.pdf(x_t, gain * x, np.sqrt(step))
    mean = np.average(x, weights=weight)
    return np.array([mean]), np.average((x - mean) ** 2, weights=weight)


def flat(law: tuple[Array, Array]) -> Array:
    """Mean and variance side by side."""
    return np.hstack([np.ravel(part) for part in law])


@proof(
    "T-eq2", "T-fn20", "K-58..60", "K-67", "L-post", "V-eq4", "V-8.4", "G-35", "G-43",
    of=posterior_coefficients,
    oracle="conditioning the joint covariance of all levels",
    given=(st.data(), moderate_betas(), st.floats(0.05, 5.0)),
)  # fmt: skip
def conditioning(
    evidence: Evidence, data: st.DataObject, steps: Array, data_variance: float
) -> None:
    """The coefficients are the regression of x_s on x_0 and x_t, and what it leaves over.

    The variance of the data makes no difference.
    """
    s, t = data.draw(level_pairs(steps.size))
    chain = Chain(steps)
    got, want = posterior_coefficients(chain, s, t), conditioned(chain, s, t, data_variance)
    evidence.close(np.stack(got), np.stack(want), rtol=1e-9, atol=1e-11, what="(a, b, s2)")


@proof(
    "T-eq2", "T-fn20",
    of=posterior_coefficients,
    oracle="conditioning on one more, noisier level",
    given=(st.data(), moderate_betas(min_steps=3)),
)  # fmt: skip
def later_levels_add_nothing(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Once x_t is known a noisier level has no weight in the posterior of x_s."""
    s, t = data.draw(level_pairs(steps.size - 1))
    a, b, s2 = posterior_coefficients(Chain(steps), s, t)
    weights, rest = condition(joint_covariance(steps), s, [0, t, steps.size])
    evidence.close(np.array([a, b, 0.0]), weights, rtol=1e-9, atol=1e-10, what="weights")
    evidence.close(s2, rest, rtol=1e-9, atol=1e-11, what="variance")


@proof(
    "T-eq2", "G-35",
    of=posterior_coefficients,
    oracle="135 decimal digits",
    given=(st.data(), betas()),
)  # fmt: skip
def last_place(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Every coefficient of every schedule is right to one unit in the last place."""
    s, t = data.draw(level_pairs(steps.size))
    products, kept = signal_products(steps), signal_products(steps[s:t])[-1]
    with mp.workprec(PRECISION):
        clean, noise = 1 - products[s], 1 - products[t]
        a = mp.sqrt(products[s]) * (1 - kept) / noise
        b, s2 = mp.sqrt(kept) * clean / noise, (1 - kept) * clean / noise
    evidence.ulps(posterior_coefficients(Chain(steps), s, t), [a, b, s2], 1.0, "(a, b, s2)")


@proof(
    "T-eq2", "L-post", "G-43",
    of=posterior_coefficients,
    oracle="a point mass at x_0, and its numbers to the last bit",
    given=(betas(),),
)  # fmt: skip
def last_step(evidence: Evidence, steps: Array) -> None:
    """At s = 0 the posterior is x_0 itself, exactly, without a negative zero."""
    t = np.arange(1, steps.size + 1)
    a, b, s2 = posterior_coefficients(Chain(steps), np.zeros_like(t), t)
    evidence.equal(a, 1.0, "a")
    evidence.equal(np.stack([b, s2]), 0.0, "(b, s2)")
    evidence.holds(~np.signbit([b, s2]), "zeros are positive")


@proof(
    "G-43", "L-post", "T-eq2",
    of=posterior_coefficients,
    oracle="the marginal law of x_s, by regression on x_0 alone",
    given=(moderate_betas(),),
)  # fmt: skip
def zero_signal(evidence: Evidence, steps: Array) -> None:
    """An x_t without signal says nothing, and the posterior is q(x_s | x_0)."""
    (slope,), rest = condition(joint_covariance(steps), steps.size, [0])
    chain = Chain([*steps, 1.0])
    got = posterior_coefficients(chain, steps.size, steps.size + 1)
    evidence.close(np.stack(got), [slope, 0.0, rest], rtol=1e-12, what="(a, b, s2)")
    evidence.equal(got.b, 0.0, "b")


@proof(
    "T-eq2", "T-fn20", "K-60",
    of=posterior_coefficients,
    oracle="numbers found by conditioning, to nine digits",
)  # fmt: skip
def golden_table(evidence: Evidence) -> None:
    """The coefficients of three steps, beta = 0.1, 0.2, 0.3."""
    a, b, s2 = posterior_coefficients(GOLDEN, np.arange(3), np.arange(1, 4))
    evidence.close(a, [1, 0.677630927, 0.513222664], rtol=1e-8, what="a")
    evidence.close(b, [0, 0.319438282, 0.472308080], rtol=1e-8, what="b")
    evidence.close(s2, [0, 0.071428571, 0.169354839], rtol=1e-8, what="s2")


@proof(
    "G-43",
    of=posterior_coefficients,
    oracle="the order of conditional variances: more known, less left",
    given=(st.data(), betas(min_steps=2)),
)
def below_beta(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """The variance lies between 0 and beta, the variance without x_0 for unit Gaussian data."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    s2 = posterior_coefficients(chain, s, t).s2
    evidence.holds(s2 > 0, "s2 > 0 for s >= 1")
    # At a tiny level after tiny ones both sides round to the same number.
    evidence.at_most(s2, chain.beta(s, t) * (1 + 1e-15), "s2")


@proof(
    "T-eq2", "K-58..60", "K-67", "V-eq4", "L-post", "G-34", "G-35",
    of=posterior_mean_variance,
    oracle="conditioning the joint covariance, sample by sample",
    given=(moderate_betas(min_steps=2), shapes(min_batch=1), generators()),
)  # fmt: skip
def batches(
    evidence: Evidence, steps: Array, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    """Each sample of a batch has the mean and the variance of its own levels."""
    x0, x_t = rng.normal(size=(2, *shape))
    t = rng.integers(1, steps.size + 1, shape[0])
    s = rng.integers(0, t)
    chain = Chain(steps)
    mean, variance = posterior_mean_variance(chain, s, t, x0, x_t)
    for i in range(shape[0]):
        a, b, rest = conditioned(chain, int(s[i]), int(t[i]))
        evidence.close(mean[i], a * x0[i] + b * x_t[i], rtol=1e-9, atol=1e-10, what="mean")
        evidence.close(variance[i], rest, rtol=1e-9, atol=1e-11, what="variance")


@proof(
    "T-4.1.3-x", "T-eq2", "V-8.4", "V-eq4", "L-post", "G-34",
    of=posterior_mean_variance,
    oracle="moments over x_s of the product of two of scipy's densities, on a grid",
    given=(st.data(), moderate_betas(min_steps=2), NUMBERS, NUMBERS),
)  # fmt: skip
def product_over_the_cleaner_level(
    evidence: Evidence, data: st.DataObject, steps: Array, x0: Array, x_t: Array
) -> None:
    """The product q(x_s | x_0) q(x_t | x_s), as a function of x_s, has the posterior's moments."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    got = posterior_mean_variance(Chain(steps), s, t, x0, x_t)
    want = multiplied_law(Chain(steps), s, t, x0, x_t)
    evidence.close(flat(got), flat(want), rtol=1e-9, atol=1e-9, what="mean and variance")


@proof(
    "G-32",
    of=(posterior_coefficients, posterior_mean_variance),
    oracle="conditioning blocks of the joint covariance of data with dependent coordinates",
    given=(st.data(), moderate_betas(min_steps=2), generators()),
)
def isotropy(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """Whatever the data's covariance, the posterior's is s2 I and the weights are a I and b I."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    root = rng.normal(size=(3, 3))
    weights, rest = block_conditioned(steps, root @ root.T + 0.1 * np.eye(3), s, [0, t])
    a, b, s2 = posterior_coefficients(Chain(steps), s, t)
    evidence.close(weights, np.kron([a, b], np.eye(3)), atol=1e-8, what="weights")
    evidence.close(rest, s2 * np.eye(3), atol=1e-8, what="covariance")
    x0, x_t = rng.normal(size=(2, 1, 3))
    mean, variance = posterior_mean_variance(Chain(steps), s, t, x0, x_t)
    evidence.close(mean[0], weights @ np.hstack([x0[0], x_t[0]]), atol=1e-7, what="mean")
    evidence.close(variance, rest[0, 0], atol=1e-8, what="variance")


@proof(
    "G-32",
    of=posterior_coefficients,
    oracle="conditioning blocks of a joint covariance, with and without x_0",
)
def isotropy_needs_the_clean_sample(evidence: Evidence) -> None:
    """Without x_0 the covariance follows that of the data: no choice makes it isotropic."""
    data, steps = np.array([[1.0, 0.8], [0.8, 1.0]]), np.array([0.1, 0.2])
    _, given_both = block_conditioned(steps, data, 1, [0, 2])
    _, given_noisy = block_conditioned(steps, data, 1, [2])
    evidence.close(given_both[0, 1], 0.0, atol=1e-12, what="covariance given x_0")
    s2 = posterior_coefficients(Chain(steps), 1, 2).s2
    evidence.close(np.diag(given_both), s2, atol=1e-12, what="variance given x_0")
    evidence.holds(given_noisy[0, 1] > 0.01, "coordinates depend on each other without x_0")


def block_conditioned(
    steps: Array, data_covariance: Array, target: int, given: list[int]
) -> tuple[Array, Array]:
    """Regression of a level on others where every level is a vector."""
    noise = joint_covariance(steps, 0.0)
    size = data_covariance.shape[0]
    joint = np.kron(joint_covariance(steps) - noise, data_covariance) + np.kron(noise, np.eye(size))
    known = np.concatenate([np.arange(size) + size * level for level in given])
    sought = np.arange(size) + size * target
    weights = np.linalg.solve(joint[np.ix_(known, known)], joint[np.ix_(known, sought)]).T
    rest = joint[np.ix_(sought, sought)] - weights @ joint[np.ix_(known, sought)]
    return np.asarray(weights), np.asarray(rest)


@misprint(
    "K-60",
    of=posterior_coefficients,
    truth=conditioned,
    oracle="conditioning the joint covariance of all levels",
    counterexample=Counterexample((GOLDEN, 1, 2), printed=0.0403, right=0.0714),
    search=(CHAINS, st.just(1), st.just(2)),
    value=lambda result: result.s2,
)
def denominator_of_the_last_level(chain: Chain, s: Levels, t: Levels) -> Coefficients:
    """The denominator without its index, with the paper's own product up to T."""
    a, b, _ = posterior_coefficients(chain, s, t)
    whole = 1 - np.prod(1 - chain.betas)
    return Coefficients(a, b, np.asarray(chain.beta(s, t) * chain.one_minus_alpha_bar[s] / whole))


@misprint(
    "K-67",
    of=posterior_coefficients,
    truth=conditioned,
    oracle="conditioning the joint covariance of all levels",
    counterexample=Counterexample((Chain([0.1, 0.2]), 1, 2), printed=0.303046, right=0.319438),
    search=(CHAINS, st.just(1), st.just(2)),
    value=lambda result: result.b,
)
def whole_signal_on_the_noisy_sample(chain: Chain, s: Levels, t: Levels) -> Coefficients:
    """The weight of x_t with the root of alpha_bar_t in place of that of alpha_t."""
    a, _, s2 = posterior_coefficients(chain, s, t)
    noise = chain.one_minus_alpha_bar
    return Coefficients(a, chain.c[t] * noise[s] / noise[t], s2)


@misprint(
    "G-34",
    of=posterior_mean_variance,
    truth=conditioned_law,
    oracle="conditioning the joint covariance of all levels",
    counterexample=Counterexample(
        (Chain([0.1, 0.25, 0.45]), 2, 3, np.array([0.6]), np.array([-0.3])),
        printed=[0.2583, 0.232607],
        right=[0.2378, 0.232607],
    ),
    search=(CHAINS, st.just(1), st.just(2), NUMBERS, NUMBERS.filter(lambda x: abs(x[0]) > 0.1)),
    value=flat,
)
def whole_signal_in_the_transition(
    chain: Chain, s: Levels, t: Levels, x0: Array, x_t: Array
) -> tuple[Array, Array]:
    """The transition's mean with the root of alpha_bar_t, which leaves only the variance right."""
    clean, beta = chain.one_minus_alpha_bar[s], chain.beta(s, t)
    variance = 1 / (chain.alpha(s, t) / beta + 1 / clean)
    weights = variance * chain.c[s] / clean, variance * chain.c[t] / beta
    return per_sample(weights[0], x0) * x0 + per_sample(weights[1], x_t) * x_t, variance


@misprint(
    "T-4.1.3-x",
    of=posterior_mean_variance,
    truth=multiplied_law,
    oracle="moments over x_s of the product of two of scipy's densities, on a grid",
    counterexample=Counterexample(
        (Chain([0.1, 0.3]), 1, 2, np.array([0.7]), np.array([-0.4])),
        printed=[0.658232, 0.099118],
        right=[0.447992, 0.081081],
    ),
    search=(CHAINS, st.just(1), st.just(2), NUMBERS, NUMBERS),
    value=flat,
)
def product_over_the_noisier_level(
    chain: Chain, s: Levels, t: Levels, x0: Array, x_t: Array
) -> tuple[Array, Array]:
    """The identity's variable taken to be x_t, in the first factor and in the second's mean."""
    slope = np.sqrt(chain.alpha(s, t))
    precision = 1 / chain.one_minus_alpha_bar[s] + (1 - slope) ** 2 / chain.beta(s, t)
    weight = chain.c[s] / chain.one_minus_alpha_bar[s] / precision
    return np.broadcast_to(per_sample(weight, x0) * x0, np.shape(x_t)), 1 / precision
