"""Diffusion of categories against the enumeration of every path of the chain."""

from itertools import pairwise, product

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.discrete import (
    CategoricalChain,
    Categories,
    Predict,
    Reverse,
    categorical_bound,
    categorical_sample,
    draw,
    q_marginal,
    q_posterior,
    reverse_step,
    reverse_step_joint,
)
from ddpm.reference.transition_matrices import absorbing_matrix, gaussian_matrix, uniform_matrix
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators

K = 4
MASK = K - 1
DRAWS = 5_000
# Sums of at most 256 products of at most five numbers below one.
RTOL, ATOL = 1e-12, 1e-14


@st.composite
def chains(draw: st.DrawFn) -> CategoricalChain:
    """Chains of one to three steps: uniform, absorbing, Gaussian or any other matrices."""
    steps = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["uniform", "absorbing", "gaussian", "any"]))
    betas = draw(st.lists(st.floats(0.05, 1), min_size=steps, max_size=steps))
    if kind == "uniform":
        return CategoricalChain([uniform_matrix(beta, K) for beta in betas])
    if kind == "absorbing":
        return CategoricalChain([absorbing_matrix(beta, K, MASK) for beta in betas])
    if kind == "gaussian":
        return CategoricalChain([gaussian_matrix(beta, K) for beta in betas])
    return CategoricalChain(laws(draw(generators()), steps, K))


def laws(generator: np.random.Generator, *shape: int) -> Array:
    """Random laws of K categories, shape (*shape, K)."""
    return generator.dirichlet(np.ones(K), size=shape)


def enumerated(first: Array, tables: list[Array]) -> Array:
    """Probability of every path: entry (i, j, ...) starts at i and goes on to j by the tables."""
    joint = np.zeros((K,) * (len(tables) + 1))
    for path in product(range(K), repeat=joint.ndim):
        steps = zip(tables, pairwise(path), strict=True)
        joint[path] = first[path[0]] * np.prod([table[pair] for table, pair in steps])
    return joint


def onto(joint: Array, *levels: int) -> Array:
    """Law of the categories at some levels in increasing order, the others summed out."""
    others = tuple(t for t in range(joint.ndim) if t not in levels)
    return np.asarray(joint.sum(axis=others))


def predicted(joint: Array, t: int) -> Array:
    """p(x_0 | x_t), a row for each x_t; the uniform law where x_t never occurs."""
    pair = onto(joint, 0, t).T
    total = pair.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(pair, total, out=np.full((K, K), 1 / K), where=total > 0))


@proof(
    "G-3.5-D3PM",
    of=(CategoricalChain.transition, q_marginal),
    oracle="enumeration of all paths",
    given=(chains(),),
)
def marginals(evidence: Evidence, chain: CategoricalChain) -> None:
    """The law of x_t given x_0 sums over the paths between them."""
    joint = enumerated(np.full(K, 1 / K), list(chain.matrices))
    evidence.equal(q_marginal(chain, 0, np.arange(K)), np.eye(K))
    for t in range(1, chain.steps + 1):
        want = onto(joint, 0, t) * K
        evidence.close(q_marginal(chain, t, np.arange(K)), want, rtol=RTOL, atol=ATOL)
    for s in range(1, chain.steps):
        pair = onto(joint, s, chain.steps)
        want = chain.transition(s, chain.steps) * pair.sum(axis=1, keepdims=True)
        evidence.close(pair, want, rtol=RTOL, atol=ATOL, what="jump")


@proof(
    "G-3.5-D3PM",
    of=q_posterior,
    oracle="enumeration of all paths",
    given=(chains(),),
)
def posterior(evidence: Evidence, chain: CategoricalChain) -> None:
    """The law of x_s given both ends; where x_0 cannot lead to x_t there is none."""
    joint = enumerated(np.full(K, 1 / K), list(chain.matrices))
    for t in range(1, chain.steps + 1):
        ends = onto(joint, 0, t)
        for s in range(t):
            triple = onto(joint, 0, s, t) if s else np.eye(K)[:, :, None] * ends[:, None, :]
            for x_0, x_t in product(range(K), repeat=2):
                if ends[x_0, x_t] > 0:
                    want = triple[x_0, :, x_t] / ends[x_0, x_t]
                    got = q_posterior(chain, s, t, x_t, x_0)
                    evidence.close(got, want, rtol=RTOL, atol=ATOL)
                else:
                    evidence.holds(refuses(chain, s, t, x_t, x_0), "the law 0/0 is refused")


