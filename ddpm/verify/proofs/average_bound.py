"""The bound averaged over data against grids of paths and the divergence of the latents."""

import numpy as np
from hypothesis import strategies as st
from scipy import optimize, stats

from ddpm.reference.average_bound import (
    average_bound,
    average_gap,
    expected_log_step,
    expected_log_terminal,
    path_entropy,
    step_log_ratio,
)
from ddpm.reference.chain import Chain
from ddpm.reference.gaussian import kl_isotropic
from ddpm.reference.linear_reverse import (
    LinearReverse,
    exact_reverse,
    expected_log_density,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid
from ddpm.verify.proofs.linear_reverse import (
    EXAMPLE,
    Case,
    all_paths,
    cases,
    densities,
    model_joint,
    model_log_evidence,
    noised,
)
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, moderate_betas

# Covariances of betas between 0.02 and 0.5 are solved to 1e-11; the grid is exact for squares.
RTOL, ATOL = 1e-9, 1e-10

MEANS, VARIANCES = st.floats(-2, 2), st.floats(0, 4)


def data_paths(chain: Chain, mean: float, variance: float) -> tuple[Array, Array]:
    """Paths from data of these moments on a grid and their probabilities, exact for squares."""
    points, probabilities = normal_grid(chain.steps + 1, 3)
    return noised(chain.betas, mean + np.sqrt(variance) * points[0], points[1:]), probabilities


def path_average(chain: Chain, model: LinearReverse, mean: float, variance: float = 0.0) -> Array:
    """E log p / q over whole paths."""
    path, weights = data_paths(chain, mean, variance)
    return np.asarray(-densities(chain, model, path).ratio @ weights)


@proof(
    "T-4.3-c", "G-17",
    of=(expected_log_step, expected_log_terminal, path_entropy, step_log_ratio),
    oracle="Gauss-Hermite over data and paths of scipy's densities",
    given=(cases(), MEANS, VARIANCES),
)  # fmt: skip
def parts_are_expectations(evidence: Evidence, case: Case, mean: float, variance: float) -> None:
    """The steps and the start of the model, and the entropy of the noise, each on its own."""
    chain, model, _ = case
    path, weights = data_paths(chain, mean, variance)
    along = densities(chain, model, path)
    steps = range(1, chain.steps + 1)
    got = [expected_log_step(chain, model, t, mean, variance) for t in steps]
    evidence.close(got, along.reverse @ weights, rtol=RTOL, atol=ATOL, what="steps")
    got = [expected_log_terminal(chain, model, mean, variance)]
    evidence.close(got, [along.terminal @ weights], rtol=RTOL, atol=ATOL, what="start")
    want = -along.forward.sum(axis=0) @ weights
    evidence.close(path_entropy(chain), want, rtol=RTOL, atol=ATOL, what="entropy")
    ratios = [step_log_ratio(chain, model, t, mean, variance) for t in steps]
    want = (along.forward - along.reverse) @ weights
    evidence.close(ratios, want, rtol=RTOL, atol=ATOL, what="log ratios")
    clean = [
        step_log_ratio(chain, model, 1, mean) - step_log_ratio(chain, model, 1, mean, 0.0),
        expected_log_step(chain, model, 1, mean) - expected_log_step(chain, model, 1, mean, 0.0),
        expected_log_terminal(chain, model, mean) - expected_log_terminal(chain, model, mean, 0.0),
        average_bound(chain, model, mean) - average_bound(chain, model, mean, 0.0),
        average_gap(chain, model, mean) - average_gap(chain, model, mean, 0.0),
    ]
    evidence.equal(clean, np.zeros(5), "one clean sample has no variance")


@proof(
    "K-41..44", "V-eq2", "V-8.2", "T-4.3-c", "T-4.3-elbo", "L-2.3", "G-15..17",
    of=(average_bound, LinearReverse.average_log_evidence, expected_log_density),
    oracle="Gauss-Hermite over data and paths; the evidence by the joint law of the model",
    given=(cases(), MEANS, VARIANCES),
)  # fmt: skip
def below_the_average_evidence(
    evidence: Evidence, case: Case, mean: float, variance: float
) -> None:
    """The average log ratio of paths is at most the average log evidence."""
    chain, model, _ = case
    got = average_bound(chain, model, mean, variance)
    want = path_average(chain, model, mean, variance)
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="average bound")
    points, weights = normal_grid(1, 3)
    want = model_log_evidence(model, mean + np.sqrt(variance) * points[0]) @ weights
    log_evidence = model.average_log_evidence(mean, variance)
    evidence.close(log_evidence, want, rtol=RTOL, atol=ATOL, what="average log evidence")
    evidence.at_most(got, log_evidence + ATOL, "average bound")


