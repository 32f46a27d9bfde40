"""Diffusion towards a fitted Gaussian against matrices assembled block by block."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.objectives import bound_weight, simple_loss
from ddpm.reference.priorgrad import (
    Prior,
    mahalanobis_loss,
    prior_posterior,
    prior_q_sample,
    prior_sample,
    prior_step,
    uncentred_step,
)
from ddpm.reference.schedules import linear_schedule
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas

# The covariances of the prior and of the data have condition numbers below a few hundred, those of
# eight levels below 1e4; a solve with their product leaves 1e-9.
SOLVED = 1e-9
# A few dozen roundings of numbers of order one.
PROPAGATED = 1e-12
STRONG = np.array([[2.0, 0.6], [0.6, 0.5]])


def random_covariance(rng: np.random.Generator, d: int) -> Array:
    """A symmetric matrix with eigenvalues between 0.1 and a few units."""
    root = rng.normal(size=(d, d))
    return np.asarray(root @ root.T / d + 0.1 * np.eye(d))


def random_prior(rng: np.random.Generator, d: int) -> Prior:
    """A prior with any mean and covariance."""
    return Prior(rng.normal(size=d), random_covariance(rng, d))


def symmetric_root(covariance: Array) -> Array:
    """The symmetric square root, a factor other than Cholesky's."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors @ np.diag(np.sqrt(values)) @ vectors.T)


def block_paths(betas: Array, data_root: Array, noise_root: Array) -> Array:
    """Coefficients of z_0..z_T on unit normals, shape (T + 1, d, (T + 1) d), step by step."""
    d = len(noise_root)
    paths = np.zeros((betas.size + 1, d, (betas.size + 1) * d))
    paths[0, :, :d] = data_root
    for t, beta in enumerate(betas, start=1):
        paths[t] = np.sqrt(1 - beta) * paths[t - 1]
        paths[t, :, t * d : (t + 1) * d] = np.sqrt(beta) * noise_root
    return paths


@proof(
    "G-49", "G-51",
    of=prior_q_sample,
    oracle="the chain run block by block from a known start",
    given=(moderate_betas(), generators(), st.integers(1, 3)),
)  # fmt: skip
def centred_marginal(evidence: Evidence, betas: Array, rng: np.random.Generator, d: int) -> None:
    """z_t given x_0 has the mean and the covariance of the chain that starts at x_0 - mean."""
    chain, prior = Chain(betas), random_prior(rng, d)
    paths = block_paths(betas, np.eye(d), symmetric_root(prior.covariance))
    start, unit, nothing = rng.normal(size=(d, d)), np.eye(d), np.zeros((d, d))
    for t in range(betas.size + 1):
        mean = prior_q_sample(chain, t, start, nothing, prior)
        want = (start - prior.mean) @ paths[t, :, :d].T
        evidence.close(mean, want, rtol=PROPAGATED, atol=PROPAGATED, what="mean")
        factor = prior_q_sample(chain, t, start, unit, prior) - mean
        spread = paths[t, :, d:] @ paths[t, :, d:].T
        evidence.close(
            factor.T @ factor, spread, rtol=PROPAGATED, atol=PROPAGATED, what="covariance"
        )


@proof(
    "G-49",
    of=prior_posterior,
    oracle="conditioning the joint covariance of all levels, block by block",
    given=(st.data(), moderate_betas(min_steps=2), generators(), st.integers(1, 3)),
)
def posterior(
    evidence: Evidence, data: st.DataObject, betas: Array, rng: np.random.Generator, d: int
) -> None:
    """The posterior is that of the plain chain, with s2 times the prior's covariance."""
    s, t = data.draw(level_pairs(betas.size, lowest=1))
    prior, chain = random_prior(rng, d), Chain(betas)
    paths = block_paths(
        betas, symmetric_root(random_covariance(rng, d)), symmetric_root(prior.covariance)
    )
    given = np.concatenate([paths[0], paths[t]])
    weights = np.linalg.solve(given @ given.T, given @ paths[s].T).T
    rest = paths[s] @ paths[s].T - weights @ given @ paths[s].T
    z0, z_t = rng.normal(size=(4, d)), rng.normal(size=(4, d))
    mean, covariance = prior_posterior(chain, s, t, z0, z_t, prior)
    want = np.concatenate([z0, z_t], axis=1) @ weights.T
    evidence.close(mean, want, rtol=SOLVED, atol=SOLVED, what="mean")
    evidence.close(covariance, rest, rtol=SOLVED, atol=SOLVED, what="covariance")


