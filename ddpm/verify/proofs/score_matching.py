"""Score matching against differences of log densities, quadrature and regression."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.parameterisations import predict_score
from ddpm.reference.score_matching import (
    conditional_score,
    denoising_loss,
    least_denoising_loss,
    mean_factor,
    noise_loss,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.proofs.mixture import AMPLITUDES, NOISES, POINTS, density, mixtures
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas

# A central difference of step 1e-4 is exact for the quadratic log density of one normal law up to
# rounding, 1e-9; a loss summed over 200 x 120 nodes keeps 1e-9; printed numbers have four digits.
X0, X0_WEIGHTS = 9 * np.stack(np.polynomial.legendre.leggauss(200))
EPS, EPS_WEIGHTS = 8 * np.stack(np.polynomial.legendre.leggauss(120))


def joint_law(data: Mixture, c: float, noise: float) -> tuple[Array, Array, Array, Array]:
    """Columns x, x_0 and eps of quadrature points of the joint law, and their probabilities."""
    x0, eps = (axis.reshape(-1, 1) for axis in np.meshgrid(X0, EPS, indexing="ij"))
    mass = np.outer(X0_WEIGHTS * density(data, X0), EPS_WEIGHTS * stats.norm.pdf(EPS))
    return c * x0 + np.sqrt(noise) * eps, x0, eps, mass.ravel()


def slope(data: Mixture, x: Array, c: float, noise: float) -> Array:
    """Score of the marginal by a five-point difference of the log of scipy's densities."""
    h = 2e-3
    weights = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
    parts = [w * np.log(density(data, x + k * h, c, noise)) for k, w in weights.items()]
    return np.asarray(sum(parts) / h)


@proof(
    "T-fn23", "G-55", "G-56",
    of=conditional_score,
    oracle="central differences of scipy's normal log density",
    given=(generators(), st.floats(-2.0, 2.0), NOISES),
)  # fmt: skip
def the_score_of_the_noise(
    evidence: Evidence, rng: np.random.Generator, gain: float, noise: float
) -> None:
    """It is the slope of log q(x | x_0), for a gain of either sign, and -eps / sigma."""
    x0, eps = rng.normal(size=(2, 3, 2))
    x, sd, h = gain * x0 + np.sqrt(noise) * eps, np.sqrt(noise), 1e-4
    up, down = (stats.norm.logpdf(x + step, gain * x0, sd) for step in (h, -h))
    got = conditional_score(x, x0, gain, noise)
    evidence.close(got, (up - down) / (2 * h), rtol=1e-7, atol=1e-7, what="slope")
    evidence.close(got, -eps / sd, rtol=1e-12, atol=1e-12, what="-eps / sigma")
    each = conditional_score(x, x0, np.full(3, gain), np.array([noise, 1.0, 2.0]))
    evidence.close(each[0], got[0], rtol=1e-15, what="one variance a sample")
    evidence.close(each[2], (gain * x0[2] - x[2]) / 2, rtol=1e-13, what="variance 2")


@proof(
    "T-fn23", "G-56",
    of=(denoising_loss, least_denoising_loss),
    oracle="quadrature over x_0 and eps, slopes of scipy's mixture density",
    given=(mixtures(0.1), AMPLITUDES, NOISES, generators()),
    examples=12,
)  # fmt: skip
def the_loss_is_least_at_the_score_of_the_marginal(
    evidence: Evidence, data: Mixture, c: float, noise: float, rng: np.random.Generator
) -> None:
    """Whatever s is, the loss is E |s - grad log q(x)|^2 and the least loss."""
    x, x0, _, mass = joint_law(data, c, noise)
    truth, least = slope(data, x, c, noise), least_denoising_loss(data, c, noise)
    a, b, k = rng.normal(size=3)
    for guess in (truth, truth + 0.1 * np.cos(x), a + b * x, np.sin(k * x), 0 * x):
        explicit = mass @ np.sum((guess - truth) ** 2, axis=1)
        loss = mass @ denoising_loss(guess, x, x0, c, noise)
        evidence.close(loss - explicit, least, rtol=1e-7, atol=1e-7, what="least loss")