def latents(chain: Chain, x0: float) -> tuple[Array, Array]:
    """Mean and covariance of q(x_{1:T} | x_0)."""
    return np.sqrt(np.cumprod(1 - chain.betas)) * x0, joint_covariance(chain.betas, 0.0)[1:, 1:]


def multivariate_kl(q: tuple[Array, Array], p: tuple[Array, Array]) -> float:
    """KL of two multivariate normal laws: cross entropy less entropy, both by scipy."""
    inverse = np.linalg.inv(p[1])
    cross = -stats.multivariate_normal(*p).logpdf(q[0]) + np.trace(inverse @ q[1]) / 2
    return float(cross - stats.multivariate_normal(*q).entropy())


def model_latents(model: LinearReverse, x0: float) -> tuple[Array, Array]:
    """Mean and covariance of p(x_{1:T} | x_0)."""
    mean, covariance = model_joint(model)
    gain = covariance[1:, 0] / covariance[0, 0]
    return mean[1:] + gain * (x0 - mean[0]), covariance[1:, 1:] - np.outer(gain, covariance[0, 1:])


@proof(
    "T-4.3-elbo", "V-eq2", "T-fn31",
    of=(average_bound, average_gap),
    oracle="divergence of the latents' laws by their covariances",
    given=(cases(max_steps=6),),
)  # fmt: skip
def gap_is_the_divergence_of_the_latents(evidence: Evidence, case: Case) -> None:
    """Log p(x_0) less the divergence of q(x_{1:T} | x_0) from p(x_{1:T} | x_0) is the bound."""
    chain, model, x0 = case
    divergence = multivariate_kl(latents(chain, x0), model_latents(model, x0))
    want = float(model_log_evidence(model, np.array(x0))) - divergence
    evidence.close(average_bound(chain, model, x0), want, rtol=1e-8, atol=1e-9, what="bound")
    evidence.close(average_gap(chain, model, x0), divergence, rtol=1e-8, atol=1e-9, what="gap")
    points, weights = normal_grid(1, 3)
    want = sum(
        weight * multivariate_kl(latents(chain, x), model_latents(model, x))
        for x, weight in zip(x0 + 1.5 * points[0], weights, strict=True)
    )
    got = average_gap(chain, model, x0, 2.25)
    evidence.close(got, want, rtol=1e-8, atol=1e-9, what="average gap")


@proof(
    "G-15", "G-16",
    of=(average_bound, LinearReverse.log_evidence),
    oracle="conditioning and divergence by the covariances of all levels",
    given=(cases(max_steps=6),),
)  # fmt: skip
def reconstruction_less_prior(evidence: Evidence, case: Case) -> None:
    """E log p(x_0 | x_{1:T}) less KL(q(x_{1:T} | x_0) || p(x_{1:T})) is at most log p(x_0)."""
    chain, model, x0 = case
    (mean, covariance), q = model_joint(model), latents(chain, x0)
    weights, rest = condition(covariance, 0, list(range(1, chain.steps + 1)))
    square = (x0 - mean[0] - weights @ (q[0] - mean[1:])) ** 2 + weights @ q[1] @ weights
    reconstruction = -(square / rest + np.log(2 * np.pi * rest)) / 2
    want = reconstruction - multivariate_kl(q, (mean[1:], covariance[1:, 1:]))
    got = average_bound(chain, model, x0)
    evidence.close(got, want, rtol=1e-8, atol=1e-9, what="bound")
    log_evidence = model.log_evidence(np.array([[x0]]))[0]
    want = model_log_evidence(model, np.array(x0))
    evidence.close(log_evidence, want, rtol=RTOL, atol=ATOL, what="log p(x_0)")
    evidence.at_most(got, log_evidence + ATOL, "bound")


