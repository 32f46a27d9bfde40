"""One noising step, several, and all at once, against covariances and simulation."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from ddpm.reference.autoregression import ar1_variance
from ddpm.reference.chain import Chain
from ddpm.reference.forward import (
    forward_jump,
    forward_path,
    forward_step,
    q_mean_variance,
    q_sample,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, betas, generators, level_pairs, moderate_betas

# Eight steps of a few roundings leave 1e-12, a regression in their covariance 1e-11.
EXACT = 1e-12
SOLVED = 1e-11


@proof(
    "K-5..7", "V-2", "L-2.0", "G-2", "G-24", "G-4",
    of=forward_step,
    oracle="regression on all cleaner levels in the joint covariance",
    given=(st.data(), moderate_betas(), generators()),
)  # fmt: skip
def one_step(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """A level depends on the one before alone, with gain sqrt(1 - beta) and variance beta."""
    t = data.draw(st.integers(1, steps.size))
    weights, rest = condition(joint_covariance(steps), t, range(t))
    evidence.close(weights[:-1], 0.0, atol=SOLVED, what="weights of earlier levels")
    x = rng.normal(size=(2, 3))
    mean, variance = forward_step(x, steps[t - 1])
    evidence.close(mean, weights[-1] * x, rtol=SOLVED, atol=1e-13, what="mean")
    evidence.close(variance, rest, rtol=SOLVED, what="variance")


@proof(
    "K-6", "K-7", "V-2", "G-1", "G-25..27",
    of=forward_path,
    oracle="the linear system of all steps, solved",
    given=(betas(), generators()),
)  # fmt: skip
def path_of_all_levels(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """Every level is made of the one before and of a draw of its own."""
    x0, noise = rng.normal(size=(2, 3)), rng.normal(size=(steps.size, 2, 3))
    path = forward_path(Chain(steps), x0, noise)
    system = np.eye(steps.size + 1) - np.diag(np.sqrt(1 - steps), -1)
    drawn = np.concatenate([x0[None], np.sqrt(steps)[:, None, None] * noise])
    want = np.linalg.solve(system, drawn.reshape(steps.size + 1, 6)).reshape(path.shape)
    evidence.close(path, want, rtol=EXACT, atol=1e-13, what="path")


@proof("G-25..27", of=forward_path, oracle="covariance of unit normals, independent or shared")
def one_symbol_for_several_draws(evidence: Evidence) -> None:
    """With one draw in both steps the variance given x_0 would be .6598; it is .37."""
    chain = Chain([0.1, 0.3])
    own = forward_path(chain, np.zeros(2), np.eye(2))[-1]
    shared = forward_path(chain, np.zeros(1), np.ones((2, 1)))[-1]
    covariance = joint_covariance(chain.betas, 0.0)
    evidence.close(own @ own, covariance[2, 2], rtol=EXACT, what="variance, own draws")
    evidence.close(own @ own, 0.37, rtol=EXACT, what="variance, own draws")
    evidence.close(shared**2, 0.6598, atol=5e-5, what="variance, one shared draw")


@proof(
    "K-8..14", "G-28", "G-29",
    of=forward_jump,
    oracle="regression of x_t on x_s in the joint covariance",
    given=(st.data(), moderate_betas(), generators()),
)  # fmt: skip
def several_steps(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """Several steps are one step of the product of their alphas."""
    s, t = data.draw(level_pairs(steps.size))
    weights, rest = condition(joint_covariance(steps), t, [s])
    x = rng.normal(size=(2, 3))
    mean, variance = forward_jump(Chain(steps), s, t, x)
    evidence.close(mean, weights * x, rtol=SOLVED, atol=1e-13, what="mean")
    evidence.close(variance, rest, rtol=SOLVED, what="variance")


def conditioned(x0: Array, alpha_bar: Array) -> tuple[Array, Array]:
    """Law of each level given x_0 by regression; the batch runs over levels 1..T."""
    covariance = joint_covariance(step_noises(alpha_bar))
    laws = [condition(covariance, t, [0]) for t in range(1, alpha_bar.size + 1)]
    means = np.stack([weights * x for (weights, _), x in zip(laws, x0, strict=True)])
    return means, np.array([rest for _, rest in laws])


def step_noises(alpha_bar: Array) -> Array:
    """Betas of the steps between levels of given signal power, from 1 on."""
    return np.asarray(1 - alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]]))


@st.composite
def signals(draw: st.DrawFn, min_steps: int = 1) -> Array:
    """Signal power at levels 1..T of a moderate schedule."""
    return np.asarray(np.cumprod(1 - draw(moderate_betas(min_steps=min_steps))))


@proof(
    "T-eq1", "T-fn10", "K-14", "K-15", "V-eq1", "L-fwd", "G-30", "G-31",
    of=(q_mean_variance, q_sample, Chain.alpha_bar),
    oracle="regression on x_0 in the joint covariance",
    given=(moderate_betas(), generators()),
)  # fmt: skip
def marginal(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """Every level given x_0 is sqrt(alpha_bar) x_0 with noise of variance 1 - alpha_bar."""
    x0, noise = rng.normal(size=(2, steps.size, 3))
    signal = Chain(steps).alpha_bar[1:]
    mean, variance = q_mean_variance(x0, signal)
    covariance = joint_covariance(steps)
    laws = [condition(covariance, t, [0]) for t in range(1, steps.size + 1)]
    weights, rest = np.array([law[0][0] for law in laws]), np.array([law[1] for law in laws])
    evidence.close(mean, weights[:, None] * x0, rtol=SOLVED, atol=1e-13, what="mean")
    evidence.close(variance, rest, rtol=SOLVED, what="variance")
    want = weights[:, None] * x0 + np.sqrt(rest)[:, None] * noise
    evidence.close(q_sample(x0, signal, noise), want, rtol=SOLVED, atol=1e-12, what="sample")


@proof(
    "V-8.1", "V-eq1", "T-eq1",
    of=(ar1_variance, forward_step, q_mean_variance),
    oracle="induction over the steps",
    given=(moderate_betas(), generators()),
)  # fmt: skip
def marginal_by_induction(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """From level t to t + 1: alpha (1 - alpha_bar_t) + 1 - alpha = 1 - alpha_bar_{t+1}."""
    mean, variance, left = rng.normal(size=(3, 2)), np.zeros(3), 1.0
    x0 = mean
    for beta in steps:
        mean, added = forward_step(mean, np.full(3, beta))
        variance = ar1_variance(variance, np.sqrt(1 - beta), added)
        left *= 1 - beta
        want_mean, want_variance = q_mean_variance(x0, np.full(3, left))
        evidence.close(mean, want_mean, rtol=EXACT, atol=1e-14, what="mean")
        evidence.close(variance, want_variance, rtol=EXACT, what="variance")


@proof(
    "T-eq1", "V-eq1", "V-8.1", "K-15", "L-fwd", "G-31",
    of=(q_mean_variance, q_sample, forward_path),
    oracle="Monte Carlo of the chain and a Kolmogorov-Smirnov test",
)  # fmt: skip
def marginal_by_simulation(evidence: Evidence) -> None:
    """A simulated chain has the closed form's mean, variance and law at every level."""
    chain, rng = Chain([0.1, 0.25, 0.45]), np.random.default_rng(7)
    path = forward_path(chain, np.full(20_000, 0.7), rng.standard_normal((3, 20_000)))
    for t in (1, 2, 3):
        mean, variance = q_mean_variance(0.7, chain.alpha_bar[t])
        evidence.mean(path[t], mean, "x_t")
        evidence.mean((path[t] - mean) ** 2, variance, "the squared deviation of x_t")
        draws = q_sample(np.full(20_000, 0.7), chain.alpha_bar[t], rng.standard_normal(20_000))
        # A right sampler gives uniform p-values; this seed does not come near 1e-4.
        evidence.holds(stats.ks_2samp(path[t], draws).pvalue > 1e-4, "both have one law")


