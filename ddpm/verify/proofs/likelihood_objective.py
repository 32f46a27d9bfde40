"""Maximum likelihood level by level against assembled joints, node averages and optimisers."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from ddpm.reference.gaussian import entropy, kl_isotropic, log_density
from ddpm.reference.likelihood_objective import (
    LikelihoodTerms,
    fit_linear_step,
    inner_average,
    likelihood_terms,
    tied_objective,
)
from ddpm.reference.mixture import Mixture
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid, quad_kl
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, moderate_betas

# Sums of some hundred terms of size one.
ROUNDING = {"rtol": 1e-11, "atol": 1e-11}

# Sines of x under a normal law converge on Gauss-Hermite nodes faster than any power of their
# number: 24 in each of three dimensions leave 1e-12, and a regression 1e-11.
NODES = 24
AVERAGE = {"rtol": 1e-9, "atol": 1e-9}

DATA = Mixture(np.array([0.3, 0.7]), np.array([-1.1, 0.6]), np.array([0.2, 0.4]))


class Nodes(NamedTuple):
    """Weighted values of a clean sample and of two adjacent levels."""

    x0: Array
    x_s: Array
    x_t: Array
    weights: Array


def adjacent(steps: Array, t: int) -> Nodes:
    """Nodes of (x_0, x_{t-1}, x_t) for mixture data, by the recursion of the chain."""
    (z0, z1, z2), weights = normal_grid(3, NODES)
    x0 = (DATA.means[:, None] + np.sqrt(DATA.variances)[:, None] * z0).ravel()
    both, count = np.outer(DATA.weights, weights).ravel(), DATA.means.size
    gain, variance = condition(joint_covariance(steps), t - 1, [0])
    x_s = gain[0] * x0 + np.sqrt(max(variance, 0.0)) * np.tile(z1, count)
    x_t = np.sqrt(1 - steps[t - 1]) * x_s + np.sqrt(steps[t - 1]) * np.tile(z2, count)
    return Nodes(x0, x_s, x_t, both)


def network(rng: np.random.Generator) -> Callable[[Array], Array]:
    """A random smooth function of x_t."""
    slope, amount, speed = rng.uniform(-0.5, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.3, 1.2)
    return lambda x: np.asarray(slope * x + amount * np.sin(speed * x + slope))


def linear_model(rng: np.random.Generator, steps: int) -> tuple[Array, Array, Array]:
    """Slopes, shifts and variances of the steps of a model."""
    slopes, shifts = rng.normal(size=(2, steps)) / 2
    return slopes, shifts, rng.uniform(0.2, 2, steps)


def model_joint(slopes: Array, shifts: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and covariance of (x_0..x_T) of a model that starts at N(0, 1) and steps down."""
    size = slopes.size + 1
    rows, mean = np.eye(size), np.zeros(size)
    for t in range(size - 1, 0, -1):
        mean[t - 1] = slopes[t - 1] * mean[t] + shifts[t - 1]
        rows[t - 1] = slopes[t - 1] * rows[t]
        rows[t - 1, t - 1] = np.sqrt(variances[t - 1])
    return mean, rows @ rows.T


def terms_of(paths: Array, model: tuple[Array, Array, Array]) -> LikelihoodTerms:
    """The terms under a linear model."""
    slopes, shifts, variances = model
    means = slopes[:, None, None] * paths[1:] + shifts[:, None, None]
    return likelihood_terms(paths, means, variances)


@proof(
    "T-2.2-ML", "T-2.2-step",
    of=(LikelihoodTerms.total, likelihood_terms),
    oracle="scipy's density of the assembled joint, and of each step",
    given=(st.integers(1, 5), st.integers(1, 3), generators()),
)  # fmt: skip
def joint_splits(evidence: Evidence, steps: int, size: int, rng: np.random.Generator) -> None:
    """The joint log-likelihood is that of the last level and one term for each step."""
    model, paths = linear_model(rng, steps), rng.normal(size=(steps + 1, 7, size))
    got = terms_of(paths, model)
    joint = stats.multivariate_normal(*model_joint(*model))
    want = np.mean(np.sum(joint.logpdf(np.moveaxis(paths, 0, 2)).reshape(7, size), axis=1))
    evidence.close(got.total, want, rtol=1e-8, atol=1e-9, what="joint log-likelihood")
    last = stats.norm.logpdf(paths[-1])
    evidence.close(got.terminal, np.mean(np.sum(last, axis=1)), what="last level", **ROUNDING)
    for t, (slope, shift, variance) in enumerate(zip(*model, strict=True), start=1):
        each = stats.norm.logpdf(paths[t - 1], slope * paths[t] + shift, np.sqrt(variance))
        evidence.close(got.steps[t - 1], np.mean(np.sum(each, axis=1)), what="step", **ROUNDING)
    means = model[0][:, None, None] * paths[1:] + model[1][:, None, None]
    spread = np.repeat(model[2][:, None], 7, axis=1)
    evidence.equal(likelihood_terms(paths, means, spread).steps, got.steps, "variance per path")


