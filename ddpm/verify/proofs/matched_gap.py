"""The gap of a chain with the data's own conditional means and variances, against its length."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.average_bound import moment_matched_gap
from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof


def two_humps(place: float) -> Mixture:
    """Data of unit variance with two humps."""
    return Mixture(np.array([0.5, 0.5]), np.array([-place, place]), np.full(2, 1 - place**2))


def even_chain(steps: int, signal: float) -> Chain:
    """Equal steps that leave this much signal power."""
    return Chain(np.full(steps, 1 - signal ** (1 / steps)))


# Steps of deviation 0.4 and more are resolved by points 0.02 apart; no level leaves -7..7.
REACH, NODES = 7.0, 601


def bayes_on_a_grid(chain: Chain, data: Mixture) -> tuple[float, float]:
    """Gap and divergence with the rule of Bayes and every integral done on a coarser grid."""
    x, width = np.linspace(-8, 8, 401, retstep=True)
    law = np.exp(data.log_density(x, 1.0, 0.0))
    clean, steps = law, []
    for beta in chain.betas:
        forward = stats.norm.pdf(x[:, None], np.sqrt(1 - beta) * x, np.sqrt(beta))
        joint = forward * law
        law = width * joint.sum(axis=1)
        # Where no mass is left the moments do not matter.
        backward = joint / np.maximum(law, 1e-300)[:, None]
        mean = width * backward @ x
        variance = np.maximum(width * backward @ x**2 - mean**2, 1e-3)
        reverse = stats.norm.logpdf(x, mean[:, None], np.sqrt(variance)[:, None])
        steps.append((joint, forward, reverse))
    model, bound = stats.norm.pdf(x), float(width * law @ stats.norm.logpdf(x))
    for joint, forward, reverse in reversed(steps):
        log_ratio = reverse - np.log(np.maximum(forward, 1e-300))
        bound += float(width**2 * np.sum(joint * log_ratio))
        model = width * model @ np.exp(reverse)
    average = float(width * clean @ np.log(model))
    return average - bound, float(width * clean @ np.log(clean)) - average


@proof(
    "T-4.3.1-item5",
    of=moment_matched_gap,
    oracle="the rule of Bayes on a grid",
    given=(st.integers(1, 3), st.floats(0.5, 0.9), st.floats(0.02, 0.3)),
    examples=6,
)
def gap_on_a_grid(evidence: Evidence, steps: int, place: float, signal: float) -> None:
    """Gap and divergence of the moment-matched chain are those of the densities themselves."""
    chain, data = even_chain(steps, signal), two_humps(place)
    got, want = moment_matched_gap(chain, data, REACH, NODES), bayes_on_a_grid(chain, data)
    evidence.close(np.stack(got), want, rtol=1e-7, atol=1e-9, what="(gap, divergence)")


@proof(
    "T-4.3.1-item5",
    of=moment_matched_gap,
    oracle="values recorded elsewhere, and Gaussian data",
)
def gap_against_the_number_of_steps(evidence: Evidence) -> None:
    """The gap is largest at moderate T; Gaussian data have none; gap and divergence fall together.

    So the bound is not at its loosest for few steps, where x_1 says little about x_0.
    """
    data = two_humps(0.9)
    found = [
        moment_matched_gap(even_chain(steps, 0.02), data, REACH, NODES)
        for steps in (1, 2, 4, 8, 16)
    ]
    gaps, divergences = zip(*found, strict=True)
    evidence.close(gaps, [3.5e-5, 0.0030, 0.0217, 0.0361, 0.0264], atol=6e-5, what="gap")
    want = [0.189, 0.182, 0.134, 0.061, 0.0187]
    evidence.close(divergences, want, atol=5e-4, what="divergence")
    evidence.holds(np.diff(np.sum(found, axis=1)) < 0, "gap and divergence fall together")
    for steps in (1, 3, 8):
        normal = Mixture(np.ones(1), np.zeros(1), np.ones(1))
        got = moment_matched_gap(even_chain(steps, 0.02), normal, REACH, NODES)
        evidence.close(np.stack(got), 0.0, atol=1e-10, what="Gaussian data")
