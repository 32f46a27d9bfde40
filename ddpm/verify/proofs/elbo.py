"""The terms of the variational bound against whole paths of linear chains."""

import numpy as np
from hypothesis import strategies as st
from scipy import optimize

from ddpm.reference.chain import Chain
from ddpm.reference.elbo import (
    BoundTerms,
    expected_divergence,
    expected_terms,
    step_divergence,
)
from ddpm.reference.linear_reverse import LinearReverse
from ddpm.reference.objectives import prior_kl
from ddpm.reference.schedules import linear_schedule
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, quad_kl, signal_products
from ddpm.verify.proofs.linear_reverse import (
    EXAMPLE,
    Case,
    all_paths,
    cases,
    conditioned_terms,
    densities,
    model_log_evidence,
)
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, betas

# Covariances of betas between 0.02 and 0.5 are solved to 1e-11; the grid is exact for squares.
RTOL, ATOL = 1e-9, 1e-10


@proof(
    "K-54..57", "L-C0", "L-CT", "L-Ct", "L-2.4", "V-eq3", "G-20",
    of=(expected_terms, BoundTerms.total),
    oracle="Gauss-Hermite over paths of log ratios of conditioned covariances",
    given=(cases(),),
)  # fmt: skip
def terms_are_expectations(evidence: Evidence, case: Case) -> None:
    """Each term is the expectation of its log ratio over q(x_{1:T} | x_0), the sum that of all."""
    chain, model, x0 = case
    path, weights = all_paths(chain, x0)
    got = expected_terms(chain, model, np.array([[x0]]))
    along = conditioned_terms(chain, model, path)
    for name in ("prior", "kls", "decoder"):
        want = getattr(along, name) @ weights
        evidence.close(getattr(got, name)[..., 0], want, rtol=RTOL, atol=ATOL, what=name)
    want = densities(chain, model, path).ratio @ weights
    evidence.close(got.total[0], want, rtol=RTOL, atol=ATOL, what="bound")
    several = expected_terms(chain, model, np.array([[x0, x0], [x0, 0.0]]))
    nothing = expected_terms(chain, model, np.zeros((1, 1))).total[0]
    want = np.array([2 * got.total[0], got.total[0] + nothing])
    evidence.close(several.total, want, rtol=RTOL, atol=ATOL, what="bound of two coordinates")


@proof(
    "K-54..57", "L-2.4", "V-eq3", "T-4.3-elbo", "K-63", "K-3.7-range",
    of=BoundTerms.total,
    oracle="the evidence by the joint law of the model, and Gauss-Hermite over paths",
    given=(cases(),),
)  # fmt: skip
def total_bounds_the_evidence(evidence: Evidence, case: Case) -> None:
    """All terms together are the expected log ratio and at least -log p(x_0)."""
    chain, model, x0 = case
    got = expected_terms(chain, model, np.array([[x0]])).total[0]
    path, weights = all_paths(chain, x0)
    want = densities(chain, model, path).ratio @ weights
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="bound")
    evidence.at_most(-model_log_evidence(model, np.array(x0)), got + ATOL, "-log p(x_0)")


@proof(
    "L-2.4", "K-57",
    of=(expected_terms, BoundTerms.total),
    oracle="values recorded elsewhere",
)  # fmt: skip
def recorded_bound(evidence: Evidence) -> None:
    """The example has the bound -1.285789 and the log evidence -1.17076."""
    got = -expected_terms(EXAMPLE.chain, EXAMPLE.model, np.array([[EXAMPLE.x0]])).total[0]
    evidence.close(got, -1.28578896, atol=1e-8, what="bound")
    log_evidence = EXAMPLE.model.log_evidence(np.array([[EXAMPLE.x0]]))
    evidence.close(log_evidence, -1.17076, atol=1e-5, what="log p(x_0)")


class Known(BoundTerms):
    """Terms whose true sum is known another way."""

    known: Array


def known(terms: BoundTerms, value: float) -> Known:
    """Attach the true sum to terms."""
    example = Known(*terms)
    example.known = np.array([value])
    return example


def with_path_value(case: Case) -> Known:
    """Terms of a case, with the expected log ratio of whole paths."""
    path, weights = all_paths(case.chain, case.x0)
    value = float(densities(case.chain, case.model, path).ratio @ weights)
    return known(expected_terms(case.chain, case.model, np.array([[case.x0]])), value)


def path_value(terms: Known) -> Array:
    """The expected log ratio of whole paths."""
    return terms.known


