"""Whole runs of ancestral sampling on known data, right and as printed, and the limit of a step."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.mixture import Mixture
from ddpm.reference.parameterisations import predict_eps
from ddpm.reference.sampling import ancestral_sample, ancestral_step, model_mean_variance
from ddpm.reference.schedules import linear_schedule
from ddpm.reference.variances import Variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.proofs.sampling import VARIANCES, gaussian_denoiser, recursion
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, moderate_betas

# A thousand steps accumulate a thousand roundings of conditioned variances of 1e-4 and more.
ACCUMULATED = 1e-9
LINEAR = linear_schedule(1000)
Integers = NDArray[np.int64]


def every_step(
    chain: Chain, data_variance: float, variance: Variance, noise_at_end: bool
) -> tuple[Chain, Integers, Integers, Array, Array, Array, Variance, bool]:
    """Arguments of all steps at once: the columns are x_t alone, the noise alone, and neither."""
    t = np.arange(1, chain.steps + 1, dtype=np.int64)
    x = np.tile([1.0, 0.0, 0.0], (t.size, 1))
    noise = np.tile([0.0, 1.0, 0.0], (t.size, 1))
    c2 = np.cumprod(1 - chain.betas)
    slopes = np.sqrt(c2) * data_variance / (c2 * data_variance + 1 - c2)
    return chain, t - 1, t, x, slopes[:, None] * x, noise, variance, noise_at_end


def output_variance(steps: Array) -> float:
    """Variance of the samples from N(0, 1), from x_s in the three columns of `every_step`."""
    total = 1.0
    for moved, noised, still in steps[::-1]:
        total = (moved - still) ** 2 * total + (noised - still) ** 2
    return float(total)


def steps_by_conditioning(
    chain: Chain,
    s: Integers,
    t: Integers,
    x_t: Array,
    x0_hat: Array,
    noise: Array,
    variance: Variance,
    noise_at_end: bool,
) -> Array:
    """Steps of a batch, each by regression and by the variance that conditioning leaves."""
    covariance, rows = joint_covariance(chain.betas), []
    for i, (low, high) in enumerate(zip(s.tolist(), t.tolist(), strict=True)):
        (a, b), rest = np.array([1.0, 0.0]), 0.0
        if low:
            (a, b), rest = condition(covariance, low, [0, high])
        if variance == "beta":
            rest = condition(covariance, high, [low])[1] if low or noise_at_end else 0.0
        rows.append(a * x0_hat[i] + b * x_t[i] + np.sqrt(rest) * noise[i])
    return np.stack(rows)


FOUR_STEPS = (
    moderate_betas(min_steps=4, max_steps=4).map(Chain),
    st.just(np.arange(4)),
    st.just(np.arange(1, 5)),
    st.just(np.tile([1.0, 0.0, 0.0], (4, 1))),
    st.floats(0.1, 1.0).map(lambda slope: slope * np.tile([1.0, 0.0, 0.0], (4, 1))),
    st.just(np.tile([0.0, 1.0, 0.0], (4, 1))),
)


@misprint(
    "K-80",
    of=ancestral_step,
    truth=steps_by_conditioning,
    oracle="conditioning the joint covariance, step by step",
    counterexample=Counterexample(
        every_step(LINEAR, 1.0, "beta", False), printed=276.5, right=0.9999, within=0.05
    ),
    search=(*FOUR_STEPS, VARIANCES, st.booleans()),
    value=output_variance,
)
def variance_as_a_shift(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    noise: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> Array:
    """Mean plus variance plus noise."""
    mean, spread = model_mean_variance(chain, s, t, x_t, x0_hat, variance, noise_at_end)
    return np.asarray((mean.T + spread + noise.T).T)


@misprint(
    "K-80",
    of=ancestral_step,
    truth=steps_by_conditioning,
    oracle="conditioning the joint covariance, step by step",
    counterexample=Counterexample(
        every_step(LINEAR, 1.0, "beta", False), printed=0.0056, right=0.9999
    ),
    search=(*FOUR_STEPS, VARIANCES, st.booleans()),
    value=output_variance,
)
def variance_without_its_root(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    noise: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> Array:
    """Mean plus variance times noise, the other reading of the second sign."""
    mean, spread = model_mean_variance(chain, s, t, x_t, x0_hat, variance, noise_at_end)
    return np.asarray((mean.T + spread * noise.T).T)


@misprint(
    "K-81",
    of=ancestral_step,
    truth=steps_by_conditioning,
    oracle="conditioning the joint covariance, step by step",
    counterexample=Counterexample(
        every_step(Chain(LINEAR.betas[:100]), 1.0, "beta", True),
        printed=37.7,
        right=1.0,
        within=0.05,
    ),
    search=(*FOUR_STEPS, st.just("beta"), st.just(True)),
    value=output_variance,
)
def root_of_alpha_bar(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    noise: Array,
    variance: Variance = "posterior",
    noise_at_end: bool = False,
) -> Array:
    """The mean divided by sqrt(alpha_bar_t), where sqrt(alpha_t) belongs."""
    spread = model_mean_variance(chain, s, t, x_t, x0_hat, variance, noise_at_end)[1]
    eps = predict_eps("x0", x0_hat, x_t, chain, t)
    mean = (x_t.T - chain.beta(s, t) / chain.d[t] * eps.T) / chain.c[t]
    return np.asarray((mean + np.sqrt(spread) * noise.T).T)


@proof(
    "V-6",
    "V-alg2",
    of=ancestral_step,
    oracle="regressions in the joint covariance, level by level",
)
def samples_of_gaussian_data(evidence: Evidence) -> None:
    """Both variances sample Gaussian data nearly: "beta" unit data best, the other a point."""
    levels = [*range(1000, -1, -1)]
    figures: tuple[tuple[float, Variance, float, float], ...] = (
        (1.0, "beta", 0.9999, 5e-5),
        (1.0, "posterior", 0.9911, 5e-5),
        (0.25, "beta", 0.25075, 5e-6),
        (0.25, "posterior", 0.24613, 5e-6),
        (1e-3, "beta", 9.99e-4, 5e-7),
        (1e-3, "posterior", 7.79e-4, 5e-7),
    )
    for data_variance, variance, figure, digit in figures:
        got = output_variance(ancestral_step(*every_step(LINEAR, data_variance, variance, False)))
        evidence.at_most(abs(got - figure), digit, f"distance from {figure}")
        chain = Chain(LINEAR.betas[:50])
        got = output_variance(ancestral_step(*every_step(chain, data_variance, variance, False)))
        want = recursion(chain, levels[-51:], data_variance, variance, False)
        evidence.close(got, want, rtol=ACCUMULATED, what="variance after 50 levels")
    kept = output_variance(ancestral_step(*every_step(LINEAR, 1.0, "beta", True)))
    evidence.close(kept, 1.0, rtol=ACCUMULATED, what="unit data, noise at the end")


@proof(
    "G-Alg2", "G-Alg2-last",
    of=(ancestral_sample, ancestral_step),
    oracle="regressions in the joint covariance, level by level",
)  # fmt: skip
def three_variances(evidence: Evidence) -> None:
    """From q(x_T), the true reverse variance returns the data's, "beta" more, the other less."""
    chain, levels = Chain(np.linspace(1e-3, 0.2, 50)), [*range(50, -1, -1)]
    truth, noise = joint_covariance(chain.betas, 0.5), np.eye(51)
    noise[-1] *= np.sqrt(truth[50, 50])
    exact = truth[50, 50]
    for t in range(50, 0, -1):
        (slope,), rest = condition(truth, t - 1, [t])
        exact = slope**2 * exact + rest
    evidence.close(exact, 0.5, rtol=ACCUMULATED, what="true reverse variance")
    figures: tuple[tuple[Variance, float], ...] = (("beta", 0.5112), ("posterior", 0.4342))
    for variance, figure in figures:
        denoiser = gaussian_denoiser(chain, 0.5)
        weights = ancestral_sample(chain, denoiser, levels, noise, variance, noise_at_end=True)
        evidence.at_most(abs(weights @ weights - figure), 5e-5, f"distance from {figure}")
    first = [
        output_variance(ancestral_step(*every_step(LINEAR, 1.0, "beta", kept)))
        for kept in (True, False)
    ]
    evidence.close(first[0] - first[1], 1e-4, atol=1e-12, what="what the last noise adds")


