"""Weights and losses against regressions in the joint covariance, quadrature and enumeration."""

from typing import get_args

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.objectives import (
    bound_weight,
    level_kl,
    simple_weight,
    variance_constant,
)
from ddpm.reference.parameterisations import Prediction
from ddpm.reference.variances import Variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, quad_kl
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas

# Quadrature with 200 nodes leaves 1e-9 of a divergence, and a regression in a covariance whose
# condition number is below 1e4 leaves 1e-11; a weight divides two of them.
DIVERGENCE = {"rtol": 1e-7, "atol": 1e-9}
WEIGHT = {"rtol": 1e-8, "atol": 1e-11}

# Sums of a few numbers of size one.
ROUNDING = {"rtol": 1e-12, "atol": 1e-300}

GOLDEN = np.array([0.1, 0.2, 0.3])
KINDS: st.SearchStrategy[Prediction] = st.sampled_from(get_args(Prediction))
VARIANCES: st.SearchStrategy[Variance] = st.sampled_from(get_args(Variance))


def mean_of(kind: Prediction, output: Array, x_t: Array, steps: Array, s: int, t: int) -> Array:
    """Mean of the model's step from the regressions of the simulated chain."""
    if kind == "mean":
        return output
    covariance = joint_covariance(steps)
    gain, variance = condition(covariance, t, [0])
    weights, _ = condition(covariance, s, [0, t])
    if kind == "x0":
        x0 = output
    elif kind == "v":
        turn = np.array([[gain[0], -np.sqrt(variance)], [np.sqrt(variance), gain[0]]])
        x0 = (turn @ np.stack([x_t, output]))[0]
    else:
        noise = output if kind == "eps" else -np.sqrt(variance) * output
        x0 = (x_t - np.sqrt(variance) * noise) / gain[0]
    return np.asarray(weights[0] * x0 + weights[1] * x_t)


def step_variances(steps: Array, s: int, t: int, variance: Variance) -> tuple[float, float]:
    """Variance of the posterior and of the model's step, conditioned in the joint covariance."""
    covariance = joint_covariance(steps)
    _, s2 = condition(covariance, s, [0, t])
    return s2, s2 if variance == "posterior" else condition(covariance, t, [s])[1]


def conditioned_weight(
    kind: Prediction, chain: Chain, s: int, t: int, variance: Variance = "posterior"
) -> Array:
    """Divergence that an error of one in the output causes, by regressions and quadrature."""
    x_t, steps = np.array([0.3]), chain.betas
    means = [mean_of(kind, np.array([y]), x_t, steps, s, t)[0] for y in (0.0, 1.0)]
    deviation = np.sqrt(step_variances(steps, s, t, variance)[1])
    return np.array(quad_kl(means[0], deviation, means[1], deviation))


@proof(
    "K-66", "K-78", "V-eq5", "L-2.5",
    of=level_kl,
    oracle="regressions in the joint covariance, and quadrature for each coordinate",
    given=(st.data(), moderate_betas(min_steps=2), KINDS, VARIANCES, generators()),
)  # fmt: skip
def divergence_of_a_step(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    kind: Prediction,
    variance: Variance,
    rng: np.random.Generator,
) -> None:
    """Weight times squared error plus constant is the divergence, whatever is predicted."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    s2, model = step_variances(steps, s, t, variance)
    x_t, target, output = rng.normal(size=(3, 2))
    means = np.stack([mean_of(kind, y, x_t, steps, s, t) for y in (target, output)], axis=1)
    want = sum(quad_kl(q, np.sqrt(s2), p, np.sqrt(model)) for q, p in means.tolist())
    got = level_kl(kind, target[None], output[None], Chain(steps), s, t, variance)
    evidence.close(got, [want], what="divergence", **DIVERGENCE)


@proof(
    "K-78", "V-eq5", "V-eq6", "V-eq7", "L-2.5", "L-2.6", "L-2.9", "G-40",
    of=bound_weight,
    oracle="regressions in the joint covariance, and quadrature",
    given=(st.data(), moderate_betas(min_steps=2), KINDS, VARIANCES),
)  # fmt: skip
def weight_of_an_error(
    evidence: Evidence, data: st.DataObject, steps: Array, kind: Prediction, variance: Variance
) -> None:
    """The weight is the divergence that a unit error of the output causes."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    want = conditioned_weight(kind, chain, s, t, variance)
    evidence.close(bound_weight(kind, chain, s, t, variance), want, what="weight", **WEIGHT)


