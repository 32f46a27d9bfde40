"""The exact reverse step for data of known law, against grids of the joint density."""

import mpmath as mp
import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.reverse import (
    exact_reverse_kurtosis,
    exact_reverse_log_density,
    exact_reverse_moments,
)
from ddpm.reference.variances import gaussian_variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, level_pairs, moderate_betas

# Every law below has a deviation of at least 0.1, two spacings of the grid, where the sum over the
# grid differs from the integral by 1e-34; powers and logarithms of it leave 1e-10.
GRID = np.linspace(-11.0, 11.0, 441)
NOISY = np.linspace(-3.0, 3.0, 13)
POINTS = st.floats(-2.0, 2.0)
BIMODAL = Mixture(np.array([0.5, 0.5]), np.array([-0.98, 0.98]), np.full(2, 1 - 0.98**2))


@st.composite
def mixtures(draw: st.DrawFn, variance: float = 1.0) -> Mixture:
    """One to three components, about zero, of the given variance in all."""
    count = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights, means = rng.dirichlet(np.full(count, 3.0)), rng.uniform(-2, 2, count)
    widths, means = rng.uniform(0.05, 1.0, count), means - weights @ means
    scale = variance / (weights @ (widths + means**2))
    return Mixture(weights, means * np.sqrt(scale), widths * scale)


def joint_density(data: Mixture, steps: Array, s: int, t: int, x_t: Array = GRID) -> Array:
    """Density at each x_t and at x_s on the grid, from the covariance of each component."""
    joint = np.zeros((x_t.size, GRID.size))
    for weight, mean, variance in zip(data.weights, data.means, data.variances, strict=True):
        covariance = joint_covariance(steps, variance)
        (to_s,), _ = condition(joint_covariance(steps), s, [0])
        (gain,), noise = condition(joint_covariance(steps), t, [s])
        law = weight * stats.norm.pdf(GRID, to_s * mean, np.sqrt(covariance[s, s]))
        joint += law * stats.norm.pdf(x_t[:, None], gain * GRID, np.sqrt(noise))
    return joint


def conditional_moments(joint: Array) -> tuple[Array, Array, Array]:
    """Mean, variance and excess kurtosis of x_s for each x_t of the grid."""
    laws = joint / joint.sum(axis=1, keepdims=True)
    mean = laws @ GRID
    away = GRID - mean[:, None]
    variance, fourth = (np.sum(laws * away**power, axis=1) for power in (2, 4))
    return mean, variance, fourth / variance**2 - 3


@proof(
    "K-3.5-bayes",
    of=exact_reverse_log_density,
    oracle="the joint density on a grid, divided by its own sum",
    given=(st.data(), moderate_betas(min_steps=2), mixtures()),
    examples=25,
)
def rule_of_bayes(evidence: Evidence, data: st.DataObject, steps: Array, law: Mixture) -> None:
    """The step's law times that of x_s over that of x_t is the conditional law of x_s."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    joint = joint_density(law, steps, s, t, NOISY)
    want = joint / (joint.sum(axis=1, keepdims=True) * (GRID[1] - GRID[0]))
    got = exact_reverse_log_density(law, Chain(steps), s, t, NOISY[:, None], GRID)
    evidence.close(np.exp(got), want, rtol=1e-9, atol=1e-12, what="density")


@proof(
    "T-fn17", "K-3.5-highvar",
    of=exact_reverse_moments,
    oracle="moments of the joint density on a grid",
    given=(st.data(), moderate_betas(min_steps=2), mixtures()),
    examples=25,
)  # fmt: skip
def moments(evidence: Evidence, data: st.DataObject, steps: Array, law: Mixture) -> None:
    """Mean and variance of x_s given x_t."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    mean, variance, _ = conditional_moments(joint_density(law, steps, s, t, NOISY))
    got = exact_reverse_moments(law, Chain(steps), s, t, NOISY[None])
    evidence.close(got[0], mean[None], rtol=1e-9, atol=1e-10, what="mean")
    evidence.close(got[1], variance[None], rtol=1e-9, what="variance")


