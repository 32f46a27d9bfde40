"""The score losses of a chain and of an equation, their weights and what minimises them."""

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.mixture import Mixture
from ddpm.reference.score_matching import (
    bound_score_weight,
    continuous_score_loss,
    least_denoising_loss,
    score_loss,
)
from ddpm.reference.sde import SDE, linear_rate
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, quad_kl
from ddpm.verify.proofs.mixture import POINTS, density, mixtures
from ddpm.verify.proofs.score_matching import X0, X0_WEIGHTS, slope
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas

# Quadrature leaves 1e-9 of a divergence or a loss; a slope by five points is good to 1e-7.


def squared_noise_error(chain: Chain, t: Levels, x0: Array, x_t: Array, score: Array) -> Array:
    """|eps - eps_theta|^2 with gain and deviation from the joint covariance."""
    gain, variance = condition(joint_covariance(chain.betas), int(np.max(t)), [0])
    eps = (x_t - gain[0] * x0) / np.sqrt(variance)
    return np.asarray(np.sum((eps + np.sqrt(variance) * score) ** 2, axis=1))


@st.composite
def score_cases(draw: st.DrawFn) -> tuple[Chain, int, Array, Array, Array]:
    """A chain, a level from 2 on, and samples, noisy samples and scores of shape (3, 2)."""
    steps = draw(moderate_betas(min_steps=2))
    t = draw(st.integers(2, steps.size))
    x0, x_t, score = draw(generators()).normal(size=(3, 3, 2))
    return Chain(steps), t, x0, x_t, score


@proof(
    "G-55",
    of=score_loss,
    oracle="squared error of the noise, coefficients from the joint covariance",
    given=(score_cases(),),
)
def the_score_loss_is_the_noise_loss(
    evidence: Evidence, case: tuple[Chain, int, Array, Array, Array]
) -> None:
    """With the weight 1 - alpha_bar_t each level's term is that of the simple loss."""
    chain, t, x0, x_t, score = case
    want = squared_noise_error(*case)
    evidence.close(score_loss(*case), want, rtol=1e-9, what="loss")
    levels = np.array([t, 1, t])
    mixed = score_loss(chain, levels, x0, x_t, score)
    want[1] = squared_noise_error(chain, 1, x0, x_t, score)[1]
    evidence.close(mixed, want, rtol=1e-9, what="loss, one level a sample")


@misprint(
    "G-55",
    of=score_loss,
    truth=squared_noise_error,
    oracle="squared error of the noise, coefficients from the joint covariance",
    counterexample=Counterexample(
        (
            Chain([0.1, 0.25, 0.45]),
            3,
            np.zeros((1, 1)),
            np.full((1, 1), np.sqrt(0.62875)),
            np.zeros((1, 1)),
        ),
        printed=0.7157,
        right=1.0,
    ),
    search=(
        moderate_betas(min_steps=2).map(Chain),
        st.just(2),
        *(generators().map(lambda rng: rng.normal(size=(3, 2))) for _ in range(3)),
    ),
)
def weight_of_one_step(chain: Chain, t: Levels, x0: Array, x_t: Array, score: Array) -> Array:
    """The weight 1 - alpha_t, the noise of the last step instead of all the noise in x_t."""
    level = np.asarray(t)
    whole = score_loss(chain, t, x0, x_t, score)
    return np.asarray(chain.betas[level - 1] / chain.one_minus_alpha_bar[level] * whole)