@proof(
    "L-2.3-tight", "G-15", "K-41..44",
    of=(exact_reverse, average_bound, LinearReverse.log_evidence),
    oracle="scipy's density of the data",
    given=(moderate_betas(), MEANS, st.floats(0.05, 4), MEANS),
)  # fmt: skip
def exact_reversal_is_tight(
    evidence: Evidence, steps: Array, mean: float, variance: float, x0: float
) -> None:
    """With the exact reverse chain the bound is log q(x_0) at every x_0, and the ratio constant."""
    chain = Chain(steps)
    model = exact_reverse(chain, mean, variance)
    want = stats.norm.logpdf(x0, mean, np.sqrt(variance))
    evidence.close(average_bound(chain, model, x0), want, rtol=1e-9, atol=1e-9, what="bound")
    log_evidence = model.log_evidence(np.array([[x0]]))
    evidence.close(log_evidence, [want], rtol=1e-9, atol=1e-9, what="log p(x_0)")
    if chain.steps <= 3:
        ratio = densities(chain, model, all_paths(chain, x0)[0]).ratio
        evidence.close(ratio, -want, rtol=1e-9, atol=1e-9, what="log ratio of each path")


@misprint(
    "G-15",
    of=LinearReverse.log_evidence,
    truth=lambda model, x0: model_log_evidence(model, x0[:, 0]),
    oracle="the joint law of the model",
    counterexample=Counterexample(
        (EXAMPLE.model, np.array([[EXAMPLE.x0]])), printed=[0.3101], right=[-1.1708]
    ),
    search=(
        cases().map(lambda case: case.model),
        MEANS.map(lambda x0: np.array([[x0]])),
    ),
)
def chain_evidence_without_its_logarithm(model: LinearReverse, x0: Array) -> Array:
    """The evidence itself as the right side, which the bound can never reach."""
    return np.asarray(np.exp(model.log_evidence(x0)))


@misprint(
    "T-4.3-c",
    of=average_bound,
    truth=path_average,
    oracle="Gauss-Hermite over data and paths of scipy's densities",
    counterexample=Counterexample(
        (EXAMPLE.chain, exact_reverse(EXAMPLE.chain, 0.0, 1.0), 0.0, 1.0),
        printed=0.0,
        right=-1.41894,
    ),
    search=(
        st.just(EXAMPLE.chain),
        cases(min_steps=3).filter(lambda case: case.model.steps == 3).map(lambda case: case.model),
        MEANS,
        VARIANCES,
    ),
    atol=ATOL,
)
def without_the_last_level(
    chain: Chain, model: LinearReverse, mean: Array, variance: Array | float = 0.0
) -> Array:
    """The bound without E log p(x_T)."""
    terminal = expected_log_terminal(chain, model, mean, variance)
    return np.asarray(average_bound(chain, model, mean, variance) - terminal)


@proof(
    "G-17b",
    of=step_log_ratio,
    oracle="Gauss-Hermite over paths of scipy's densities, and values recorded elsewhere",
    given=(cases(), MEANS),
)
def log_ratio_of_different_variables(evidence: Evidence, case: Case, mean: float) -> None:
    """The terms of the sum are no divergences, because they take either sign."""
    chain, model, _ = case
    path, weights = all_paths(chain, mean)
    along = densities(chain, model, path)
    for t in range(1, chain.steps + 1):
        want = (along.forward[t - 1] - along.reverse[t - 1]) @ weights
        got = step_log_ratio(chain, model, t, mean)
        evidence.close(got, want, rtol=RTOL, atol=ATOL, what="log ratio")
    (a, b), rest = condition(joint_covariance(EXAMPLE.chain.betas), 1, [0, 2])
    x0 = EXAMPLE.x0
    ideal = LinearReverse(
        np.array([0.0, b, 1.0]), np.array([x0, a * x0, 0.0]), np.array([1e-6, rest, 1.0])
    )
    recorded = [step_log_ratio(EXAMPLE.chain, ideal, t, x0) for t in (2, 1)]
    evidence.close(recorded, [-0.5893, -6.256], atol=1e-3, what="recorded log ratios")