@proof(
    "T-fn12", "T-2.2-ML",
    of=(LikelihoodTerms.total, likelihood_terms),
    oracle="the expected log density of the assembled joint over Gauss-Hermite nodes",
    given=(generators(),),
    examples=3,
)  # fmt: skip
def sampled_paths(evidence: Evidence, rng: np.random.Generator) -> None:
    """The average over sampled paths estimates the expected log-likelihood without bias."""
    steps, model = np.array([0.2, 0.1, 0.4]), linear_model(rng, 3)
    root = np.linalg.cholesky(joint_covariance(steps, 0.7))
    points, weights = normal_grid(4, 2)
    joint = stats.multivariate_normal(*model_joint(*model))
    want = weights @ joint.logpdf((root @ points).T)
    noise = rng.normal(size=(400, 4, 50, 1))
    draws = [terms_of(np.tensordot(root, z, axes=1), model).total for z in noise]
    evidence.mean(np.array(draws), want, "log-likelihood of 50 paths")


@proof(
    "T-2.2-step",
    of=(fit_linear_step, likelihood_terms),
    oracle="numerical maximisation of scipy's log density",
    given=(generators(),),
    examples=8,
)
def fit_is_most_likely(evidence: Evidence, rng: np.random.Generator) -> None:
    """Least squares and the mean square that remains maximise the likelihood of a step."""
    x = rng.normal(size=30)
    y = 0.6 * x + 0.3 + 0.5 * rng.normal(size=30)

    def loss(values: Array) -> float:
        slope, shift, log_sd = values.tolist()
        return -float(np.mean(stats.norm.logpdf(y, slope * x + shift, np.exp(log_sd))))

    found = optimize.minimize(
        loss, [0.0, 0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14}
    )
    got = fit_linear_step(y, x)
    best = [*found.x[:2], np.exp(2 * found.x[2])]
    # An optimiser without slopes finds a place to the root of the precision of the value.
    evidence.close(np.array(got), best, atol=1e-6, what="slope, shift, variance")
    paths = np.stack([y, x])[..., None]
    terms = likelihood_terms(paths, got.slope * paths[1:] + got.shift, [got.variance])
    evidence.close(terms.steps[0], -found.fun, atol=1e-10, what="log-likelihood at the optimum")


