"""Where 1 - alpha_bar is far below the spacing of numbers near 1, samples keep its digits."""

import mpmath as mp
import numpy as np

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.ddim import ddim_path
from ddpm.reference.elbo import bound_terms
from ddpm.reference.hybrid import hybrid_gradient
from ddpm.reference.ilvr import noisy_reference
from ddpm.reference.level_sampling import adjacent_pair
from ddpm.reference.objectives import noise_loss
from ddpm.reference.path_bound import log_marginals
from ddpm.reference.priorgrad import Prior, prior_q_sample
from ddpm.verify.oracles import PRECISION
from ddpm.verify.strategies import Array

BETA = 1e-15
CHAIN = Chain([BETA, BETA])
NOTHING, ONE = np.zeros((1, 1)), np.ones((1, 1))

# Noise alone is left of x_t, so that its relative error is that of sqrt(1 - alpha_bar).
RTOL = 1e-12


def test_pairs_of_levels() -> None:
    before, _ = adjacent_pair(CHAIN, 2, NOTHING, ONE, NOTHING)
    np.testing.assert_allclose(before, np.sqrt(BETA), rtol=RTOL)


def test_samples_of_a_prior() -> None:
    prior = Prior(np.zeros(1), np.eye(1))
    for t in (1, 2):
        drawn = prior_q_sample(CHAIN, t, NOTHING, ONE, prior)
        np.testing.assert_allclose(drawn, np.sqrt(t * BETA), rtol=RTOL)


def test_samples_of_the_bound() -> None:
    seen: dict[int, Array] = {}

    def denoise(x_t: Array, t: int) -> Array:
        seen[t] = x_t
        return x_t

    bound_terms(NOTHING, CHAIN, denoise, np.ones((2, 1, 1)), 0.5, 3)
    for t in (1, 2):
        np.testing.assert_allclose(seen[t], np.sqrt(t * BETA), rtol=RTOL)


def test_samples_of_the_training_loop() -> None:
    def predict(x_t: Array, t: Levels) -> Array:
        return np.asarray(x_t / np.sqrt(t * BETA))

    for t in (1, 2):
        assert noise_loss(predict, NOTHING, CHAIN, t, ONE) < RTOL


def test_samples_of_the_hybrid_loss() -> None:
    # With the true noise and the posterior's variance there is nothing left to improve.
    got = hybrid_gradient(NOTHING, ONE, CHAIN, 2, ONE, NOTHING, rate=1.0)
    np.testing.assert_allclose(got.fraction, 0.0, atol=1e-10)


def test_paths_and_references() -> None:
    np.testing.assert_allclose(ddim_path(CHAIN, NOTHING, ONE)[1], np.sqrt(BETA), rtol=RTOL)
    for t in (1, 2):
        drawn = noisy_reference(CHAIN, t, NOTHING, ONE)
        np.testing.assert_allclose(drawn, np.sqrt(t * BETA), rtol=RTOL)


def test_marginal_densities() -> None:
    path = np.array([0.0, BETA**0.5, (2 * BETA) ** 0.5])[:, None, None]
    want = [-(1 + np.log(2 * np.pi * t * BETA)) / 2 for t in (1, 2)]
    np.testing.assert_allclose(np.ravel(log_marginals(CHAIN, path)), want, rtol=RTOL)


def test_steps_after_a_sum_of_a_million() -> None:
    # The sum is 2**60 times the steps after it, more than a pair of numbers can bridge.
    rng = np.random.default_rng(0)
    large = 1 - 2.0 ** -rng.integers(10, 50, 40_000)
    small = rng.uniform(1e-12, 2e-12, 20)
    chain = Chain(np.concatenate([large, small]))
    for t in (1, 10, 20):
        ratio = chain.log_signal_ratio(len(large) + t - 1, len(large) + t)
        with mp.workprec(PRECISION):
            want = mp.log1p(-mp.mpf(float(small[t - 1])))
            got = mp.mpf(float(ratio.high)) + mp.mpf(float(ratio.low))
            assert abs(got / want - 1) < mp.mpf(2) ** -53