# The model behind the recorded sums 1.9973, 0.7424, 1.5227 and 1.2312 is not known: these terms are
# solved from them, so that they show the size of the errors. The search has a truth of its own.
RECORDED = known(
    BoundTerms(np.array([0.12915]), np.array([[0.7661], [0.4746]]), np.array([0.62745])), 1.9973
)


@misprint(
    "K-63",
    of=BoundTerms.total,
    truth=path_value,
    oracle="Gauss-Hermite over paths",
    counterexample=Counterexample((RECORDED,), printed=0.7424, right=1.9973),
    search=(cases().map(with_path_value),),
)
def decoder_without_its_sign(terms: BoundTerms) -> Array:
    """The last term as log p(x_0 | x_1), which rewards a model for missing the data."""
    return np.asarray(terms.prior + terms.kls.sum(axis=0) - terms.decoder)


@misprint(
    "K-3.7-range",
    of=BoundTerms.total,
    truth=path_value,
    oracle="Gauss-Hermite over paths",
    counterexample=Counterexample((RECORDED,), printed=1.5227, right=1.9973),
    search=(cases(min_steps=2).map(with_path_value),),
)
def last_level_left_out(terms: BoundTerms) -> Array:
    """Divergences of the levels 1 < t < T only."""
    return np.asarray(terms.prior + terms.kls[:-1].sum(axis=0) + terms.decoder)


@proof(
    "V-8.3",
    of=BoundTerms.total,
    oracle="Gauss-Hermite over paths",
    given=(cases(min_steps=3).map(with_path_value),),
)
def one_divergence_is_not_all(evidence: Evidence, terms: Known) -> None:
    """L_T + L_{t-1} + L_0 is the bound only if L_{t-1} stands for the sum of all levels."""
    evidence.close(terms.total, terms.known, rtol=RTOL, atol=ATOL, what="bound")
    for level in range(terms.kls.shape[0]):
        printed = terms.prior + terms.kls[level] + terms.decoder
        evidence.holds(terms.known - printed > ATOL, "one level alone is too little")
    printed = RECORDED.prior + RECORDED.kls[1] + RECORDED.decoder
    evidence.close(printed, 1.2312, atol=1e-4, what="summary line as recorded")


@proof(
    "K-62", "L-Ct", "G-20c",
    of=step_divergence,
    oracle="quadrature of the divergence, the posterior by conditioning the covariance",
    given=(cases(min_steps=2), st.integers(2, 3), st.floats(-2, 2)),
)  # fmt: skip
def divergence_at_a_point(evidence: Evidence, case: Case, level: int, x_t: float) -> None:
    """The divergence of a step is a function of x_t and sums over the coordinates."""
    chain, model, x0 = case
    t = min(level, chain.steps)
    (a, b), rest = condition(joint_covariance(chain.betas), t - 1, [0, t])
    deviations = float(np.sqrt(rest)), float(np.sqrt(model.variances[t - 1]))
    want = [
        quad_kl(
            a * clean + b * noisy,
            deviations[0],
            float(model.slopes[t - 1] * noisy + model.shifts[t - 1]),
            deviations[1],
        )
        for clean, noisy in ((x0, x_t), (-x0, 0.5))
    ]
    got = step_divergence(chain, model, t, np.array([[x0, -x0]]), np.array([[x_t, 0.5]]))
    evidence.close(got, [sum(want)], rtol=1e-8, atol=1e-9, what="divergence")


def averaged_divergence(chain: Chain, model: LinearReverse, t: int, x0: Array) -> Array:
    """Expected log ratio of a step over whole paths."""
    path, weights = all_paths(chain, float(x0[0, 0]))
    return np.asarray([conditioned_terms(chain, model, path).kls[t - 2] @ weights])


@proof(
    "K-62", "L-Ct", "G-20c", "G-21",
    of=expected_divergence,
    oracle="Gauss-Hermite over paths of log ratios of conditioned covariances",
    given=(cases(min_steps=2), st.integers(2, 3)),
)  # fmt: skip
def averaged_over_the_noisier(evidence: Evidence, case: Case, level: int) -> None:
    """The term of the bound is the divergence averaged over q(x_t | x_0)."""
    t, clean = min(level, case.chain.steps), np.array([[case.x0]])
    got = expected_divergence(case.chain, case.model, t, clean)
    want = averaged_divergence(case.chain, case.model, t, clean)
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="expected divergence")


