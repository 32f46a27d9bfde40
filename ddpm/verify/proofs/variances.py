"""Variances of the reverse step against regressions, grids and numerical optima."""

import numpy as np
from hypothesis import strategies as st
from scipy import optimize, stats

from ddpm.reference.chain import Chain
from ddpm.reference.decoder import decoder_log_likelihood
from ddpm.reference.mixture import Mixture
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.reverse import exact_reverse_moments
from ddpm.reference.variances import (
    decoder_variance,
    gaussian_variance,
    log_interpolated_variance,
    mixed_variance,
    model_variance,
    optimal_share,
    optimal_variance,
    sigmoid_variance,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.proofs.reverse import BIMODAL, conditional_moments, joint_density, mixtures
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas

# A solve leaves 1e-11 and a grid 1e-12 (see the proofs of the posterior and of the reverse step);
# the mean square error of a mixture is itself a quadrature, good to 1e-9.
PAIR = Chain([0.1, 0.2])


def mean_variance(data: Mixture, steps: Array, s: int, t: int) -> float:
    """Mean over x_t of Var(x_s | x_t) on a grid."""
    joint = joint_density(data, steps, s, t)
    return float(np.average(conditional_moments(joint)[1], weights=joint.sum(axis=1)))


@proof(
    "T-2.5-var1", "T-2.5-var2", "T-fn25", "K-64", "K-65",
    of=(model_variance, gaussian_variance),
    oracle="conditioning the joint covariance on x_t alone",
    given=(st.data(), moderate_betas(), st.floats(0.0, 9.0)),
)  # fmt: skip
def fixed_variances(
    evidence: Evidence, data: st.DataObject, steps: Array, data_variance: float
) -> None:
    """Beta is the variance of x_s given x_t for unit Gaussian data, s2 that for a point mass."""
    s, t = data.draw(level_pairs(steps.size))
    chain = Chain(steps)
    unit, point, other = (
        condition(joint_covariance(steps, v), s, [t])[1] for v in (1.0, 0.0, data_variance)
    )
    evidence.close(model_variance(chain, s, t, "beta"), unit, rtol=1e-9, what="beta")
    evidence.close(model_variance(chain, s, t, "posterior"), point, atol=1e-11, what="s2")
    got = gaussian_variance(chain, s, t, data_variance)
    evidence.close(got, other, rtol=1e-9, atol=1e-11, what="Gaussian data")


@proof(
    "T-fn25",
    of=(model_variance, exact_reverse_moments),
    oracle="the law of x_t given x_s by conditioning, its arguments exchanged",
    given=(st.data(), moderate_betas(), st.floats(-3.0, 3.0)),
)
def unit_gaussian_data_run_backwards(
    evidence: Evidence, data: st.DataObject, steps: Array, x: float
) -> None:
    """From unit Gaussian data the chain backwards is the chain forwards."""
    s, t = data.draw(level_pairs(steps.size))
    (gain,), noise = condition(joint_covariance(steps), t, [s])
    unit = Mixture(np.ones(1), np.zeros(1), np.ones(1))
    mean, variance = exact_reverse_moments(unit, Chain(steps), s, t, x)
    evidence.close(mean, gain * x, rtol=1e-10, atol=1e-12, what="mean")
    evidence.close(variance, noise, rtol=1e-9, what="variance")
    evidence.close(model_variance(Chain(steps), s, t, "beta"), noise, rtol=1e-9, what="beta")


@proof(
    "T-2.5-var1", "T-2.5-var2", "T-2.5-opt",
    of=(model_variance, gaussian_variance),
    oracle="the mean of Var(x_s | x_t) on a grid",
    given=(st.data(), moderate_betas(min_steps=2), st.floats(0.1, 1.0).flatmap(mixtures)),
    examples=10,
)  # fmt: skip
def narrow_data_on_average(
    evidence: Evidence, data: st.DataObject, steps: Array, law: Mixture
) -> None:
    """For data of variance up to one the best constant lies between s2 and beta."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain, best = Chain(steps), mean_variance(law, steps, s, t)
    evidence.at_most(best, model_variance(chain, s, t, "beta") + 1e-12, "best constant")
    evidence.at_most(model_variance(chain, s, t, "posterior"), best, "s2")
    evidence.at_most(best, gaussian_variance(chain, s, t, law.variance) + 1e-12, "best constant")


@proof(
    "T-2.5-var1",
    of=(model_variance, gaussian_variance, exact_reverse_moments),
    oracle="conditioning for data of variance 4, and a grid for a mixture of unit variance",
)
def beta_is_not_always_too_large(evidence: Evidence) -> None:
    """The variance exceeds beta for wider data, and at single points even for unit variance."""
    covariance = joint_covariance(PAIR.betas, 4.0)
    for s, t, recorded in ((0, 1, 0.108108), (1, 2, 0.234177)):
        _, want = condition(covariance, s, [t])
        evidence.close(want, recorded, atol=1e-6, what="recorded variance")
        evidence.close(gaussian_variance(PAIR, s, t, 4.0), want, rtol=1e-9, what="variance")
        evidence.holds(want > model_variance(PAIR, s, t, "beta"), "wide data exceed beta")
    joint = joint_density(BIMODAL, PAIR.betas, 1, 2, np.zeros(1))
    want = conditional_moments(joint)[1][0]
    evidence.close(want, 0.451186, atol=1e-6, what="recorded variance")
    _, variance = exact_reverse_moments(BIMODAL, PAIR, 1, 2, 0.0)
    evidence.close(variance, want, rtol=1e-9, what="variance between the modes")
    evidence.holds(variance > 2 * model_variance(PAIR, 1, 2, "beta"), "a point exceeds beta")


@proof(
    "T-2.5-var1", "T-2.5-opt",
    of=(model_variance, gaussian_variance),
    oracle="conditioning on chains of more and more steps between the same levels",
    given=(st.floats(0.05, 0.9), st.floats(0.0, 4.0)),
    examples=10,
)  # fmt: skip
def many_steps(evidence: Evidence, signal: float, data_variance: float) -> None:
    """With ever more steps to one signal the true variance comes to beta, like 1 / T."""
    gaps = []
    for count in (25, 50, 100):
        steps = np.full(count, 1 - signal ** (1 / count))
        _, true = condition(joint_covariance(steps, data_variance), count - 1, [count])
        chain = Chain(steps)
        got = gaussian_variance(chain, count - 1, count, data_variance)
        evidence.close(got, true, rtol=1e-8, what="variance")
        gaps.append(abs(1 - true / model_variance(chain, count - 1, count, "beta")))
    evidence.at_most(gaps[1:], 0.6 * np.array(gaps[:-1]) + 1e-9, "distance from beta")


@proof(
    "T-2.5-opt", "T-2.5-var2",
    of=optimal_variance,
    oracle="the mean of Var(x_s | x_t) on a grid",
    given=(st.data(), moderate_betas(min_steps=2), mixtures()),
    examples=10,
)  # fmt: skip
def best_constant_for_the_best_mean(
    evidence: Evidence, data: st.DataObject, steps: Array, law: Mixture
) -> None:
    """With the best denoiser's error it is the mean of the true variance."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    error = law.mmse(float(chain.c[t]), float(chain.one_minus_alpha_bar[t]))
    got = optimal_variance(chain, s, t, error)
    evidence.close(got, mean_variance(law, steps, s, t), rtol=1e-8, what="best constant")


@proof(
    "T-2.5-opt",
    of=optimal_variance,
    oracle="the largest expected log likelihood, by scipy's scalar optimiser",
    given=(st.data(), moderate_betas(), st.floats(0.1, 4.0), st.floats(-0.5, 1.5)),
)
def best_constant_for_any_mean(
    evidence: Evidence, data: st.DataObject, steps: Array, data_variance: float, slope: float
) -> None:
    """For a denoiser that is not the best one, here slope x_t, its own error counts."""
    s, t = data.draw(level_pairs(steps.size))
    covariance = joint_covariance(steps, data_variance)
    (a, b), _ = condition(covariance, s, [0, t])
    miss = np.zeros(steps.size + 1)
    miss[0], miss[t] = 1.0, -slope
    error = miss @ covariance @ miss
    off = np.zeros(steps.size + 1)
    off[s], off[t] = 1.0, -(a * slope + b)
    square = off @ covariance @ off

    def loss(log_variance: float) -> float:
        return float(square * np.exp(-log_variance) + log_variance)

    best = optimize.minimize_scalar(loss, bracket=(-5.0, 0.0), tol=1e-10).x
    got = optimal_variance(Chain(steps), s, t, error)
    # At an optimum of curvature one the argument is known to the root of the value's rounding.
    evidence.close(np.log(got), best, atol=1e-6, what="log of the best constant")
    evidence.close(got, square, rtol=1e-8, atol=1e-10, what="mean square of x_s - mean")


@proof(
    "T-fn24", "T-2.5-opt",
    of=(optimal_share, mixed_variance),
    oracle="the mean of Var(x_s | x_t) on a grid, and the two ends by conditioning",
    given=(st.data(), moderate_betas(min_steps=2), mixtures()),
    examples=10,
)  # fmt: skip
def best_share(evidence: Evidence, data: st.DataObject, steps: Array, law: Mixture) -> None:
    """The best constant share of beta, which lies in [0, 1] for data of unit variance."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    _, beta = condition(joint_covariance(steps), s, [t])
    _, s2 = condition(joint_covariance(steps), s, [0, t])
    error = law.mmse(float(chain.c[t]), float(chain.one_minus_alpha_bar[t]))
    share = optimal_share(chain, t, error)
    best = mean_variance(law, steps, s, t)
    evidence.close(share, (best - s2) / (beta - s2), rtol=1e-6, what="share")
    evidence.at_most(share, 1 + 1e-9, "share")
    inside = np.minimum(share, 1.0)[None]
    evidence.close(mixed_variance(chain, s, t, inside), best, rtol=1e-8, what="variance")


@proof(
    "T-fn24",
    of=(optimal_share, sigmoid_variance, mixed_variance),
    oracle="a grid at one point between two modes",
)
def share_out_of_reach(evidence: Evidence) -> None:
    """Between two modes the best share is 2.95, and no sigmoid gives the variance there."""
    joint = joint_density(BIMODAL, PAIR.betas, 1, 2, np.zeros(1))
    want = conditional_moments(joint)[1][0]
    x0 = np.linspace(-4, 4, 1601)
    weights = stats.norm.pdf(0.0, np.sqrt(0.72) * x0, np.sqrt(0.28)) * np.exp(
        BIMODAL.log_density(x0, 1.0, 0.0)
    )
    share = optimal_share(PAIR, 2, np.average(x0**2, weights=weights))
    evidence.close(share, 2.953668, atol=1e-6, what="share")
    s2 = posterior_coefficients(PAIR, 1, 2).s2
    evidence.close(s2 + share * (PAIR.beta(1, 2) - s2), want, rtol=1e-8, what="variance")
    evidence.close(sigmoid_variance(PAIR, 1, 2, np.array([800.0])), 0.2, rtol=1e-12, what="most")
    evidence.holds(want > 0.2, "the true variance is larger than any of them")
    least = sigmoid_variance(PAIR, 0, 1, np.array([-800.0]))
    evidence.equal(least, 0.0, "variance at s = 0 with no share of beta")


@proof(
    "T-fn24",
    of=(mixed_variance, sigmoid_variance),
    oracle="conditioning for the two ends, a line between them, and a logistic law's cdf",
    given=(st.data(), moderate_betas(), generators()),
)
def shares(evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator) -> None:
    """The variance is linear in the share of beta, and the share a logistic function."""
    s, t = data.draw(level_pairs(steps.size))
    _, beta = condition(joint_covariance(steps), s, [t])
    _, s2 = condition(joint_covariance(steps), s, [0, t])
    logits = rng.normal(scale=3, size=(3, 2))
    share, many = stats.logistic.cdf(logits), (np.full(3, s), np.full(3, t))
    want = s2 + share * (beta - s2)
    got = mixed_variance(Chain(steps), *many, share)
    evidence.close(got, want, rtol=1e-9, atol=1e-11, what="variance")
    got = sigmoid_variance(Chain(steps), *many, logits)
    evidence.close(got, want, rtol=1e-9, atol=1e-11, what="variance of a sigmoid")


@proof(
    "G-44",
    of=log_interpolated_variance,
    oracle="whole powers of variances by conditioning",
    given=(st.data(), moderate_betas(min_steps=2), generators()),
)
def geometric_interpolation(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """Each coordinate has the geometric mean of beta and s2 with weights v and 1 - v."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    _, beta = condition(joint_covariance(steps), s, [t])
    _, s2 = condition(joint_covariance(steps), s, [0, t])
    tenths = rng.integers(-5, 16, size=(3, 2))
    tenths[0] = 0, 10
    v = tenths / 10
    got = log_interpolated_variance(Chain(steps), np.full(3, s), np.full(3, t), v)
    powers = [[beta ** int(k) * s2 ** int(10 - k) for k in row] for row in tenths]
    evidence.close(got**10, powers, rtol=1e-7, what="tenth power of the variance")
    evidence.close(got[0], [s2, beta], rtol=1e-8, what="ends")
    inside = np.clip(v, 0.0, 1.0)
    geometric = log_interpolated_variance(Chain(steps), s, t, inside)
    bound = mixed_variance(Chain(steps), s, t, inside)
    evidence.at_most(geometric, bound * (1 + 1e-12), "geometric mean below the arithmetic")


@proof(
    "L-sigma1",
    of=(decoder_variance, model_variance),
    oracle="conditioning on x_0 and on x_1, and on level 2 for the next posterior",
    given=(moderate_betas(min_steps=2),),
)
def variance_of_the_decoder(evidence: Evidence, steps: Array) -> None:
    """Given x_0 nothing is left of it, yet x_1 leaves beta_1 to the decoder of unit data."""
    chain, covariance = Chain(steps), joint_covariance(steps)
    _, given_both = condition(covariance, 0, [0, 1])
    evidence.close(given_both, 0.0, atol=1e-15, what="variance of x_0 given x_0")
    evidence.equal(model_variance(chain, 0, 1, "posterior"), 0.0, "posterior variance")
    _, left = condition(covariance, 0, [1])
    evidence.close(decoder_variance(chain), left, rtol=1e-9, what="decoder variance")
    evidence.equal(decoder_variance(chain, "beta"), decoder_variance(chain), "default")
    _, following = condition(covariance, 1, [0, 2])
    evidence.close(decoder_variance(chain, "posterior"), following, rtol=1e-9, what="smallest s2")


@proof(
    "L-sigma1",
    of=decoder_variance,
    oracle="the decoder's likelihood, and the divergence of its weight as the variance falls",
)
def no_decoder_without_variance(evidence: Evidence) -> None:
    """A decoder of the posterior variance 0 has no likelihood; with a positive one it has."""
    refused = False
    try:
        decoder_log_likelihood(0.0, 0.1, 0.0, 3)
    except ValueError:
        refused = True
    evidence.holds(refused, "a decoder of variance 0 is refused")
    for choice in ("beta", "posterior"):
        deviation = np.sqrt(decoder_variance(PAIR, choice))
        evidence.holds(
            np.isfinite(decoder_log_likelihood(0.0, 0.1, deviation, 3)), "the likelihood is finite"
        )
    falling = [decoder_log_likelihood(0.0, 1.5, width, 3) for width in (1.0, 1e-2, 1e-4)]
    evidence.holds(np.diff(falling) < 0, "the likelihood falls without bound as the variance does")
    evidence.at_most(falling[-1], -1e7, "log likelihood of a narrow decoder")
