"""The forms of the bound along a path against laws conditioned from the joint covariance."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.elbo import BoundTerms
from ddpm.reference.linear_reverse import LinearReverse, exact_reverse
from ddpm.reference.path_bound import (
    bayes_ratio,
    joint_ratio,
    log_marginals,
    log_posteriors,
    path_terms,
    posterior_ratio,
)
from ddpm.reference.posterior import posterior_coefficients
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid
from ddpm.verify.proofs.linear_reverse import (
    EXAMPLE,
    Case,
    all_paths,
    cases,
    conditioned_terms,
    densities,
    model_joint,
)
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators

# Log densities of wild paths reach some hundreds; conditioning leaves 1e-11 of them.
RTOL, ATOL = 1e-9, 1e-9


def wild(case: Case, rng: np.random.Generator, samples: int = 4) -> Array:
    """Paths that no chain made: the forms agree on each of them."""
    return rng.normal(size=(case.chain.steps + 1, samples, 1))


@proof(
    "K-45", "K-49", "K-51..53", "V-8.3", "G-17", "G-20", "L-2.3",
    of=(joint_ratio, bayes_ratio, posterior_ratio, path_terms),
    oracle="scipy's densities of the steps of both chains",
    given=(cases(max_steps=6), generators()),
)  # fmt: skip
def forms_agree(evidence: Evidence, case: Case, rng: np.random.Generator) -> None:
    """Every form of the log ratio is that of the two chains' steps, path by path."""
    path = wild(case, rng)
    want = densities(case.chain, case.model, path).ratio
    for form in (joint_ratio, bayes_ratio, posterior_ratio):
        got = form(case.chain, case.model, path)
        evidence.close(got, want, rtol=RTOL, atol=ATOL, what=form.__name__)
    got = path_terms(case.chain, case.model, path).total
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="sum of the terms")
    pairs = np.concatenate([path, path[:, ::-1]], axis=2)
    for form in (joint_ratio, bayes_ratio, posterior_ratio):
        got = form(case.chain, case.model, pairs)
        evidence.close(got, want + want[::-1], rtol=RTOL, atol=ATOL, what="two coordinates")
    got = path_terms(case.chain, case.model, pairs).total
    evidence.close(got, want + want[::-1], rtol=RTOL, atol=ATOL, what="terms of two coordinates")


@proof(
    "K-50",
    of=bayes_ratio,
    oracle="conditioning the covariance of all levels, factor by factor",
    given=(cases(max_steps=6), generators()),
)
def bayes_form_on_a_path(evidence: Evidence, case: Case, rng: np.random.Generator) -> None:
    """One marginal of x_1 in front, and in each factor two marginals and a posterior."""
    path, covariance = wild(case, rng), joint_covariance(case.chain.betas)
    x, along = path[..., 0], densities(case.chain, case.model, path)

    def log_law(target: int, given: list[int]) -> Array:
        weights, rest = condition(covariance, target, given)
        return np.asarray(stats.norm.logpdf(x[target], weights @ x[given], np.sqrt(rest)))

    want = log_law(1, [0]) - along.reverse.sum(axis=0) - along.terminal
    for t in range(2, case.chain.steps + 1):
        want = want + log_law(t - 1, [0, t]) + log_law(t, [0]) - log_law(t - 1, [0])
    got = bayes_ratio(case.chain, case.model, path)
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="log ratio")


@proof(
    "K-53..55", "L-2.3", "G-20", "V-8.3",
    of=path_terms,
    oracle="conditioning the covariance of all levels",
    given=(cases(max_steps=6), generators()),
)  # fmt: skip
def terms_on_a_path(evidence: Evidence, case: Case, rng: np.random.Generator) -> None:
    """Each term is the log ratio of one law of q and one of p."""
    path = wild(case, rng)
    got = path_terms(case.chain, case.model, path)
    want = conditioned_terms(case.chain, case.model, path)
    for name in ("prior", "kls", "decoder"):
        evidence.close(getattr(got, name), getattr(want, name), rtol=RTOL, atol=ATOL, what=name)


@proof(
    "K-49", "G-20",
    of=(log_marginals, log_posteriors),
    oracle="conditioning the covariance of all levels",
    given=(cases(max_steps=6), generators()),
)  # fmt: skip
def laws_on_a_path(evidence: Evidence, case: Case, rng: np.random.Generator) -> None:
    """Marginals given x_0 at levels 1..T, posteriors of levels 1..T - 1."""
    path, covariance = wild(case, rng), joint_covariance(case.chain.betas)
    x, steps = path[..., 0], case.chain.steps
    marginals, posteriors = [], []
    for t in range(1, steps + 1):
        weights, rest = condition(covariance, t, [0])
        marginals.append(stats.norm.logpdf(x[t], weights[0] * x[0], np.sqrt(rest)))
    for t in range(2, steps + 1):
        (a, b), rest = condition(covariance, t - 1, [0, t])
        posteriors.append(stats.norm.logpdf(x[t - 1], a * x[0] + b * x[t], np.sqrt(rest)))
    got = log_marginals(case.chain, path)
    evidence.close(got, marginals, rtol=RTOL, atol=ATOL, what="marginals")
    got = log_posteriors(case.chain, path)
    evidence.close(got, np.reshape(posteriors, (-1, 4)), rtol=RTOL, atol=ATOL, what="posteriors")