@proof("K-81", of=ancestral_step, oracle="variance 1 of unit data under exact sampling")
def growth_of_the_printed_samples(evidence: Evidence) -> None:
    """The variance of printed samples explodes with the length of the chain; the right one is 1."""
    for length, figure in ((100, 37.7), (200, 1.2e12), (300, 1.4e40)):
        arguments = every_step(Chain(LINEAR.betas[:length]), 1.0, "beta", True)
        got = output_variance(ancestral_step(*arguments))
        evidence.close(got, 1.0, rtol=ACCUMULATED, what=f"variance after {length} levels")
        printed = output_variance(root_of_alpha_bar(*arguments))
        evidence.at_most(abs(printed / figure - 1), 0.05, "relative distance from the figure")


@proof("V-alg2", "G-Alg2", of=ancestral_sample, oracle="distribution function of the mixture")
def samples_of_a_mixture(evidence: Evidence) -> None:
    """With the exact denoiser of a mixture the samples follow it (Kolmogorov and Smirnov)."""
    data = Mixture(np.array([0.3, 0.7]), np.array([-1.0, 0.5]), np.array([0.04, 0.09]))
    chain, count = Chain(np.linspace(1e-3, 0.12, 100)), 4000
    noise = np.random.default_rng(2).normal(size=(101, count))

    def denoiser(x: Array, t: int) -> Array:
        return data.denoised(x, float(chain.c[t]), float(chain.one_minus_alpha_bar[t]))

    names: tuple[Variance, ...] = ("posterior", "beta")
    for variance in names:
        samples = np.sort(ancestral_sample(chain, denoiser, range(100, -1, -1), noise, variance))
        scaled = (samples[:, None] - data.means) / np.sqrt(data.variances)
        below = stats.norm.cdf(scaled) @ data.weights
        distance = np.max(np.abs(below - (np.arange(count) + 0.5) / count)) + 0.5 / count
        # Exact draws exceed 2.8 / sqrt(n) once in three million runs; 100 levels add their own.
        evidence.close(distance, 0.0, atol=2.8 / np.sqrt(count), what="distance of samples")


