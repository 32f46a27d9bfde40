"""The bound of the family without the Markov property and the weights of its divergences."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermegauss
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.ddim import ddim_coefficients, ddim_kl_weight, ddim_mean
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, quad_kl
from ddpm.verify.proofs.ddim import assembled, implied
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas

# Quadrature of two normal densities and a solve in a well conditioned covariance leave 1e-10.
INTEGRATED = 1e-8


def quadrature(chain: Chain, s: int, t: int, sigma2: float) -> float:
    """KL by quadrature for an error of 1 in eps, the means by regression on x_0 and x_t."""
    a, b, _ = implied(chain, s, t, sigma2)
    c = joint_covariance(chain.betas)[0, t]
    x_t = 0.3
    true, guessed = ((x_t - np.sqrt(1 - c**2) * eps) / c for eps in (-0.4, 0.6))
    sd = np.sqrt(sigma2)
    return quad_kl(float(a * true + b * x_t), sd, float(a * guessed + b * x_t), sd)


@proof(
    "L-DDIM-KL", "L-2.15",
    of=ddim_kl_weight,
    oracle="quadrature of two densities, their means by regression",
    given=(st.data(), moderate_betas(min_steps=2), st.floats(0.1, 0.9)),
)  # fmt: skip
def weight(evidence: Evidence, data: st.DataObject, steps: Array, share: float) -> None:
    """The weight is the divergence for an error of 1 in eps."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    sigma2 = share * float(chain.one_minus_alpha_bar[s])
    got = ddim_kl_weight(chain, s, t, sigma2)
    evidence.close(got, quadrature(chain, s, t, sigma2), rtol=INTEGRATED, what="gamma")


@misprint(
    "L-DDIM-KL",
    of=ddim_kl_weight,
    truth=quadrature,
    oracle="quadrature of two densities, their means by regression",
    counterexample=Counterexample((Chain([0.1, 0.2]), 1, 2, 0.05), printed=2.7085, right=1.3542),
    search=(moderate_betas(min_steps=2).map(Chain), st.just(1), st.just(2), st.floats(1e-3, 0.015)),
    rtol=INTEGRATED,
)
def lost_half(chain: Chain, s: int, t: int, sigma2: float) -> Array:
    """The squared difference of the means over sigma^2, without the 1/2."""
    distance = ddim_mean(chain, s, t, np.array([0.0]), np.array([1.0]), sigma2)[0]
    return np.asarray(distance**2 / sigma2)


@proof(
    "L-2.15", "L-DDIM-KL",
    of=ddim_kl_weight,
    oracle="the chain's regression coefficients in the weight of the Markov bound",
    given=(st.data(), moderate_betas(min_steps=2)),
)  # fmt: skip
def weight_of_the_chain(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """At the posterior's variance it is the weight beta / (2 alpha (1 - alpha_bar_s)) of DDPM."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    covariance = joint_covariance(steps)
    alpha, room = covariance[s, t] ** 2, 1 - covariance[0, s] ** 2
    rest = condition(covariance, s, [0, t])[1]
    got = ddim_kl_weight(Chain(steps), s, t, rest)
    evidence.close(got, (1 - alpha) / (2 * alpha * room), rtol=INTEGRATED, what="gamma")


@proof(
    "L-2.15",
    of=ddim_kl_weight,
    oracle="squared difference of the deterministic means, by regression",
    given=(st.data(), moderate_betas(min_steps=2)),
)
def weight_without_noise(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """It grows as 1 / sigma^2; at sigma = 0 only sigma^2 gamma exists, and gamma is refused."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain, tiny = Chain(steps), 1e-12
    a, _, _ = implied(chain, s, t, 0.0)
    c = joint_covariance(steps)[0, t]
    limit = a**2 * (1 - c**2) / c**2 / 2
    got = tiny * ddim_kl_weight(chain, s, t, tiny)
    # sigma^2 = 1e-12 moves a root of a room of at least 0.02 by less than 1e-10.
    evidence.close(got, limit, rtol=1e-6, atol=1e-9, what="sigma^2 gamma")
    try:
        ddim_kl_weight(chain, s, t, 0.0)
    except ValueError:
        return
    evidence.holds(False, "sigma = 0 is refused")


@proof(
    "L-2.13", "L-2.15",
    of=(ddim_coefficients, ddim_kl_weight),
    oracle="densities of the assembled normal laws of both chains",
    given=(moderate_betas(min_steps=2, max_steps=5), generators()),
    examples=25,
)  # fmt: skip
def bound(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """Decoder, prior and weighted errors make up E_q log(p / q), below log p(x_0) for every sigma.

    The weights as printed, twice as large, miss it.
    """
    chain, T = Chain(steps), steps.size
    c, x0 = joint_covariance(steps)[0], rng.normal()
    d = np.sqrt(1 - c**2)
    levels = [*range(T, -1, -1)]
    variances = [rng.uniform(0.1, 0.9) * chain.one_minus_alpha_bar[s] for s in levels[1:]]
    slopes, shifts = rng.normal(size=(2, T + 1)) / 2
    decoder_slope, decoder_shift, decoder_variance = rng.uniform(0.5, 1.0, 3)

    rows = assembled(chain, levels, variances)[:-1]
    q_mean, q_covariance = rows[:, 0] * x0, rows[:, 1:] @ rows[:, 1:].T
    unit = np.eye(T + 2)
    model = [unit[1]]
    for i, ((t, s), sigma2) in enumerate(zip(pairwise(levels[:-1]), variances, strict=False), 2):
        ends = np.array([0.0, 1.0])
        shift, end = ddim_mean(chain, s, t, ends, slopes[t] * ends + shifts[t], sigma2)
        model.append(shift * unit[0] + (end - shift) * model[-1] + np.sqrt(sigma2) * unit[i])
    decoded = decoder_shift * unit[0] + decoder_slope * model[-1]
    model.append(decoded + np.sqrt(decoder_variance) * unit[-1])
    p_mean, p_covariance = np.stack(model)[:, 0], np.stack(model)[:, 1:] @ np.stack(model)[:, 1:].T
    joint = stats.multivariate_normal(p_mean, p_covariance)
    spread = np.trace(np.linalg.inv(p_covariance)[:T, :T] @ q_covariance) / 2
    entropy = stats.multivariate_normal(cov=q_covariance).entropy()
    want = joint.logpdf([*q_mean, x0]) - spread + entropy

    nodes, masses = hermegauss(5)
    masses = masses / masses.sum()
    decoder = stats.norm(
        decoder_slope * (c[1] * x0 + d[1] * nodes) + decoder_shift, np.sqrt(decoder_variance)
    )
    outer = masses @ decoder.logpdf(x0) - quad_kl(c[T] * x0, d[T], 0.0, 1.0)
    divergences = 0.0
    for (t, s), sigma2 in zip(pairwise(levels[:-1]), variances, strict=False):
        error = slopes[t] * (c[t] * x0 + d[t] * nodes) + shifts[t] - nodes
        divergences += ddim_kl_weight(chain, s, t, sigma2) * (masses @ error**2)
    evidence.close(outer - divergences, want, rtol=INTEGRATED, atol=INTEGRATED, what="bound")
    log_evidence = stats.norm.logpdf(x0, p_mean[-1], np.sqrt(p_covariance[-1, -1]))
    evidence.at_most(want, log_evidence + INTEGRATED, "bound against log p(x_0)")
    evidence.holds(outer - 2 * divergences < want - 1e-6, "the printed weights miss the bound")
