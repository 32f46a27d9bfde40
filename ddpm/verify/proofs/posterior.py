"""The posterior of a cleaner level against conditioning of the assembled covariance."""

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.posterior import Coefficients, posterior_coefficients
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, level_pairs, moderate_betas

# Betas of at least 0.02 and at most eight steps keep the condition number of a covariance below
# about 1e4, so that a solve leaves 1e-11.


def conditioned(chain: Chain, s: int, t: int) -> Coefficients:
    """Regression of x_s on (x_0, x_t) in the joint covariance."""
    covariance = joint_covariance(chain.betas)
    if s == 0:
        return Coefficients(np.array(1.0), np.array(0.0), np.array(0.0))
    (a, b), rest = condition(covariance, s, [0, t])
    return Coefficients(a, b, np.array(rest))


@proof(
    "T-eq2", "T-fn20", "K-58..60", "L-post", "V-eq4", "V-8.4", "G-35",
    of=posterior_coefficients,
    oracle="conditioning the joint covariance of all levels",
    given=(st.data(), moderate_betas()),
)  # fmt: skip
def conditioning(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """The coefficients are the regression of x_s on x_0 and x_t, and what it leaves over."""
    s, t = data.draw(level_pairs(steps.size))
    chain = Chain(steps)
    got, want = posterior_coefficients(chain, s, t), conditioned(chain, s, t)
    evidence.close(np.stack(got), np.stack(want), rtol=1e-9, atol=1e-11, what="(a, b, s2)")


@misprint(
    "K-60",
    of=posterior_coefficients,
    truth=conditioned,
    oracle="conditioning the joint covariance of all levels",
    counterexample=Counterexample((Chain([0.1, 0.2, 0.3]), 1, 2), printed=0.0403, right=0.0714),
    search=(moderate_betas(min_steps=3).map(Chain), st.just(1), st.just(2)),
    value=lambda result: result.s2,
)
def denominator_of_the_last_level(chain: Chain, s: int, t: int) -> Coefficients:
    """The denominator without its index, with the paper's own product up to T."""
    a, b, _ = posterior_coefficients(chain, s, t)
    whole = 1 - np.prod(1 - chain.betas)
    return Coefficients(a, b, np.asarray(chain.beta(s, t) * chain.one_minus_alpha_bar[s] / whole))
