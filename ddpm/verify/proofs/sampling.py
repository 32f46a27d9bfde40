"""Ancestral sampling: one step against conditioning, and whole runs as exact linear maps."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.sampling import (
    Denoiser,
    ancestral_sample,
    ancestral_step,
    descend,
    model_mean_variance,
)
from ddpm.reference.variances import Variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import (
    Array,
    generators,
    level_pairs,
    moderate_betas,
    shapes,
    subsequences,
)

# A solve in a covariance of condition number 1e4 leaves 1e-11, its root 1e-8 where it vanishes.
SOLVED = 1e-9
VARIANCES = st.sampled_from(["posterior", "beta"])


def law(
    chain: Chain,
    s: int,
    t: int,
    x_t: Array,
    x0_hat: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> tuple[Array, Array]:
    """Regression on x_0 and x_t, with what it leaves, or what x_s leaves in x_t."""
    covariance = joint_covariance(chain.betas)
    (a, b), rest = condition(covariance, s, [0, t]) if s else (np.array([1.0, 0.0]), 0.0)
    if variance == "beta":
        rest = condition(covariance, t, [s])[1] if s or noise_at_end else 0.0
    return a * x0_hat + b * x_t, np.array(rest)


@proof(
    "K-80", "G-42", "V-6",
    of=model_mean_variance,
    oracle="conditioning the joint covariance of all levels",
    given=(
        st.data(), moderate_betas(), VARIANCES, st.booleans(), shapes(min_batch=1), generators()
    ),
)  # fmt: skip
def law_of_a_step(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    variance: Variance,
    noise_at_end: bool,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """The step's mean is a regression, its variance that of the posterior or of the noising."""
    s, t = data.draw(level_pairs(steps.size))
    x_t, x0_hat = rng.normal(size=(2, *shape))
    arguments = (Chain(steps), s, t, x_t, x0_hat, variance, noise_at_end)
    mean, spread = model_mean_variance(*arguments)
    want_mean, want_spread = law(*arguments)
    evidence.close(mean, want_mean, rtol=SOLVED, atol=SOLVED, what="mean")
    evidence.close(spread, want_spread, rtol=SOLVED, what="variance")


