"""Regressions level by level against numerical maximisers, and the law of what they generate."""

import numpy as np
from hypothesis import strategies as st
from scipy import optimize, stats

from ddpm.reference.chain import Chain
from ddpm.reference.forward import forward_path
from ddpm.reference.likelihood_objective import fit_linear_step
from ddpm.reference.schedules import alpha_bar_schedule
from ddpm.reference.untied import (
    PolynomialStep,
    fit_step,
    fit_untied,
    generated_variance,
    generation_gap,
    step_mean,
    untied_sample,
)
from ddpm.reference.variances import Variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, moderate_betas

LENGTHS = [10, 30, 100, 300, 1000]
VARIANCES: tuple[Variance, ...] = ("beta", "posterior")


def paths(generator: np.random.Generator, chain: Chain, samples: int) -> Array:
    """Noised samples of data with two modes, shape (T + 1, samples)."""
    x0 = 0.4 * generator.standard_normal(samples) + generator.choice([-1.0, 0.8], samples)
    return forward_path(chain, x0, generator.standard_normal((chain.steps, samples)))


def surprise(parameters: Array, levels: Array) -> float:
    """Minus the log density of whole paths, all levels' parameters in one vector."""
    total = 0.0
    for row, cleaner, noisier in zip(
        parameters.reshape(len(levels) - 1, -1), levels[:-1], levels[1:], strict=True
    ):
        mean = sum(coefficient * noisier**k for k, coefficient in enumerate(row[:-1]))
        total -= stats.norm.logpdf(cleaner, mean, np.exp(row[-1])).mean()
    return total


@proof(
    "T-2.2-argmax", "T-2.2-untied",
    of=(fit_untied, fit_step),
    oracle="maximising the joint likelihood of whole paths over all parameters at once",
    given=(generators(), moderate_betas(max_steps=3), st.integers(0, 2)),
    examples=6,
)  # fmt: skip
def joint_maximum(
    evidence: Evidence, generator: np.random.Generator, betas: Array, degree: int
) -> None:
    """The levels fitted one by one make whole noised samples as likely as can be."""
    levels = paths(generator, Chain(betas), 60)
    got = [[*step.coefficients, np.log(step.variance) / 2] for step in fit_untied(levels, degree)]
    start = np.tile([0.0] * (degree + 1) + [0.5], betas.size)
    found = optimize.minimize(surprise, start, args=(levels,), method="BFGS", tol=1e-7)
    # The minimiser works with differences, which know a flat minimum to about 1e-5.
    evidence.close(np.ravel(got), found.x, atol=1e-4, rtol=1e-4, what="parameters")
    evidence.at_most(surprise(np.ravel(got), levels), found.fun + 1e-12, "surprise")


@proof(
    "T-2.2-argmax", "T-2.2-untied",
    of=fit_untied,
    oracle="conditioning the joint covariance of Gaussian data",
    given=(generators(), moderate_betas(max_steps=4), st.floats(0.2, 4)),
    examples=6,
)  # fmt: skip
def population_regression(
    evidence: Evidence, generator: np.random.Generator, betas: Array, data_variance: float
) -> None:
    """For Gaussian data the fitted lines have the population's regression as their mean."""
    chain, groups, size = Chain(betas), 200, 20
    noise = generator.standard_normal((betas.size, groups * size))
    x0 = np.sqrt(data_variance) * generator.standard_normal(groups * size)
    levels = forward_path(chain, x0, noise).reshape(-1, groups, size)
    fits = [fit_untied(levels[:, group]) for group in range(groups)]
    covariance = joint_covariance(betas, data_variance)
    for t in range(1, betas.size + 1):
        weights, rest = condition(covariance, t - 1, [t])
        lines = np.array([fit[t - 1].coefficients for fit in fits])
        evidence.mean(lines, np.array([0.0, weights[0]]), "intercept and slope")
        # Least squares with two parameters leaves n - 2 of n degrees of freedom.
        left = np.array([fit[t - 1].variance for fit in fits]) * size / (size - 2)
        evidence.mean(left, rest, "variance")


@proof(
    "T-2.2-untied",
    of=(fit_step, step_mean),
    oracle="the closed line through the moments; orthogonality of the residual to each power",
    given=(generators(), st.integers(0, 4)),
)
def normal_equations(evidence: Evidence, generator: np.random.Generator, degree: int) -> None:
    """The residual has no product with any power up to the degree, and its square is the rest."""
    noisier, cleaner = paths(generator, Chain([0.3]), 50)[::-1]
    step = fit_step(cleaner, noisier, degree)
    residual = cleaner - step_mean(step, noisier)
    products = [np.mean(residual * noisier**k) for k in range(degree + 1)]
    evidence.close(products, np.zeros(degree + 1), atol=1e-11, what="product with a power")
    evidence.close(step.variance, np.mean(residual**2), rtol=1e-12)
    line = fit_linear_step(cleaner, noisier)
    got = fit_step(cleaner, noisier)
    evidence.close(
        [*got.coefficients, got.variance],
        [line.shift, line.slope, line.variance],
        rtol=1e-10,
        atol=1e-12,
    )