@proof(
    "T-4.3-q", "K-45..48",
    of=joint_ratio,
    oracle="scipy's multivariate normal of all latents, and conditioning on x_0 as well",
    given=(cases(max_steps=5), generators()),
)  # fmt: skip
def noising_chain_is_the_posterior(
    evidence: Evidence, case: Case, rng: np.random.Generator
) -> None:
    """The law of the latents is that of the noising chain, and naming x_0 changes no step of it."""
    path, covariance = wild(case, rng), joint_covariance(case.chain.betas)
    x, levels = path[..., 0], range(1, case.chain.steps + 1)
    latents = joint_covariance(case.chain.betas, 0.0)[1:, 1:]
    gains = np.sqrt(np.cumprod(1 - case.chain.betas))
    log_q = [stats.multivariate_normal(gains * x[0, i], latents).logpdf(x[1:, i]) for i in range(4)]
    got = joint_ratio(case.chain, case.model, path) + case.model.log_density(path)
    evidence.close(got, log_q, rtol=RTOL, atol=ATOL, what="log q(x_{1:T} | x_0)")
    total = np.zeros(4)
    for t in levels:
        given = sorted({0, t - 1})
        weights, rest = condition(covariance, t, given)
        total += stats.norm.logpdf(x[t], weights @ x[given], np.sqrt(rest))
    evidence.close(got, total, rtol=RTOL, atol=ATOL, what="steps given x_0 as well")


@proof(
    "G-16",
    of=joint_ratio,
    oracle="conditioning the model's joint law on all latents at once",
    given=(cases(), generators()),
)
def reconstruction_and_prior(evidence: Evidence, case: Case, rng: np.random.Generator) -> None:
    """The log ratio splits into log p(x_0 | x_{1:T}) and a ratio of laws of the latents."""
    path = wild(case, rng)
    x, (mean, covariance) = path[..., 0], model_joint(case.model)
    latents = list(range(1, case.chain.steps + 1))
    weights, rest = condition(covariance, 0, latents)
    reconstruction = stats.norm.logpdf(
        x[0], mean[0] + weights @ (x[1:] - mean[1:, None]), np.sqrt(rest)
    )
    prior = stats.multivariate_normal(mean[1:], covariance[1:, 1:]).logpdf(x[1:].T)
    log_q = densities(case.chain, case.model, path).forward.sum(axis=0)
    got = -joint_ratio(case.chain, case.model, path)
    want = reconstruction - (log_q - np.reshape(prior, 4))
    evidence.close(got, want, rtol=1e-8, atol=1e-8, what="log p / q")


@proof(
    "K-49",
    of=bayes_ratio,
    oracle="scipy's densities of the steps of both chains",
    given=(cases(min_steps=2, max_steps=6), generators()),
)
def scope_of_the_product(evidence: Evidence, case: Case, rng: np.random.Generator) -> None:
    """The marginal below the line belongs inside the product; outside it is one factor of many."""
    path = wild(case, rng)
    want = densities(case.chain, case.model, path).ratio
    got = bayes_ratio(case.chain, case.model, path)
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="inside the product")
    marginals = log_marginals(case.chain, path)
    kept_once = got + marginals[:-1].sum(axis=0) - marginals[:-1]
    right = np.all(abs(kept_once - want) < ATOL, axis=1)
    evidence.equal(right.any(), case.chain.steps == 2, "outside is right for T = 2 only")


@proof(
    "G-20",
    of=bayes_ratio,
    oracle="widening the two point masses at t = 1",
    given=(cases(max_steps=1), generators(), st.floats(-12, -1)),
)
def first_step_is_left_alone(
    evidence: Evidence, case: Case, rng: np.random.Generator, power: float
) -> None:
    """At t = 1 the rule of Bayes divides two point masses: equal, but neither of density one."""
    path = wild(case, rng)
    want = densities(case.chain, case.model, path).ratio
    got = bayes_ratio(case.chain, case.model, path)
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="one step")
    evidence.equal(
        np.stack(posterior_coefficients(case.chain, 0, 1)), [1.0, 0.0, 0.0], "point mass"
    )
    width = 10.0**power
    at_itself = stats.norm.logpdf(case.x0, case.x0, width)
    evidence.holds(at_itself > 1, "a narrow law of x_0 given x_0 has a density above one")
    evidence.holds(at_itself > stats.norm.logpdf(0, 0, 2 * width), "it grows without a bound")