@proof("G-20c", "G-21", of=expected_divergence, oracle="values recorded elsewhere")
def recorded_divergences(evidence: Evidence) -> None:
    """The divergence is 3.34, 0.989 or 0.244 as x_2 is -1, 0 or 1, and 0.626 on average."""
    clean = np.full((3, 1), EXAMPLE.x0)
    x_2 = np.array([[-1.0], [0.0], [1.0]])
    got = step_divergence(EXAMPLE.chain, EXAMPLE.model, 2, clean, x_2)
    evidence.close(got, [3.3400, 0.9894, 0.2442], atol=1e-4, what="divergences")
    got = expected_divergence(EXAMPLE.chain, EXAMPLE.model, 2, clean[:1])
    evidence.close(got, [0.6256], atol=1e-4, what="expected divergence")


@misprint(
    "G-20c",
    "G-21",
    of=expected_divergence,
    truth=averaged_divergence,
    oracle="Gauss-Hermite over paths of log ratios of conditioned covariances",
    counterexample=Counterexample(
        (EXAMPLE.chain, EXAMPLE.model, 2, np.array([[EXAMPLE.x0]])), printed=0.9894, right=0.6256
    ),
    search=(
        st.just(EXAMPLE.chain),
        cases(min_steps=3).filter(lambda case: case.model.steps == 3).map(lambda case: case.model),
        st.integers(2, 3),
        st.floats(-2, 2).map(lambda x0: np.array([[x0]])),
    ),
    atol=ATOL,
)
def without_the_outer_expectation(chain: Chain, model: LinearReverse, t: int, x0: Array) -> Array:
    """The divergence itself, here at x_t = 0: it is a function of x_t and no number."""
    return step_divergence(chain, model, t, x0, np.zeros_like(x0))


@proof(
    "G-21-ignore",
    of=expected_terms,
    oracle="minimisation of the bound and of its part over one shared parameter",
)
def decoder_term_decides(evidence: Evidence) -> None:
    """Without the term of x_0 given x_1 that step is left free and shared parameters go astray."""
    chain, model, x0 = EXAMPLE
    clean = np.array([[x0]])
    terms = expected_terms(chain, model, clean)
    evidence.close(terms.decoder, [0.328], atol=1e-3, what="term that is dropped")
    evidence.close(terms.kls.sum(axis=0), [0.820], atol=1e-3, what="divergences")
    other = LinearReverse(
        np.array([-3.0, 0.9, 0.8]), np.array([9.0, -0.1, 0.2]), np.array([4.0, 0.25, 0.36])
    )
    changed = expected_terms(chain, other, clean)
    evidence.equal(changed.kls, terms.kls, "divergences of another decoder")
    evidence.holds(changed.decoder > terms.decoder + 1, "the other decoder is much worse")

    def shared(shift: float, *, whole: bool) -> float:
        tied = LinearReverse(model.slopes, np.full(3, shift), model.variances)
        terms = expected_terms(chain, tied, clean)
        return float((terms.total if whole else terms.kls.sum(axis=0))[0])

    best = [
        optimize.minimize_scalar(lambda shift, whole=whole: shared(shift, whole=whole)).x
        for whole in (True, False)
    ]
    evidence.holds(abs(best[0] - best[1]) > 0.05, "the optimum moves when the term is dropped")


@proof(
    "K-61", "L-CT-closed",
    of=prior_kl,
    oracle="quadrature of the divergence from products of (1 - beta)",
    given=(betas(), st.lists(st.floats(-2, 2), min_size=1, max_size=3)),
)  # fmt: skip
def closed_prior(evidence: Evidence, steps: Array, x0: list[float]) -> None:
    """The divergence of x_T from pure noise needs the last signal power and the squares of x_0."""
    signal = float(signal_products(steps)[-1])
    noise = float(1 - signal_products(steps)[-1])
    want = sum(quad_kl(np.sqrt(signal) * x, np.sqrt(noise), 0.0, 1.0) for x in x0)
    got = prior_kl(np.array([x0]), Chain(steps))
    # A point mass at 1e-12 of noise: the quadrature's own error grows with log noise.
    evidence.close(got, [want], rtol=1e-8, atol=1e-9, what="KL(q(x_T | x_0) || N(0, I))")


@proof("K-61", "L-CT-closed", of=prior_kl, oracle="a value recorded elsewhere, and zero signal")
def recorded_prior(evidence: Evidence) -> None:
    """The usual thousand betas leave 2.02e-5 nats at unit square; zero terminal SNR leaves none."""
    got = prior_kl(np.array([[1.0]]), linear_schedule(1000, 1e-4, 0.02))
    evidence.close(got, [2.02e-5], atol=5e-8, what="nats")
    evidence.equal(prior_kl(np.array([[3.0, -2.0]]), Chain([0.3, 1.0])), [0.0], "no signal")