@proof(
    "T-2.2-untied",
    of=untied_sample,
    oracle="the law of a chain of linear steps; quadrature of a nonlinear one",
    given=(generators(),),
    examples=5,
)
def sampled_law(evidence: Evidence, generator: np.random.Generator) -> None:
    """Samples run down the levels from the last, each with its own mean and variance."""
    draws = 20_000
    start = generator.standard_normal(draws)
    square = PolynomialStep(np.array([0.2, 0.5, 0.3]), 0.1)
    line = PolynomialStep(np.array([-1.0, 2.0]), 0.4)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    mean_1 = 0.2 + 0.5 * nodes + 0.3 * nodes**2
    first = weights @ mean_1 / weights.sum()
    second = weights @ (mean_1**2 + 0.1) / weights.sum()
    x0 = untied_sample([line, square], start, generator.standard_normal((2, draws)))
    evidence.mean(x0, 2 * first - 1, "mean")
    evidence.mean((x0 - 2 * first + 1) ** 2, 4 * (second - first**2) + 0.4, "variance")
    # A step without variance follows its mean, so that the order of the steps shows.
    still = [step._replace(variance=0.0) for step in (line, square)]
    evidence.close(
        untied_sample(still, start, np.ones((2, draws))),
        2 * (0.2 + 0.5 * start + 0.3 * start**2) - 1,
        atol=1e-13,
    )


@proof(
    "T-2.2-untied",
    of=(fit_untied, untied_sample),
    oracle="the law of a chain of lines; the distance to the data's own samples",
    given=(generators(),),
    examples=3,
)
def lines_generate_one_mode(evidence: Evidence, generator: np.random.Generator) -> None:
    """Lines generate a normal law from data with two modes; cubics come closer to the data."""
    chain, draws = ladder(40, 1e-3), 10_000
    levels = paths(generator, chain, 5_000)
    start, noise = generator.standard_normal(draws), generator.standard_normal((40, draws))
    lines, cubics = fit_untied(levels), fit_untied(levels, 3)
    mean, variance = 0.0, 1.0
    for (shift, slope), rest in reversed(lines):
        mean, variance = shift + slope * mean, slope**2 * variance + rest
    made = untied_sample(lines, start, noise)
    for power, moment in [(1, 0), (2, 1), (3, 0), (4, 3)]:
        evidence.mean(((made - mean) / np.sqrt(variance)) ** power, moment, f"moment {power}")
    distance = stats.wasserstein_distance(untied_sample(cubics, start, noise), levels[0])
    evidence.at_most(distance, 0.8 * stats.wasserstein_distance(made, levels[0]), "distance")


def ladder(steps: int, last: float = 4e-5) -> Chain:
    """Levels whose log alpha_bar runs in equal steps from log .9999 to log `last`."""
    return alpha_bar_schedule(np.exp(np.linspace(np.log(0.9999), np.log(last), steps)))


def simulated_variance(betas: Array, data_variance: float, variance: Variance) -> float:
    """Run the model's moments down, each step by conditioning the joint covariance."""
    covariance, total = joint_covariance(betas, data_variance), 1.0
    for t in range(len(betas), 0, -1):
        weights, _ = condition(covariance, t - 1, [t])
        given_x0 = joint_covariance(betas, 0.0)
        rest = condition(given_x0, t - 1, [t])[1] if t > 1 else 0.0
        total = weights[0] ** 2 * total + (betas[t - 1] if variance == "beta" else rest)
    return total


@proof(
    "T-fn4",
    of=generated_variance,
    oracle="conditioning the joint covariance, step by step",
    given=(moderate_betas(), st.floats(0.1, 4), st.sampled_from(VARIANCES)),
)
def recursion(evidence: Evidence, betas: Array, data_variance: float, variance: Variance) -> None:
    """The exact noise makes each step the regression on x_t, with the model's variance."""
    got = generated_variance(Chain(betas), data_variance, variance)
    evidence.close(got, simulated_variance(betas, data_variance, variance), rtol=1e-9)


@proof("T-fn4", of=generation_gap, oracle="the recorded values of the variance recursion")
def more_levels_less_error(evidence: Evidence) -> None:
    """With the exact noise the divergence falls with T for both variances, towards zero."""
    recorded = {
        "beta": [0.196, 0.0513, 0.0057, 6.4e-4, 5.8e-5],
        "posterior": [3.31, 0.474, 0.0826, 0.0181, 0.0033],
    }
    for variance in VARIANCES:
        gaps = [generation_gap(ladder(steps), 0.25, variance) for steps in LENGTHS]
        evidence.close(gaps, recorded[variance], rtol=0.02, what=variance)
        evidence.holds(np.diff(gaps) < 0, "the divergence falls with T")


@proof("T-fn4", of=generation_gap, oracle="the same recursion with something held fixed")
def more_levels_are_not_enough(evidence: Evidence) -> None:
    """Steps that stay large, or a network that errs, leave a divergence at any T."""
    floors = {"beta": 0.02448, "posterior": 0.24651}
    for variance in VARIANCES:
        gaps = [generation_gap(Chain(np.full(steps, 0.2)), 0.25, variance) for steps in (100, 300)]
        evidence.close(gaps, floors[variance], atol=1e-5, what=f"left by large steps, {variance}")
    gaps = [generation_gap(ladder(steps), 0.25, "beta", 1.05) for steps in (300, 1000, 3000)]
    evidence.close(gaps, [4.36e-4, 1.614e-3, 2.086e-3], rtol=2e-3, what="left by a wrong noise")