@misprint(
    "G-42",
    of=model_mean_variance,
    truth=law,
    oracle="conditioning the joint covariance of all levels",
    counterexample=Counterexample(
        (Chain([0.2, 0.09]), 1, 2, np.zeros(1), np.zeros(1), "beta"), printed=0.3, right=0.09
    ),
    search=(
        moderate_betas(min_steps=2).map(Chain),
        st.just(1),
        st.just(2),
        st.just(np.zeros(1)),
        st.just(np.zeros(1)),
        VARIANCES,
    ),
    value=lambda result: result[1],
)
def deviation_as_covariance(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> tuple[Array, Array]:
    """The text calls sigma_t I the covariance; the update adds sigma_t eps, so it is the square."""
    mean, spread = model_mean_variance(chain, s, t, x_t, x0_hat, variance, noise_at_end)
    return mean, np.sqrt(spread)


@proof(
    "V-6", "K-80", "K-81", "G-42",
    of=ancestral_step,
    oracle="conditioning the joint covariance, with x_0 told by x_t and its noise",
    given=(st.data(), moderate_betas(), VARIANCES, shapes(min_batch=1), generators()),
)  # fmt: skip
def step_from_the_noise(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    variance: Variance,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """A step is the mean plus the root of the variance times fresh noise; none at level 0."""
    s, t = data.draw(level_pairs(steps.size))
    chain, c = Chain(steps), joint_covariance(steps)[0, t]
    x0, eps, z = rng.normal(size=(3, *shape))
    x_t = c * x0 + np.sqrt(1 - c**2) * eps
    told = predict_x0("eps", eps, x_t, chain, t)
    mean, spread = law(chain, s, t, x_t, x0, variance)
    got = ancestral_step(chain, s, t, x_t, told, z, variance)
    evidence.close(got, mean + np.sqrt(spread) * z, rtol=SOLVED, atol=1e-8, what="x_s")
    previous = ancestral_step(chain, t - 1, t, x_t, told, 0 * z, variance)
    alpha = joint_covariance(steps)[t - 1, t] ** 2
    printed = (x_t - (1 - alpha) / np.sqrt(1 - c**2) * eps) / np.sqrt(alpha)
    evidence.close(previous, printed, rtol=SOLVED, atol=1e-8, what="mean from the noise")


@proof("K-80", "G-42", of=ancestral_step, oracle="moments of a hundred thousand draws")
def moments_of_draws(evidence: Evidence) -> None:
    """Draws have the mean mu and the variance sigma^2."""
    rng, count = np.random.default_rng(80), 100_000
    chain = Chain([0.1, 0.2, 0.3])
    names: tuple[Variance, ...] = ("posterior", "beta")
    for variance in names:
        mean, spread = law(chain, 2, 3, np.array(0.7), np.array(-0.4), variance)
        x_t, x0_hat = np.full((2, count), [[0.7], [-0.4]])
        draws = ancestral_step(chain, 2, 3, x_t, x0_hat, rng.normal(size=count), variance)
        evidence.mean(draws, mean, "the mean")
        evidence.mean((draws - mean) ** 2, spread, "the variance")


def gaussian_denoiser(chain: Chain, data_variance: float) -> Denoiser:
    """E[x_0 | x_t] of data N(0, data_variance), by regression in the joint covariance."""
    covariance = joint_covariance(chain.betas, data_variance)
    return lambda x, t: np.asarray(condition(covariance, 0, [t])[0] * x)


def recursion(
    chain: Chain, levels: list[int], data_variance: float, variance: Variance, noise_at_end: bool
) -> float:
    """Variance of the samples from N(0, 1): regression of x_s on x_t, then the model's variance."""
    truth, total = joint_covariance(chain.betas, data_variance), 1.0
    for t, s in pairwise(levels):
        slope = condition(truth, s, [t])[0][0]
        spread = law(chain, s, t, np.zeros(1), np.zeros(1), variance, noise_at_end)[1]
        total = slope**2 * total + float(spread)
    return total


@proof(
    "V-6", "V-alg2", "G-Alg2",
    of=(ancestral_sample, descend),
    oracle="regressions in the joint covariance, level by level",
    given=(
        st.data(), moderate_betas(max_steps=6), VARIANCES, st.booleans(), st.floats(0.05, 3.0)
    ),
)  # fmt: skip
def whole_run(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    variance: Variance,
    noise_at_end: bool,
    data_variance: float,
) -> None:
    """A run on unit vectors in place of noises gives the weight of each noise in a sample."""
    chain, levels = Chain(steps), data.draw(subsequences(steps.size))
    denoiser = gaussian_denoiser(chain, data_variance)
    weights = ancestral_sample(chain, denoiser, levels, np.eye(len(levels)), variance, noise_at_end)
    want = recursion(chain, levels, data_variance, variance, noise_at_end)
    evidence.close(weights @ weights, want, rtol=1e-8, what="variance of the samples")


@proof(
    "G-Alg2-last", "V-alg2",
    of=ancestral_sample,
    oracle="weights of every noise, with unit data and a point as exact cases",
    given=(moderate_betas(max_steps=6), st.floats(0.0, 3.0), VARIANCES),
    examples=12,
)  # fmt: skip
def noise_of_the_last_step(
    evidence: Evidence, steps: Array, data_variance: float, variance: Variance
) -> None:
    """Noise at t = 1 adds exactly beta_1 under "beta" and nothing under the posterior's variance.

    Unit data need it, a point does not: "beta" with it returns variance 1, the other without it 0.
    """
    chain, levels, unit = Chain(steps), [*range(steps.size, -1, -1)], np.eye(steps.size + 1)

    def variance_of(size: float, name: Variance, noise_at_end: bool) -> float:
        denoiser = gaussian_denoiser(chain, size)
        weights = ancestral_sample(chain, denoiser, levels, unit, name, noise_at_end)
        return float(weights @ weights)

    with_noise = variance_of(data_variance, variance, True)
    without = variance_of(data_variance, variance, False)
    extra = steps[0] if variance == "beta" else 0.0
    evidence.close(with_noise - without, extra, atol=1e-12, what="extra variance")
    evidence.close(variance_of(1.0, "beta", True), 1.0, rtol=SOLVED, what="unit data")
    for name in ("beta", "posterior"):
        evidence.close(variance_of(0.0, name, False), 0.0, atol=1e-12, what="a point")