def refuses(chain: CategoricalChain, s: int, t: int, x_t: int, x_0: int) -> bool:
    """Whether the posterior raises."""
    try:
        q_posterior(chain, s, t, x_t, x_0)
    except ValueError:
        return True
    return False


@proof(
    "G-3.5-D3PM",
    of=reverse_step,
    oracle="enumeration of all paths",
    given=(chains(), generators()),
)
def exact_prediction(
    evidence: Evidence, chain: CategoricalChain, generator: np.random.Generator
) -> None:
    """With the exact law of x_0 given x_t the step is exact, for any data and any jump."""
    joint = enumerated(laws(generator), list(chain.matrices))
    for t in range(1, chain.steps + 1):
        x_t = np.flatnonzero(onto(joint, t))
        for s in range(t):
            pair = onto(joint, s, t).T[x_t]
            got = reverse_step(chain, s, t, x_t, predicted(joint, t)[x_t])
            evidence.close(got, pair / pair.sum(axis=1, keepdims=True), rtol=1e-11, atol=ATOL)


@proof(
    "G-3.5-D3PM",
    of=(reverse_step, reverse_step_joint),
    oracle="enumeration of all paths",
    given=(chains(), generators()),
)
def weights_of_the_prediction(
    evidence: Evidence, chain: CategoricalChain, generator: np.random.Generator
) -> None:
    """One averages the posteriors, the other the joint laws, both over any predicted x_0."""
    joint = enumerated(np.ones(K), list(chain.matrices))
    t = chain.steps
    for s in range(1, t):
        for x_t in np.flatnonzero(onto(joint, t)):
            prediction = laws(generator)
            pairs, ends = onto(joint, 0, s, t)[:, :, x_t], onto(joint, 0, t)[:, x_t]
            possible = ends > 0
            average = prediction[possible] @ (pairs[possible] / ends[possible, None])
            got = reverse_step(chain, s, t, int(x_t), prediction)
            evidence.close(got, average / prediction[possible].sum(), rtol=1e-11, atol=ATOL)
            total = prediction @ pairs
            got = reverse_step_joint(chain, s, t, int(x_t), prediction)
            evidence.close(got, total / total.sum(), rtol=1e-11, atol=ATOL, what="joint")


@proof(
    "G-3.5-D3PM",
    of=reverse_step_joint,
    oracle="enumeration of all paths",
    given=(generators(), st.lists(st.floats(0.1, 0.9), min_size=2, max_size=2)),
    examples=20,
)
def joint_weights_are_exact_for_a_mask(
    evidence: Evidence, generator: np.random.Generator, betas: list[float]
) -> None:
    """The joint laws give the exact step for data without the mask, and not for uniform noise."""
    data = np.append(generator.dirichlet(np.ones(K - 1)), 0.0)
    errors = []
    for matrices in (
        [absorbing_matrix(beta, K, MASK) for beta in betas],
        [uniform_matrix(beta, K) for beta in betas],
    ):
        joint = enumerated(data, matrices)
        pair = onto(joint, 1, 2).T
        want = pair / pair.sum(axis=1, keepdims=True)
        chain = CategoricalChain(matrices)
        got = reverse_step_joint(chain, 1, 2, np.arange(K), predicted(joint, 2))
        errors.append(np.abs(got - want).max())
    evidence.close(errors[0], 0.0, atol=1e-12, what="error with a mask")
    evidence.at_most(1e-4, errors[1], "error with uniform noise")