@proof(
    "G-42-vs-54",
    of=ancestral_step,
    oracle="one step of Euler and Maruyama for the reverse of dx = -x/2 dt + dw",
    given=(generators(), st.floats(0.1, 0.9)),
    examples=10,
)
def step_of_the_reverse_equation(
    evidence: Evidence, rng: np.random.Generator, before: float
) -> None:
    """The step is that of the equation up to beta^2, for any data, and the noise is the same."""
    data = Mixture(np.array([0.4, 0.6]), rng.normal(size=2), rng.uniform(0.1, 1.0, 2))
    x, z = np.linspace(-2.0, 2.0, 41), rng.normal(size=41)

    def error(beta: float) -> float:
        chain = Chain([before, beta])
        c, noise = float(chain.c[2]), float(chain.one_minus_alpha_bar[2])
        score = data.score(x, c, noise)
        estimate = (x + noise * score) / c
        got = ancestral_step(chain, 1, 2, x, estimate, z, "beta")
        equation = x + beta * (x / 2 + score) + np.sqrt(beta) * z
        return float(np.linalg.norm(got - equation))

    order = np.log2(error(2e-4) / error(1e-4))
    # The term in beta^3 moves the order by a few times beta.
    evidence.close(order, 2.0, atol=0.01, what="order of the error")