def expected(ratio: Array) -> Array:
    """The value of the bound: minus the expectation of a log ratio over `all_paths`."""
    steps = round(np.log(ratio.size) / np.log(3))
    return np.asarray(-(ratio @ normal_grid(steps, 3)[1]))


def scipy_ratio(chain: Chain, model: LinearReverse, path: Array) -> Array:
    """Log ratio by scipy's densities of the steps."""
    return densities(chain, model, path).ratio


def scipy_terms(chain: Chain, model: LinearReverse, path: Array) -> BoundTerms:
    """Log ratio by scipy's densities of the steps, as a single term."""
    ratio = scipy_ratio(chain, model, path)
    return BoundTerms(ratio, np.zeros((0, ratio.size)), np.zeros_like(ratio))


EXAMPLE_PATHS = all_paths(EXAMPLE.chain, EXAMPLE.x0)[0]
SEARCH = (
    st.just(EXAMPLE.chain),
    cases(min_steps=3).filter(lambda case: case.model.steps == 3).map(lambda case: case.model),
    st.floats(-2, 2).map(lambda x0: all_paths(EXAMPLE.chain, x0)[0]),
)


@misprint(
    "K-50",
    of=bayes_ratio,
    truth=scipy_ratio,
    oracle="scipy's densities of the steps of both chains",
    counterexample=Counterexample(
        (EXAMPLE.chain, EXAMPLE.model, np.array([[[0.7]], [[0.4]], [[-0.2]], [[0.9]]])),
        printed=[1.280992],
        right=[2.029870],
    ),
    search=SEARCH,
    atol=ATOL,
)
def last_marginal_in_front(chain: Chain, model: LinearReverse, path: ArrayLike) -> Array:
    """The marginal of x_T as the leading factor, where that of x_1 belongs."""
    marginals = log_marginals(chain, path)
    return np.asarray(bayes_ratio(chain, model, path) + marginals[-1] - marginals[0])


@misprint(
    "L-2.3",
    of=bayes_ratio,
    truth=scipy_ratio,
    oracle="scipy's densities of the steps of both chains, averaged over paths",
    counterexample=Counterexample(
        (EXAMPLE.chain, EXAMPLE.model, EXAMPLE_PATHS), printed=-0.32978, right=-1.285789
    ),
    search=SEARCH,
    value=expected,
    atol=ATOL,
)
def fifth_line(chain: Chain, model: LinearReverse, path: Array) -> Array:
    """The posterior without x_0, the marginal of x_{t-1} below the line and that of x_t nowhere."""
    marginals = log_marginals(chain, path)
    # A law of x_{t-1} given x_t alone needs a law of the data, here N(0, 0.8).
    reversal = exact_reverse(chain, 0.0, 0.8)
    swapped = [
        reversal.log_step(t, path[t - 1], path[t]) + marginals[t - 2]
        for t in range(2, chain.steps + 1)
    ]
    return np.asarray(marginals[0] + np.sum(swapped, axis=0) - model.log_density(path))


@misprint(
    "L-2.3",
    of=bayes_ratio,
    truth=scipy_ratio,
    oracle="scipy's densities of the steps of both chains, averaged over paths",
    counterexample=Counterexample(
        (EXAMPLE.chain, EXAMPLE.model, EXAMPLE_PATHS), printed=-0.16117, right=-1.285789
    ),
    search=SEARCH,
    value=expected,
    atol=ATOL,
)
def sixth_line(chain: Chain, model: LinearReverse, path: Array) -> Array:
    """The marginal of x_{t-1} missing above the line."""
    missing = log_marginals(chain, path)[:-1].sum(axis=0)
    return np.asarray(bayes_ratio(chain, model, path) + missing)


@misprint(
    "L-2.3",
    of=path_terms,
    truth=scipy_terms,
    oracle="scipy's densities of the steps of both chains, averaged over paths",
    counterexample=Counterexample(
        (EXAMPLE.chain, EXAMPLE.model, EXAMPLE_PATHS), printed=-0.56871, right=-1.285789
    ),
    search=SEARCH,
    value=lambda terms: expected(terms.total),
    atol=ATOL,
)
def eighth_line(chain: Chain, model: LinearReverse, path: Array) -> BoundTerms:
    """The model's step conditioned on x_0, which it is to generate."""
    right, x, (mean, covariance) = path_terms(chain, model, path), path[..., 0], model_joint(model)
    kls = []
    for t in range(2, chain.steps + 1):
        weights, rest = condition(covariance, t - 1, [0, t])
        centre = mean[t - 1] + weights @ (x[[0, t]] - mean[[0, t], None])
        informed = stats.norm.logpdf(x[t - 1], centre, np.sqrt(rest))
        kls.append(log_posteriors(chain, path)[t - 2] - informed)
    return BoundTerms(right.prior, np.reshape(kls, (-1, x.shape[1])), right.decoder)