def path_log_ratio(chain: Chain, model: LinearReverse, t: int, x0: float) -> Array:
    """Expected log ratio of a step over whole paths."""
    path, weights = all_paths(chain, x0)
    along = densities(chain, model, path)
    return np.asarray((along.forward[t - 1] - along.reverse[t - 1]) @ weights)


@misprint(
    "G-17b",
    of=step_log_ratio,
    truth=path_log_ratio,
    oracle="Gauss-Hermite over paths of scipy's densities",
    counterexample=Counterexample(
        (EXAMPLE.chain, EXAMPLE.model, 2, EXAMPLE.x0), printed=0.4561, right=0.0362
    ),
    search=(
        st.just(EXAMPLE.chain),
        cases(min_steps=3).filter(lambda case: case.model.steps == 3).map(lambda case: case.model),
        st.integers(1, 3),
        MEANS,
    ),
    atol=ATOL,
)
def divergence_over_a_dummy_variable(
    chain: Chain, model: LinearReverse, t: int, mean: float, _: float = 0.0
) -> Array:
    """KL(q(x_t | x_{t-1}) || p(x_{t-1} | x_t)) as if both were laws of one variable."""
    path, weights = all_paths(chain, mean)
    beta = chain.betas[t - 1]
    forward, reverse = np.sqrt(1 - beta) * path[t - 1], model.mean(t, path[t])
    return np.asarray(kl_isotropic(forward, beta, reverse, model.variances[t - 1]) @ weights)


def one_step(slope: float, spread: float) -> LinearReverse:
    """The reverse step N(slope x_1, spread)."""
    return LinearReverse(np.array([slope]), np.zeros(1), np.array([spread]))


def best_slopes(chain: Chain, spread: float) -> tuple[float, float]:
    """Slopes of the best bound and of the best evidence for data of mean 0 and variance 1."""

    def bound(slope: float) -> float:
        return -float(average_bound(chain, one_step(slope, spread), 0.0, 1.0))

    def log_evidence(slope: float) -> float:
        return -float(one_step(slope, spread).average_log_evidence(0.0, 1.0))

    found = [
        optimize.minimize_scalar(loss, bounds=(0, 1.5), options={"xatol": 1e-8}).x
        for loss in (bound, log_evidence)
    ]
    return float(found[0]), float(found[1])


@proof(
    "T-fn31",
    of=(average_bound, average_gap, LinearReverse.average_log_evidence),
    oracle="numerical maximisation of both over the model's slope",
    given=(st.floats(0.3, 0.9), st.floats(0.15, 0.85)),
    examples=15,
)
def best_bound_is_not_the_best_evidence(evidence: Evidence, gain: float, variance: float) -> None:
    """For unit data and one step the bound is best at lambda, the evidence at sqrt(1 - tau^2)."""
    recorded = [(0.7, 0.51, 0.7), (0.7, 0.2, 0.894), (0.7, 0.8, 0.447)]
    for signal, spread, best in [(gain, variance, np.sqrt(1 - variance)), *recorded]:
        chain = Chain([1 - signal**2])
        slopes = best_slopes(chain, spread)
        # The optimum of a smooth function is found to the root of its rounding error; the
        # recorded values have three digits.
        evidence.close(slopes[0], signal, atol=1e-5, what="slope of the best bound")
        evidence.close(slopes[1], best, atol=1e-3, what="slope of the best evidence")
        gaps = [float(average_gap(chain, one_step(slope, spread), 0.0, 1.0)) for slope in slopes]
        evidence.at_most(gaps[0], gaps[1] + ATOL, "gap at the best bound")