@proof(
    "V-eq6", "V-eq7", "L-2.6", "L-2.9",
    of=bound_weight,
    oracle="signal-to-noise ratios of the simulated chain",
    given=(st.data(), moderate_betas(min_steps=2)),
)  # fmt: skip
def weights_by_the_ratio(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Half the drop of the SNR for x0, half its quotient less one for eps; x0 weights telescope."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain, covariance = Chain(steps), joint_covariance(steps)
    gains = [condition(covariance, level, [0]) for level in range(1, steps.size + 1)]
    ratio = np.array([np.inf, *(float(gain[0]) ** 2 / noise for gain, noise in gains)])
    got = [bound_weight("x0", chain, s, t), bound_weight("eps", chain, s, t)]
    want = [(ratio[s] - ratio[t]) / 2, (ratio[s] / ratio[t] - 1) / 2]
    evidence.close(np.array(got), want, rtol=1e-7, what="weights of x0 and eps")
    levels = np.arange(2, steps.size + 1)
    total = np.sum(bound_weight("x0", chain, levels - 1, levels))
    evidence.close(total, (ratio[1] - ratio[-1]) / 2, what="sum of weights", rtol=1e-7)


@proof(
    "K-78", "V-eq5", "V-eq6", "V-eq7", "L-2.5", "L-2.6", "L-2.9", "T-2.6-simple",
    of=(bound_weight, simple_weight),
    oracle="numbers obtained by conditioning an assembled covariance",
)  # fmt: skip
def golden_weights(evidence: Evidence) -> None:
    """The known numbers of betas (0.1, 0.2, 0.3)."""
    chain, s, t = Chain(GOLDEN), np.array([1, 2]), np.array([2, 3])
    golden: dict[Prediction, list[float]] = {
        "mean": [7, 2.952380952],
        "x0": [3.214285714, 0.777649770],
        "eps": [1.25, 0.765306122],
    }
    for kind, want in golden.items():
        evidence.close(bound_weight(kind, chain, s, t), want, rtol=1e-8, what=kind)
    got = bound_weight("eps", chain, s, t, "beta")
    evidence.close(got, [0.446428571, 0.432027650], rtol=1e-8, what="eps with variance beta")
    got = simple_weight(chain, np.arange(1, 4))
    evidence.close(got, [0.9, 1.12, 1.157333333], rtol=1e-8, what="simple weight")


@proof(
    "T-2.6-simple", "K-78",
    of=simple_weight,
    oracle="the weight of an error by regressions and quadrature",
    given=(st.data(), moderate_betas(min_steps=2)),
)  # fmt: skip
def weights_cancel(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Times the simple weight, a squared error of the noise counts one half at every level."""
    t = data.draw(st.integers(2, steps.size))
    want = conditioned_weight("eps", Chain(steps), t - 1, t, "beta")
    evidence.close(simple_weight(Chain(steps), t) * want, 0.5, what="product", **WEIGHT)
    first = joint_covariance(steps)[0, 1] ** 2
    evidence.close(simple_weight(Chain(steps), 1), first, what="w_0 = alpha_1", **WEIGHT)


@proof(
    "K-66",
    of=variance_constant,
    oracle="quadrature between laws of one mean",
    given=(st.data(), moderate_betas(min_steps=2), st.integers(1, 5)),
)
def constant(evidence: Evidence, data: st.DataObject, steps: Array, elements: int) -> None:
    """C is the divergence that remains where the means agree, 0 for the posterior's variance."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    s2, beta = step_variances(steps, s, t, "beta")
    want = elements * quad_kl(0, np.sqrt(s2), 0, np.sqrt(beta))
    got = variance_constant(Chain(steps), s, t, elements, "beta")
    evidence.close(got, want, rtol=1e-8, atol=1e-10, what="constant")
    evidence.equal(variance_constant(Chain(steps), s, t, elements), 0.0, "posterior's constant")


@proof(
    "V-eq5",
    of=(level_kl, bound_weight),
    oracle="quadrature between the posterior and a step of variance beta",
)
def weight_of_the_posterior_variance_only(evidence: Evidence) -> None:
    """With the variance beta, which the paper samples with, the printed divergence is another."""
    chain, t = Chain(GOLDEN), 2
    s2, beta = step_variances(GOLDEN, t - 1, t, "beta")
    evidence.close(float(bound_weight("mean", chain, 1, t)), 1 / (2 * s2), rtol=1e-12)
    gap = np.array([[np.sqrt(2 * s2)]])
    printed = level_kl("mean", 0 * gap, gap, chain, 1, t)
    evidence.close(printed, [1.0], rtol=1e-12, what="divergence with the posterior's variance")
    want = quad_kl(0, np.sqrt(s2), gap.item(), np.sqrt(beta))
    got = level_kl("mean", 0 * gap, gap, chain, 1, t, "beta")
    evidence.close(got, [want], rtol=1e-8, what="divergence with variance beta")
    evidence.close(want, 0.5505, atol=1e-4, what="its value")


@misprint(
    "G-40",
    of=bound_weight,
    truth=conditioned_weight,
    oracle="regressions in the joint covariance, and quadrature",
    counterexample=Counterexample(
        ("eps", Chain([0.1, 0.25, 0.45]), 2, 3, "beta"), printed=0.963905, right=0.650636
    ),
    search=(
        st.just("eps"),
        moderate_betas(min_steps=3).map(Chain),
        st.just(2),
        st.just(3),
        VARIANCES,
    ),
    rtol=1e-8,
)
def product_for_the_last_factor(
    kind: Prediction, chain: Chain, s: Levels, t: Levels, variance: Variance = "posterior"
) -> Array:
    """The mean's error with 1 / sqrt(alpha_bar_t) for 1 / sqrt(alpha_t)."""
    weight = bound_weight(kind, chain, s, t, variance)
    return np.asarray(weight * chain.alpha(s, t) / chain.alpha_bar[t])
