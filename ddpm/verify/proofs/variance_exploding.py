"""The chain that keeps its signal against regression, and against the preserving chain."""

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.autoregression import telescope
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.variance_exploding import VarianceExploding
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, level_pairs

VARIANCES = st.lists(st.floats(0.05, 3), min_size=1, max_size=8).map(np.array)

# A regression in the covariance of at most eight sums of normals, condition number below 1e4.
SOLVED = 1e-10


def random_walk(variances: Array, data_variance: float = 1.0) -> Array:
    """Covariance of (x_0..x_T): every later level shares all the noise of an earlier one."""
    sums = np.concatenate([[0.0], np.cumsum(variances)])
    return np.asarray(data_variance + np.minimum.outer(sums, sums))


@proof(
    "T-3-VE",
    of=(VarianceExploding, VarianceExploding.noise, VarianceExploding.snr, telescope),
    oracle="covariance of a random walk",
    given=(VARIANCES, st.floats(0.2, 4)),
)
def variances_add(evidence: Evidence, variances: Array, data: float) -> None:
    """A level has the data's variance and that of all noise so far; SNR is one over the latter."""
    chain, total = VarianceExploding(variances), np.diag(random_walk(variances, data))
    noise = np.diag(random_walk(variances, 0.0))
    evidence.close(chain.noise, noise, rtol=1e-14, what="S")
    evidence.close(data + chain.noise, total, rtol=1e-14, what="Var x_t")
    evidence.close(chain.snr[1:], 1 / noise[1:], rtol=1e-14, what="SNR")
    evidence.equal(chain.snr[0], np.inf, "SNR(0)")
    gain, _ = telescope(np.ones(variances.size), variances)
    evidence.equal(gain, np.ones(variances.size + 1), "gain")


@proof(
    "T-3-VE",
    of=VarianceExploding.posterior_coefficients,
    oracle="regression in the covariance of a random walk",
    given=(st.data(), VARIANCES, st.floats(0.2, 4)),
)
def posterior(evidence: Evidence, data: st.DataObject, variances: Array, width: float) -> None:
    """A cleaner level given x_0 and a noisier one lies between them, as on a bridge."""
    s, t = data.draw(level_pairs(variances.size))
    got = np.stack(VarianceExploding(variances).posterior_coefficients(s, t))
    if s == 0:
        evidence.equal(got, [1.0, 0.0, 0.0], "(a, b, s2) at level 0")
        return
    (a, b), rest = condition(random_walk(variances, width), s, [0, t])
    evidence.close(got, [a, b, rest], rtol=SOLVED, atol=1e-11, what="(a, b, s2)")


@proof(
    "T-3-VE",
    of=(VarianceExploding.preserving, VarianceExploding.posterior_coefficients),
    oracle="rescaled covariance of a random walk, and the preserving chain's own posterior",
    given=(st.data(), VARIANCES),
)
def equal_to_the_preserving_chain(
    evidence: Evidence, data: st.DataObject, variances: Array
) -> None:
    """Divided by sqrt(1 + S_t) it is the variance preserving chain of the same SNR."""
    exploding, walk = VarianceExploding(variances), random_walk(variances)
    preserving, sizes = exploding.preserving(), np.sqrt(np.diag(walk))
    evidence.close(preserving.snr[1:], exploding.snr[1:], rtol=1e-12, what="SNR")
    evidence.close(preserving.c, walk[0] / sizes, rtol=1e-12, what="c")
    s, t = data.draw(level_pairs(variances.size))
    shrunk = walk[s, t] / (sizes[s] * sizes[t])
    evidence.close(preserving.alpha(s, t), shrunk**2, rtol=1e-12, what="alpha")
    a, b, s2 = exploding.posterior_coefficients(s, t)
    scaled = [a / sizes[s], b * sizes[t] / sizes[s], s2 / sizes[s] ** 2]
    want = np.stack(posterior_coefficients(preserving, s, t))
    evidence.close(scaled, want, rtol=1e-11, atol=1e-14, what="(a, b, s2)")