@proof(
    "G-55-elbo",
    of=bound_score_weight,
    oracle="quadrature of the divergence, coefficients from the joint covariance",
    given=(st.data(), moderate_betas(), generators()),
)
def the_weight_in_the_bound(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """The weight is what a wrong score adds to the divergence, or to -log p(x_0 | x_t)."""
    s, t = data.draw(level_pairs(steps.size))
    covariance = joint_covariance(steps)
    (gain,), noise = condition(covariance, t, [0])
    sd_p = np.sqrt(condition(covariance, t, [s])[1])
    (a, b), s2 = condition(covariance, s, [0, t]) if s else (np.array([1.0, 0.0]), 0.0)
    x0, x_t, error = rng.normal(size=3).tolist()
    right = -(x_t - gain * x0) / noise
    costs = []
    for score in (right, right + error):
        mean = a * (x_t + noise * score) / gain + b * x_t
        target = a * x0 + b * x_t
        known = -stats.norm.logpdf(x0, mean, sd_p)
        costs.append(quad_kl(target, float(np.sqrt(s2)), mean, float(sd_p)) if s else known)
    got = bound_score_weight(Chain(steps), s, t) * error**2
    evidence.close(got, costs[1] - costs[0], rtol=1e-7, atol=1e-9, what="added divergence")


@proof(
    "G-55-elbo",
    of=bound_score_weight,
    oracle="the printed weight beside the exact one",
)
def the_printed_weight_is_nearly_that_of_the_bound(evidence: Evidence) -> None:
    """1 - alpha_t is 2 alpha_t times the exact weight: proportional up to the largest beta."""
    chain = Chain(np.linspace(1e-4, 0.02, 1000))
    t = np.arange(1, 1001)
    ratio = chain.betas / bound_score_weight(chain, t - 1, t)
    evidence.close([ratio[0], ratio[-1]], [1.9998, 1.96], rtol=1e-9, what="printed over exact")
    evidence.close(ratio, 2.0, rtol=0.021, what="printed over exact")
    share = chain.betas / chain.one_minus_alpha_bar[1:]
    evidence.close([share[0], share[-1]], [1.0, 0.0200], atol=1e-4, what="printed over simple")


def continuous_case(t: float) -> tuple[SDE, float, float]:
    """The usual VP equation with its gain and variance at t, integrated by hand."""
    total = 0.1 * t + (20.0 - 0.1) * t**2 / 2
    return SDE.vp(linear_rate(0.1, 20.0)), float(np.exp(-total / 2)), float(-np.expm1(-total))


@proof(
    "G-56", "G-56-lam",
    of=continuous_score_loss,
    oracle="sums over the elements one by one, the marginal integrated by hand",
    given=(st.floats(0.01, 1.0), st.floats(0.1, 3.0), generators()),
)  # fmt: skip
def the_loss_at_a_time(
    evidence: Evidence, t: float, weight: float, rng: np.random.Generator
) -> None:
    """Any weight multiplies the loss; the variance as weight gives the squared error of eps."""
    sde, gain, variance = continuous_case(t)
    x0, eps, score = rng.normal(size=(3, 2, 3))
    x_t, sd = gain * x0 + np.sqrt(variance) * eps, np.sqrt(variance)
    plain = [sum((s + e / sd) ** 2 for s, e in zip(score[i], eps[i], strict=True)) for i in (0, 1)]
    got = continuous_score_loss(sde, t, x0, x_t, score, weight)
    evidence.close(got, weight * np.array(plain), rtol=1e-8, what="loss")
    by_noise = [sum((eps[i] + sd * score[i]) ** 2) for i in (0, 1)]
    got = continuous_score_loss(sde, t, x0, x_t, score, sde.marginal(t).variance)
    evidence.close(got, by_noise, rtol=1e-8, what="loss with the variance as weight")


@proof(
    "G-56",
    of=continuous_score_loss,
    oracle="quadrature over the clean samples that one noisy sample may come from",
    given=(mixtures(0.1), st.floats(0.1, 1.0), POINTS),
)
def the_minimiser_is_the_score_of_the_marginal(
    evidence: Evidence, data: Mixture, t: float, x: float
) -> None:
    """Given x(t) the loss is a parabola in s whose lowest point is the score of p_t.

    The score of the noise that the text names is no function of x(t): its loss of zero needs x_0.
    """
    sde, gain, variance = continuous_case(t)
    share = X0_WEIGHTS * density(data, X0) * stats.norm.pdf(x, gain * X0, np.sqrt(variance))
    share /= share.sum()
    x0, x_t = X0[:, None], np.full((X0.size, 1), x)
    low, middle, high = (
        share @ continuous_score_loss(sde, t, x0, x_t, np.full_like(x_t, s), 1.0)
        for s in (-1.0, 0.0, 1.0)
    )
    best = (low - high) / (2 * (low - 2 * middle + high))
    want = slope(data, np.array([x]), gain, variance)[0]
    evidence.close(best, want, rtol=1e-6, atol=1e-6, what="minimiser")
    each = -(x_t - gain * x0) / variance
    zero = share @ continuous_score_loss(sde, t, x0, x_t, each, 1.0)
    evidence.close(zero, 0.0, atol=1e-12, what="loss of the score of the noise")
    evidence.holds(
        middle - (low - 2 * middle + high) / 2 * best**2 > 1e-4 * gain**2, "a rest stays"
    )


@proof(
    "G-56", "G-56-lam",
    of=least_denoising_loss,
    oracle="the limit of Gaussian data, by adaptive quadrature of the conditional variance",
)  # fmt: skip
def the_loss_diverges_where_noise_ends(evidence: Evidence) -> None:
    """Times the variance the least loss tends to 1 as t falls to 0, so without it to infinity."""
    data = Mixture(np.array([0.5, 0.5]), np.array([-0.8, 0.8]), np.array([0.36, 0.36]))
    weighted = []
    for t in (1.0, 1e-1, 1e-2, 1e-3, 1e-4):
        _, gain, variance = continuous_case(t)
        least = least_denoising_loss(data, gain, variance)
        fisher, _ = integrate.quad(
            lambda x, c=gain, v=variance: float(
                density(data, x, c, v) * slope(data, np.array([x]), c, v)[0] ** 2
            ),
            -9,
            9,
            epsabs=1e-10,
        )
        evidence.close(least, 1 / variance - fisher, rtol=1e-6, what="least loss")
        weighted.append(variance * least)
    evidence.holds(np.diff(weighted) > 0, "the weighted least loss grows as t falls")
    evidence.close(weighted[-1], 1.0, atol=1e-4, what="its limit")