@proof(
    "G-3.5-D3PM",
    of=categorical_bound,
    oracle="enumeration of all paths of both chains",
    given=(chains(), generators(), st.sampled_from([reverse_step, reverse_step_joint])),
    examples=25,
)
def bound(
    evidence: Evidence, chain: CategoricalChain, generator: np.random.Generator, reverse: Reverse
) -> None:
    """The terms add up to the average log ratio of the two path laws, above -log p(x_0)."""
    steps, prior = chain.steps, laws(generator)
    predictions = laws(generator, steps + 1, K)

    def predict(x_t: Categories, t: int) -> Array:
        return np.asarray(predictions[t][x_t])

    x_0 = np.arange(K)
    terms = categorical_bound(chain, x_0, predict, prior, reverse)
    evidence.holds(terms.kls.shape == (steps - 1, K), "kls has a row for each step above the first")
    tables = [model_table(chain, reverse, predict, t) for t in range(steps, 0, -1)]
    model = enumerated(prior, tables).transpose()
    forward = enumerated(np.ones(K), list(chain.matrices))
    ratio = log_ratio(forward, model)
    levels = tuple(range(1, steps + 1))
    evidence.close(terms.total, (forward * ratio).sum(axis=levels), rtol=1e-10, atol=1e-11)
    evidence.at_most(-np.log(onto(model, 0)), terms.total + 1e-11, "minus log p(x_0)")
    first = onto(forward, 0, 1)
    decoder = (first * log_ratio((first > 0).astype(np.float64), tables[-1].T)).sum(axis=1)
    evidence.close(terms.decoder, decoder, rtol=1e-11, atol=1e-12, what="decoder")
    last = onto(forward, 0, steps)
    evidence.close(terms.prior, (last * log_ratio(last, prior)).sum(axis=1), atol=1e-11)


def log_ratio(q: Array, p: Array) -> Array:
    """Logarithm of q / p, 0 where q is 0."""
    return np.asarray(
        np.log(np.divide(q, np.broadcast_to(p, q.shape), out=np.ones(q.shape), where=q > 0))
    )


def model_table(chain: CategoricalChain, reverse: Reverse, predict: Predict, t: int) -> Array:
    """Law of x_{t-1} for each x_t; the uniform law where no x_0 leads to x_t."""
    table = np.full((K, K), 1 / K)
    x_t = np.flatnonzero(chain.transition(0, t).any(axis=0))
    table[x_t] = reverse(chain, t - 1, t, x_t, predict(x_t, t))
    return table


@proof(
    "G-3.5-D3PM",
    of=(categorical_bound, categorical_sample),
    oracle="the law of the data; enumeration of all paths",
    given=(chains(), generators()),
    examples=15,
)
def exact_model(
    evidence: Evidence, chain: CategoricalChain, generator: np.random.Generator
) -> None:
    """With exact predictions and prior the bound is tight and the samples have the data's law."""
    data = laws(generator)
    joint = enumerated(data, list(chain.matrices))

    def predict(x_t: Categories, t: int) -> Array:
        return predicted(joint, t)[x_t]

    prior = onto(joint, chain.steps)
    terms = categorical_bound(chain, np.arange(K), predict, prior)
    evidence.close(terms.total, -np.log(data), rtol=1e-10, atol=1e-11, what="bound")
    last = draw(np.tile(prior, (DRAWS, 1)), generator.random(DRAWS))
    x_0 = categorical_sample(chain, predict, last, generator.random((chain.steps, DRAWS)))
    counts = np.bincount(x_0, minlength=K)
    # The chi-squared statistic has K - 1 = 3 degrees of freedom: above 35 once in ten million.
    statistic = np.sum((counts - DRAWS * data) ** 2 / (DRAWS * data))
    evidence.at_most(statistic, 35.0, "chi-squared statistic of the samples")


@proof(
    "G-3.5-D3PM",
    of=draw,
    oracle="equally spaced uniform numbers",
    given=(generators(), st.integers(1, 5)),
    examples=20,
)
def drawing(evidence: Evidence, generator: np.random.Generator, states: int) -> None:
    """The share of uniform numbers that give a category is its probability."""
    law = generator.dirichlet(np.ones(states)) * (np.arange(states) != 1)
    law = law / law.sum()
    places = (np.arange(10_000) + 0.5) / 10_000
    got = draw(np.tile(law, (10_000, 1)), places)
    share = np.bincount(got, minlength=states) / 10_000
    # Each of a category's two ends cuts off less than one of the numbers.
    evidence.close(share, law, atol=2e-4, what="share")
    evidence.holds(np.diff(got) >= 0, "categories are drawn in order")