@proof(
    "K-3.5-highvar",
    of=exact_reverse_moments,
    oracle="conditioning on x_0 as well, and the spread of x_0 on a grid",
    given=(st.data(), moderate_betas(min_steps=2), mixtures(), POINTS),
    examples=25,
)
def more_variance_without_the_clean_sample(
    evidence: Evidence, data: st.DataObject, steps: Array, law: Mixture, x_t: float
) -> None:
    """Without x_0 the variance is never smaller, by the squared weight of x_0 times its spread."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    weights, rest = condition(joint_covariance(steps), s, [0, t])
    (to_t,), noise = condition(joint_covariance(steps), t, [0])
    clean = np.linspace(-8, 8, 1601)
    parts = zip(law.weights, law.means, law.variances, strict=True)
    density = sum(w * stats.norm.pdf(clean, m, np.sqrt(v)) for w, m, v in parts)
    density = density * stats.norm.pdf(x_t, to_t * clean, np.sqrt(noise))
    centre = np.average(clean, weights=density)
    spread = np.average((clean - centre) ** 2, weights=density)
    _, variance = exact_reverse_moments(law, Chain(steps), s, t, x_t)
    evidence.close(variance, rest + weights[0] ** 2 * spread, rtol=1e-7, what="variance")
    s2 = posterior_coefficients(Chain(steps), s, t).s2
    evidence.at_most(s2, variance, "variance given x_0")


@proof(
    "K-3.5-highvar",
    of=gaussian_variance,
    oracle="conditioning the joint covariance with and without x_0",
    given=(st.data(), moderate_betas(), st.floats(0.01, 9.0)),
)
def more_variance_for_gaussian_data(
    evidence: Evidence, data: st.DataObject, steps: Array, data_variance: float
) -> None:
    """For Gaussian data the variance without x_0 is the same at every x_t, and larger."""
    s, t = data.draw(level_pairs(steps.size))
    covariance = joint_covariance(steps, data_variance)
    _, known = condition(covariance, s, [0, t])
    _, unknown = condition(covariance, s, [t])
    got = gaussian_variance(Chain(steps), s, t, data_variance)
    evidence.close(got, unknown, rtol=1e-9, what="variance")
    evidence.holds(known < got, "x_0 adds information")


@proof(
    "T-fn17",
    of=exact_reverse_kurtosis,
    oracle="the fourth moment of the joint density on a grid",
    given=(st.data(), moderate_betas(min_steps=2), mixtures()),
    examples=25,
)
def kurtosis(evidence: Evidence, data: st.DataObject, steps: Array, law: Mixture) -> None:
    """Excess kurtosis of x_s given x_t, zero for Gaussian data."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    _, _, want = conditional_moments(joint_density(law, steps, s, t, NOISY))
    got = exact_reverse_kurtosis(law, Chain(steps), s, t, NOISY[None])
    evidence.close(got, want[None], rtol=1e-7, atol=1e-8, what="excess kurtosis")
    if law.weights.size == 1:
        evidence.close(got, 0.0, atol=1e-12, what="excess kurtosis of Gaussian data")


@proof(
    "T-fn17",
    of=exact_reverse_kurtosis,
    oracle="the fourth derivative of the log density of x_s, by mpmath",
    given=(mixtures(), POINTS),
    examples=10,
)
def small_steps_are_gaussian(evidence: Evidence, law: Mixture, x: float) -> None:
    """As a step shrinks its excess kurtosis falls like beta^2."""
    keep, small = 0.6, np.array([1e-3, 5e-4])
    parts = list(zip(law.weights, law.means, law.variances, strict=True))

    def log_density(point: mp.mpf) -> mp.mpf:
        laws = [(w, np.sqrt(keep) * m, np.sqrt(keep * v + 1 - keep)) for w, m, v in parts]
        return mp.log(mp.fsum(w * mp.npdf(point, m, d) for w, m, d in laws))

    want = float(mp.diff(log_density, x, 4))
    found = [float(exact_reverse_kurtosis(law, Chain([1 - keep, beta]), 1, 2, x)) for beta in small]
    rate = np.array(found) / small**2
    # The error of the rate is linear in beta, and twice the better less the worse has none.
    evidence.close(2 * rate[1] - rate[0], want, rtol=1e-2, atol=1e-2, what="rate")
    wide, bimodal = [0.5, 0.1, 0.01, 0.001], BIMODAL
    sizes = [abs(exact_reverse_kurtosis(bimodal, Chain([0.4, b]), 1, 2, 0.0)) for b in wide]
    evidence.holds(np.diff(sizes) < 0, "the kurtosis falls with the step")
    evidence.at_most(sizes[-1], 1e-4, "kurtosis of a small step")