@proof(
    "G-49",
    of=(prior_q_sample, uncentred_step),
    oracle="simulating the chain that keeps the mean with NumPy's normal vectors",
)
def uncentred_chain(evidence: Evidence) -> None:
    """z_t plus the whole mean is the chain of the uncentred steps; less than that is not."""
    rng, draws = np.random.default_rng(7), 40_000
    prior, betas = Prior(np.array([1.5, -2.0]), STRONG), np.array([0.1, 0.3, 0.5])
    chain, start = Chain(betas), np.array([0.4, 0.9])
    x = np.tile(start, (draws, 1))
    for beta in betas:
        mean, covariance = uncentred_step(x, beta, prior)
        x = mean + rng.multivariate_normal(np.zeros(2), covariance, size=draws)
    centre = prior_q_sample(chain, 3, start[None], np.zeros((1, 2)), prior)[0]
    evidence.mean(x, centre + prior.mean, "the uncentred chain")
    products = (x - centre - prior.mean)[:, :, None] * (x - centre - prior.mean)[:, None, :]
    root = prior_q_sample(chain, 3, np.tile(prior.mean, (2, 1)), np.eye(2), prior)
    evidence.mean(products, root.T @ root, "its covariance")
    errors = x.std(axis=0) / np.sqrt(draws)
    without = np.abs(x.mean(axis=0) - centre) / errors
    evidence.at_most(50.0, without, "standard errors of the mean left out")


@proof(
    "G-49",
    of=uncentred_step,
    oracle="the law of the step repeated many times",
    given=(generators(), st.integers(1, 3)),
    examples=10,
)
def limit(evidence: Evidence, rng: np.random.Generator, d: int) -> None:
    """From any start the uncentred chain tends to the prior."""
    prior = random_prior(rng, d)
    mean, covariance = rng.normal(size=(1, d)), random_covariance(rng, d)
    for _ in range(80):
        gain = uncentred_step(np.eye(d) + prior.mean, 0.6, prior)[0] - prior.mean
        mean, added = uncentred_step(mean, 0.6, prior)
        covariance = gain.T @ covariance @ gain + added
    evidence.close(mean[0], prior.mean, rtol=PROPAGATED, atol=PROPAGATED, what="mean")
    evidence.close(covariance, prior.covariance, rtol=PROPAGATED, atol=PROPAGATED, what="limit")


def propagated(chain: Chain, start: Array, steps: Array) -> Array:
    """Covariance of the samples when noise of other covariances is drawn on the way.

    Data of the prior's covariance make the chain stationary: its reverse has the forward gain.
    """
    covariance = start
    for beta in chain.betas[::-1]:
        covariance = (1 - beta) * covariance + beta * steps
    return covariance


@proof(
    "G-49-sample",
    of=(prior_sample, prior_step),
    oracle="propagating the covariance through all steps by hand",
)
def noise_of_the_steps(evidence: Evidence) -> None:
    """Data of the prior's covariance come back exactly; any standard noise on the way spoils it."""
    chain, prior = linear_schedule(100, 1e-4, 0.2), Prior(np.array([3.0, -1.0]), STRONG)

    def stationary(z: Array, t: int) -> Array:
        return np.asarray(chain.c[t] * z)

    # One sample for every single normal number: the rows are the factor of the covariance.
    noise = np.eye(202).reshape(202, 101, 2).transpose(1, 0, 2)
    levels = range(100, -1, -1)
    samples = prior_sample(chain, stationary, levels, noise, prior, "beta", True)
    factor = samples - prior.mean
    got = factor.T @ factor
    evidence.close(got, STRONG, rtol=PROPAGATED, what="covariance of the samples")
    evidence.close(got, propagated(chain, STRONG, STRONG), rtol=PROPAGATED, what="propagated")
    silent = np.zeros((101, 1, 2))
    mean = prior_sample(chain, stationary, levels, silent, prior, "beta", True)
    evidence.equal(mean[0], prior.mean, "mean of the samples")
    unit, size = np.eye(2), np.abs(STRONG).max()
    at_start = np.abs(propagated(chain, unit, STRONG) - STRONG).max() / size
    in_steps = np.abs(propagated(chain, STRONG, unit) - STRONG).max() / size
    evidence.close(at_start, 1.07e-5, rtol=0.01, what="error of standard noise at the start only")
    evidence.close(in_steps, 0.5, rtol=0.01, what="error of standard noise in the steps only")