@proof(
    "T-fn23",
    of=(denoising_loss, noise_loss),
    oracle="directional derivatives of the loss, by exact differences of a quadratic",
    given=(mixtures(0.1), AMPLITUDES, NOISES),
    examples=12,
)
def no_direction_lowers_the_loss(evidence: Evidence, data: Mixture, c: float, noise: float) -> None:
    """At the score of the marginal the loss has slope zero in every direction tried."""
    x, x0, eps, mass = joint_law(data, c, noise)
    truth = slope(data, x, c, noise)
    for direction in (np.ones_like(x), x, np.cos(x), np.tanh(2 * x)):
        up, down = truth + direction, truth - direction
        by_score = mass @ (
            denoising_loss(up, x, x0, c, noise) - denoising_loss(down, x, x0, c, noise)
        )
        by_noise = mass @ (noise_loss(up, eps, noise) - noise_loss(down, eps, noise))
        evidence.close([by_score, by_noise], np.zeros(2), atol=1e-6, what="slope of the loss")


@proof(
    "T-fn23",
    of=(denoising_loss, noise_loss),
    oracle="sums over the elements one by one",
    given=(generators(), st.floats(-2.0, 2.0), NOISES),
)
def the_loss_by_the_noise(
    evidence: Evidence, rng: np.random.Generator, gain: float, noise: float
) -> None:
    """Distance to the score of the noise and distance of -sigma s to eps, over sigma^2."""
    x0, eps, score = rng.normal(size=(3, 2, 3, 2))
    x, sd = gain * x0 + np.sqrt(noise) * eps, float(np.sqrt(noise))
    pairs = [list(zip(score[i].flat, eps[i].flat, strict=True)) for i in range(2)]
    want = [sum((s + e / sd) ** 2 for s, e in pair) for pair in pairs]
    evidence.close(denoising_loss(score, x, x0, gain, noise), want, rtol=1e-10, what="by score")
    evidence.close(noise_loss(score, eps, noise), want, rtol=1e-10, what="by noise")
    each = noise_loss(score, eps, np.array([noise, 4 * noise]))
    wider = sum((s + e / (2 * sd)) ** 2 for s, e in pairs[1])
    evidence.close(each, [want[0], wider], rtol=1e-10, what="one variance a sample")


@proof(
    "T-fn23",
    of=mean_factor,
    oracle="conditioning the joint covariance of all levels",
    given=(st.data(), moderate_betas()),
)
def the_mean_moves_by_kappa(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """An error of one in eps moves x_0, and with it the posterior mean, by sqrt(kappa)."""
    s, t = data.draw(level_pairs(steps.size))
    covariance = joint_covariance(steps)
    a = 1.0 if s == 0 else condition(covariance, s, [0, t])[0][0]
    gain, variance = condition(covariance, t, [0])
    want = (a * np.sqrt(variance) / gain[0]) ** 2
    evidence.close(mean_factor(Chain(steps), s, t), want, rtol=1e-9, what="kappa")
    beta, noise = condition(covariance, t, [t - 1])[1], variance
    step = mean_factor(Chain(steps), t - 1, t)
    evidence.close(step, beta**2 / ((1 - beta) * noise), rtol=1e-9, what="kappa of one step")


@proof(
    "T-fn23", "G-55",
    of=(predict_score, Mixture.denoised),
    oracle="slope of the log of scipy's mixture density",
    given=(st.data(), moderate_betas(), mixtures(0.1), POINTS),
)  # fmt: skip
def the_best_noise_is_the_score(
    evidence: Evidence, draw: st.DataObject, steps: Array, data: Mixture, x: float
) -> None:
    """The best eps_hat over -sqrt(1 - alpha_bar) is the score of q(x_t)."""
    t = draw.draw(st.integers(1, steps.size))
    gain, variance = condition(joint_covariance(steps), t, [0])
    best = data.denoised(x, gain[0], variance)
    eps = (x - gain[0] * best) / np.sqrt(variance)
    got = predict_score("eps", np.array([eps]), np.array([x]), Chain(steps), t)
    want = slope(data, np.array([x]), gain[0], variance)
    evidence.close(got, want, rtol=1e-6, atol=1e-6, what="score")