@proof(
    "T-2.2-step",
    of=fit_linear_step,
    oracle="regression in the joint covariance of the simulated chain",
    given=(moderate_betas(min_steps=2), generators()),
    examples=8,
)
def fit_finds_the_regression(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """On many noised samples the fit is the regression of a level on the next one."""
    covariance, count = joint_covariance(steps, 1.7), 20_000
    paths = np.linalg.cholesky(covariance) @ rng.normal(size=(steps.size + 1, count))
    for t in range(1, steps.size + 1):
        weights, variance = condition(covariance, t - 1, [t])
        got = fit_linear_step(paths[t - 1], paths[t])
        # Five standard errors of each estimate.
        error = 5 * np.sqrt(variance / count)
        evidence.close(got.slope, weights[0], atol=error / np.sqrt(covariance[t, t]), what="slope")
        evidence.close(got.shift, 0.0, atol=error, what="shift")
        evidence.close(got.variance, variance, rtol=5 * np.sqrt(2 / count), what="variance")


@proof(
    "T-2.3-obj",
    of=tied_objective,
    oracle="scipy's law of a uniform level, and its expectation",
    given=(st.integers(1, 12), generators()),
)
def uniform_level(evidence: Evidence, steps: int, rng: np.random.Generator) -> None:
    """The weighted term of a level that is uniform in 1..T has the objective as its mean."""
    weights, values = rng.uniform(0, 3, steps), rng.normal(size=steps)
    law = stats.randint(1, steps + 1)
    want = sum(law.pmf(t + 1) * weights[t] * values[t] for t in range(steps))
    evidence.close(tied_objective(weights, values), want, what="objective", **ROUNDING)


@proof(
    "T-fn15",
    of=(tied_objective, inner_average),
    oracle="weighted regression in the joint covariance",
    given=(moderate_betas(min_steps=3), generators()),
    examples=10,
)
def width_and_weight(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """A shared slope depends on w / sigma^2 alone: weights trade levels off at any width."""
    covariance = joint_covariance(steps)
    (z0, z1), probability = normal_grid(2, 3)
    pull = rng.uniform(0.3, 3, steps.size)

    def best(weights: Array, variances: Array) -> float:
        def loss(slope: float) -> float:
            values = [level(t, slope, variances[t - 1]) for t in range(1, steps.size + 1)]
            return -tied_objective(weights, values)

        return float(optimize.minimize_scalar(loss, bracket=(0.5, 1.0), tol=1e-12).x)

    def level(t: int, slope: float, variance: float) -> float:
        gain, spread = condition(covariance, t, [0])
        x_t = gain[0] * z0 + np.sqrt(spread) * z1
        coefficients, s2 = condition(covariance, t - 1, [0, t])
        mean = (coefficients @ np.stack([z0, x_t]))[:, None]
        inner = inner_average(mean, max(s2, 0.0), slope * x_t[:, None], variance)
        return float(probability @ inner)

    cross = np.diag(covariance, 1)
    want = pull @ cross / (pull @ np.diag(covariance)[1:])
    for width in rng.uniform(0.2, 2, (2, steps.size)):
        got = best(pull * width, width)
        evidence.close(got, want, atol=1e-6, what="slope shared by all levels")
    width = rng.uniform(0.2, 2, steps.size)
    moved = (1 / width) @ cross / ((1 / width) @ np.diag(covariance)[1:])
    evidence.close(best(np.ones(steps.size), width), moved, atol=1e-6, what="slope without weights")


@proof(
    "T-2.4-tower", "T-2.4-L", "T-fn18",
    of=(inner_average, log_density),
    oracle="three-dimensional Gauss-Hermite averages of scipy's density over mixture data",
    given=(st.data(), moderate_betas(max_steps=4, min_steps=2), generators()),
    examples=10,
)  # fmt: skip
def nested_averages(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """The closed average over x_{t-1} changes no expectation and removes variance."""
    t = data.draw(st.integers(1, steps.size))
    x0, x_s, x_t, weights = adjacent(steps, t)
    coefficients, s2 = condition(joint_covariance(steps), t - 1, [0, t])
    mean_q = coefficients[0] * x0 + coefficients[1] * x_t
    mean, width = network(rng)(x_t), np.exp(0.4 * np.sin(x_t))
    naive = np.asarray(stats.norm.logpdf(x_s, mean, np.sqrt(width)))
    evidence.close(log_density(x_s[:, None], mean[:, None], width), naive, what="L", **ROUNDING)
    inner = inner_average(mean_q[:, None], max(s2, 0.0), mean[:, None], width)
    evidence.close(weights @ inner, weights @ naive, what="average", **AVERAGE)

    def variance(values: Array) -> float:
        return float(weights @ (values - weights @ values) ** 2)

    total = variance(inner) + variance(naive - inner)
    evidence.close(variance(naive), total, what="variance of the naive estimate", **AVERAGE)
    evidence.at_most(variance(inner), variance(naive) + 1e-12, "variance of the closed average")


@proof(
    "T-2.4-tower", "T-fn19",
    of=(inner_average, kl_isotropic, entropy),
    oracle="quadrature of scipy's log density, one coordinate at a time",
    given=(st.integers(1, 3), generators()),
)  # fmt: skip
def average_and_divergence(evidence: Evidence, size: int, rng: np.random.Generator) -> None:
    """The inner average is the negative divergence less the entropy; at a point, the density."""
    (m1, m2), (v1, v2) = rng.normal(size=(2, size)), rng.uniform(0.1, 3, 2)
    sd1, sd2 = np.sqrt([v1, v2])
    divergence = sum(quad_kl(a, sd1, b, sd2) for a, b in zip(m1, m2, strict=True))
    want = sum(expected_log(a, sd1, b, sd2) for a, b in zip(m1, m2, strict=True))
    got = inner_average(m1, v1, m2, v2)
    evidence.close(got, want, rtol=1e-8, atol=1e-9, what="E_q log p")
    disorder = size * float(stats.norm(0, sd1).entropy())
    evidence.close(got, -divergence - disorder, rtol=1e-8, atol=1e-9, what="-KL - H by scipy")
    parts = -kl_isotropic(m1, v1, m2, v2) - entropy(v1, size)
    evidence.close(got, parts, what="-KL - H", **ROUNDING)
    point = np.sum(stats.norm.logpdf(m1, m2, sd2))
    evidence.close(inner_average(m1, 0.0, m2, v2), point, what="point mass", **ROUNDING)


def expected_log(mean_q: float, sd_q: float, mean_p: float, sd_p: float) -> float:
    """E_q log p on the line by quadrature."""

    def integrand(x: Array) -> Array:
        log_p = stats.norm.logpdf(x, mean_p, sd_p)
        return np.asarray(stats.norm.pdf(x, mean_q, sd_q) * log_p)

    reach = 13 * sd_q
    return float(integrate.fixed_quad(integrand, mean_q - reach, mean_q + reach, n=200)[0])