@proof("T-eq1", of=(q_mean_variance, q_sample), oracle="the noise of one step, which is beta")
def tiny_noise(evidence: Evidence) -> None:
    """With the chain's own complement the noise keeps its digits; the subtraction loses four."""
    chain = Chain([1e-12])
    exact = chain.one_minus_alpha_bar[1]
    got = q_sample(np.zeros(1), chain.alpha_bar[1], np.ones(1), exact)
    evidence.close(got, 1e-6, rtol=1e-14, what="noise")
    mean, variance = q_mean_variance([2.0], chain.alpha_bar[1], exact)
    evidence.close(mean, 2 * (1 - 5e-13), rtol=1e-15, what="mean")
    evidence.close(variance, 1e-12, rtol=1e-15, what="variance")
    lost = abs(float(q_mean_variance([0.0], chain.alpha_bar[1])[1]) / 1e-12 - 1)
    evidence.holds(lost > 1e-6, "1 - alpha_bar loses digits")


@misprint(
    "K-15",
    of=q_mean_variance,
    truth=conditioned,
    oracle="regression on x_0 in the joint covariance",
    counterexample=Counterexample(
        (np.ones((2, 1)), np.array([0.9, 0.72])), printed=[0.1, 0.2], right=[0.1, 0.28]
    ),
    search=(st.just(np.ones((2, 1))), signals(min_steps=2).map(lambda table: table[:2])),
    value=lambda law: law[1],
)
def law_given_the_level_before(
    x0: ArrayLike, alpha_bar: ArrayLike, one_minus_alpha_bar: ArrayLike | None = None
) -> tuple[Array, Array]:
    """The left side names the law given x_{t-1}; the batch is read as neighbouring levels."""
    table = np.atleast_1d(np.asarray(alpha_bar, float))
    kept = (table / np.concatenate([[1.0], table[:-1]])).reshape(np.shape(alpha_bar))
    return q_mean_variance(x0, kept, None if one_minus_alpha_bar is None else 1 - kept)


def with_conditioned_noise(x0: Array, alpha_bar: Array, noise: Array) -> Array:
    """Mean and deviation of the regression on x_0, put together."""
    mean, variance = conditioned(x0, alpha_bar)
    return np.asarray(mean + np.sqrt(variance)[:, None] * noise)


@misprint(
    "L-fwd",
    of=q_sample,
    truth=with_conditioned_noise,
    oracle="regression on x_0 in the joint covariance",
    counterexample=Counterexample(
        (np.zeros((1, 1)), np.array([0.63]), np.array([[-1.0]])),
        printed=[[1.276715]],
        right=[[-0.608276]],
    ),
    search=(
        st.just(np.ones((2, 1))),
        signals(min_steps=2).map(lambda table: table[:2]),
        generators().map(lambda rng: rng.normal(size=(2, 1))),
    ),
)
def noise_inside_the_root(
    x0: ArrayLike,
    alpha_bar: ArrayLike,
    noise: ArrayLike,
    one_minus_alpha_bar: ArrayLike | None = None,
) -> Array:
    """The root covers the noise too, sqrt(1 - alpha_bar eps)."""
    mean, _ = q_mean_variance(x0, alpha_bar, one_minus_alpha_bar)
    signal = np.asarray(alpha_bar, float)
    wide = signal.reshape(signal.shape + (1,) * (mean.ndim - signal.ndim))
    return np.asarray(mean + np.sqrt(1 - wide * noise))
