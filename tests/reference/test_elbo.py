import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.decoder import decoder_log_pmf, grey_levels
from ddpm.reference.elbo import BoundTerms, bits_per_dimension, bound_terms
from ddpm.reference.posterior import Variance
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.strategies import Array

BETAS = np.array([0.1, 0.25, 0.45])
CHAIN = Chain(BETAS)
LEVELS = 5
DEVIATION = 0.4
SLOPES = (0.0, 0.8, 0.6, 0.3)
SHIFTS = (0.0, 0.05, -0.1, 0.2)


def denoise(x_t: Array, t: int) -> Array:
    return SLOPES[t] * x_t + SHIFTS[t]


def grid(*nodes: int) -> tuple[Array, Array]:
    """Points, one row for each normal variable, and probabilities of a tensor quadrature."""
    rules = [np.polynomial.hermite_e.hermegauss(n) for n in nodes]
    points = np.stack([axis.ravel() for axis in np.meshgrid(*[x for x, _ in rules])])
    weights = np.prod([w.ravel() for w in np.meshgrid(*[w for _, w in rules])], axis=0)
    return points, weights / weights.sum()


def model_step(x_t: Array, t: int, variance: Variance) -> tuple[Array, float]:
    """Mean and deviation of the model's step t -> t - 1, from the simulated chain."""
    covariance = joint_covariance(BETAS)
    weights, s2 = condition(covariance, t - 1, [0, t])
    spread = s2 if variance == "posterior" else BETAS[t - 1]
    return np.asarray(weights[0] * denoise(x_t, t) + weights[1] * x_t), float(np.sqrt(spread))


def decoder(x0: float, x1: Array) -> Array:
    log_pmf = decoder_log_pmf(denoise(x1, 1), DEVIATION, LEVELS)
    return np.asarray(log_pmf[..., np.argmin(abs(grey_levels(LEVELS) - x0))])


def path_bound(x0: float, variance: Variance) -> float:
    """E log q(x_1, x_2, x_3 | x_0) / p(x_0, .., x_3) over whole paths, nothing rearranged."""
    noise, probability = grid(40, 8, 8)
    path = [np.full(noise.shape[1], x0)]
    log_ratio = np.zeros(noise.shape[1])
    for beta, eps in zip(BETAS, noise, strict=True):
        mean = np.sqrt(1 - beta) * path[-1]
        path.append(mean + np.sqrt(beta) * eps)
        log_ratio += stats.norm.logpdf(path[-1], mean, np.sqrt(beta))
    log_ratio -= stats.norm.logpdf(path[3]) + decoder(x0, path[1])
    for t in (3, 2):
        mean, deviation = model_step(path[t], t, variance)
        log_ratio -= stats.norm.logpdf(path[t - 1], mean, deviation)
    return float(probability @ log_ratio)


def model_log_likelihood(x0: float, variance: Variance) -> float:
    """Log of the model's probability of x0, integrated over the latents from the noise down."""
    noise, probability = grid(40, 40, 40)
    x = noise[0]
    for t, z in ((3, noise[1]), (2, noise[2])):
        mean, deviation = model_step(x, t, variance)
        x = mean + deviation * z
    return float(np.log(probability @ np.exp(decoder(x0, x))))


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("x0", [-1.0, -0.5, 0.0, 1.0])
def test_expected_terms_are_the_path_integral(x0: float, variance: Variance) -> None:
    # A term reads one noise each, so the same nodes serve all three levels.
    points, probability = grid(60)
    batch = np.full((points.shape[1], 1), x0)
    noise = np.broadcast_to(points[0][:, None], (3, *batch.shape))
    terms = bound_terms(batch, CHAIN, denoise, noise, DEVIATION, LEVELS, variance)
    bound = float(probability @ terms.total)
    np.testing.assert_allclose(bound, path_bound(x0, variance), rtol=1e-8)
    assert bound >= -model_log_likelihood(x0, variance)


def test_each_term_has_its_place() -> None:
    rng = np.random.default_rng(0)
    x0 = grey_levels(LEVELS)[rng.integers(0, LEVELS, (4, 2, 3))]
    noise = rng.normal(size=(3, *x0.shape))
    terms = bound_terms(x0, CHAIN, denoise, noise, DEVIATION, LEVELS)
    assert terms.prior.shape == terms.decoder.shape == (4,)
    assert terms.kls.shape == (2, 4)
    for changed in range(3):
        moved = noise.copy()
        moved[changed] += 1
        other = bound_terms(x0, CHAIN, denoise, moved, DEVIATION, LEVELS)
        differs = [np.any(a != b) for a, b in zip(terms.kls, other.kls, strict=True)]
        assert [np.any(terms.decoder != other.decoder), *differs] == [
            level == changed for level in range(3)
        ]
    np.testing.assert_allclose(terms.total, terms.prior + terms.kls.sum(0) + terms.decoder)


def test_one_step_has_no_divergence_in_between() -> None:
    x0 = np.zeros((2, 1))
    terms = bound_terms(x0, Chain([0.3]), denoise, np.zeros((1, 2, 1)), DEVIATION, LEVELS)
    assert terms.kls.shape == (0, 2)
    np.testing.assert_allclose(terms.total, terms.prior + terms.decoder)


def test_refuted_sign_of_the_decoder() -> None:
    # K-63 prints +log p(x_0 | x_1), which would fall below the negative log-likelihood.
    points, probability = grid(60)
    batch = np.zeros((points.shape[1], 1))
    noise = np.broadcast_to(points[0][:, None], (3, *batch.shape))
    terms = bound_terms(batch, CHAIN, denoise, noise, DEVIATION, LEVELS)
    printed = BoundTerms(terms.prior, terms.kls, -terms.decoder)
    truth = -model_log_likelihood(0.0, "posterior")
    assert probability @ terms.total >= truth > probability @ printed.total


@given(st.integers(1, 3072), st.integers(2, 1024))
def test_uniform_grey_costs_the_logarithm_of_the_levels(elements: int, levels: int) -> None:
    nats = np.full(2, elements * np.log(levels))
    np.testing.assert_allclose(bits_per_dimension(nats, elements), np.log2(levels), rtol=1e-13)


def test_refused_arguments() -> None:
    x0 = np.zeros((2, 1))
    with pytest.raises(ValueError, match="noise must have shape"):
        bound_terms(x0, CHAIN, denoise, np.zeros((2, 2, 1)), DEVIATION, LEVELS)
    with pytest.raises(ValueError, match="elements must be at least 1"):
        bits_per_dimension(1.0, 0)