@proof(
    "G-49-sample",
    of=prior_step,
    oracle="conditioning the joint covariance of all levels, block by block",
    given=(moderate_betas(min_steps=2), generators(), st.integers(1, 3)),
)
def step_of_a_known_sample(
    evidence: Evidence, betas: Array, rng: np.random.Generator, d: int
) -> None:
    """With z_0 known, the step draws from the posterior, of mean and covariance."""
    prior, chain, t = random_prior(rng, d), Chain(betas), betas.size
    paths = block_paths(betas, np.zeros((d, d)), symmetric_root(prior.covariance))
    weights = np.linalg.solve(paths[t] @ paths[t].T, paths[t] @ paths[t - 1].T).T
    rest = paths[t - 1] @ paths[t - 1].T - weights @ paths[t] @ paths[t - 1].T
    zero, z_t = np.zeros((d, d)), rng.normal(size=(d, d))
    mean = prior_step(chain, t - 1, t, z_t, zero, zero, prior)
    evidence.close(mean, z_t @ weights.T, rtol=SOLVED, atol=SOLVED, what="mean")
    factor = prior_step(chain, t - 1, t, z_t, zero, np.eye(d), prior) - mean
    evidence.close(factor.T @ factor, rest, rtol=SOLVED, atol=SOLVED, what="covariance")


@proof(
    "G-50",
    of=mahalanobis_loss,
    oracle="the divergence of two normal laws from scipy's densities",
    given=(st.data(), moderate_betas(min_steps=2), generators(), st.integers(1, 3)),
)
def divergence(
    evidence: Evidence, data: st.DataObject, betas: Array, rng: np.random.Generator, d: int
) -> None:
    """The bound's term is the loss times the plain weight of the noise."""
    s, t = data.draw(level_pairs(betas.size, lowest=1))
    chain, prior = Chain(betas), random_prior(rng, d)
    z_t, eps, output = rng.normal(size=(3, 1, d))
    c, noise = chain.c[t], chain.d[t]
    mean_q, spread = prior_posterior(chain, s, t, (z_t - noise * eps) / c, z_t, prior)
    mean_p, _ = prior_posterior(chain, s, t, (z_t - noise * output) / c, z_t, prior)
    # With one covariance the log ratio is affine, so that its mean is its value at the mean.
    law_q = stats.multivariate_normal(mean_q[0], spread)
    law_p = stats.multivariate_normal(mean_p[0], spread)
    want = law_q.logpdf(mean_q[0]) - law_p.logpdf(mean_q[0])
    got = bound_weight("eps", chain, s, t) * mahalanobis_loss(eps, output, prior)
    evidence.close(got, np.array([want]), rtol=1e-8, atol=1e-10, what="divergence")


@proof(
    "G-50",
    of=(mahalanobis_loss, Prior),
    oracle="the plain loss of noise whitened by a general solver",
    given=(generators(), st.integers(1, 4)),
)
def whitening(evidence: Evidence, rng: np.random.Generator, d: int) -> None:
    """It is the plain squared error in whitened coordinates, and that of DDPM for N(0, I)."""
    prior, plain = random_prior(rng, d), Prior(np.zeros(d), np.eye(d))
    eps, output = rng.normal(size=(2, 5, d))
    whiten = np.linalg.inv(np.linalg.cholesky(prior.covariance))
    evidence.close(prior.whitened(eps), eps @ whiten.T, rtol=SOLVED, atol=SOLVED, what="whitened")
    evidence.close(prior.coloured(eps) @ whiten.T, eps, rtol=SOLVED, atol=SOLVED, what="coloured")
    white = d * simple_loss(eps @ whiten.T, output @ whiten.T)
    evidence.close(mahalanobis_loss(eps, output, prior), white, rtol=SOLVED, what="whitened loss")
    usual = d * simple_loss(eps, output)
    evidence.close(mahalanobis_loss(eps, output, plain), usual, rtol=PROPAGATED, what="plain loss")
