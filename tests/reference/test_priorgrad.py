from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.priorgrad import (
    Prior,
    mahalanobis_loss,
    prior_posterior,
    prior_q_sample,
    prior_sample,
    prior_step,
    uncentred_step,
)
from ddpm.reference.variances import Variance
from ddpm.verify.strategies import Array

CHAIN = Chain([0.1, 0.2, 0.3])
LEVELS = (3, 2, 1, 0)
PRIOR = Prior(np.array([1.0, -1.0]), np.array([[2.0, 0.6], [0.6, 0.5]]))


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "^covariance must be positive definite"),
        ([[1.0, 0.0], [0.0, 0.0]], "^covariance must be positive definite"),
        ([[1.0, 0.5], [0.2, 1.0]], "^covariance must be symmetric"),
        ([[1.0, 0.5]], "^covariance must be a square matrix"),
        ([[np.inf, 0.0], [0.0, 1.0]], "^covariance must be finite"),
    ],
)
def test_refused_covariances(covariance: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prior(np.zeros(2), np.array(covariance))


@pytest.mark.parametrize("mean", [np.zeros(1), np.zeros(3), np.zeros((2, 1)), np.array(0.0)])
def test_refused_means(mean: Array) -> None:
    with pytest.raises(ValueError, match=r"^mean must have shape \(2,\), got"):
        Prior(mean, np.eye(2))
    with pytest.raises(ValueError, match=r"^mean must be finite"):
        Prior(np.array([0.0, np.nan]), np.eye(2))


def test_refused_levels_and_shapes() -> None:
    x = np.zeros((3, 2))
    for level in (-1, 4):
        with pytest.raises(ValueError, match=r"^t must lie in 0\.\.3"):
            prior_q_sample(CHAIN, level, x, x, PRIOR)
    with pytest.raises(ValueError, match=r"^noise must have shape"):
        prior_q_sample(CHAIN, 1, x, x[:2], PRIOR)
    with pytest.raises(ValueError, match=r"^noise must have shape"):
        prior_step(CHAIN, 1, 2, x, x, x[:2], PRIOR)
    with pytest.raises(ValueError, match=r"^output must have shape"):
        mahalanobis_loss(x, x[:2], PRIOR)
    with pytest.raises(ValueError, match=r"^beta must lie in"):
        uncentred_step(x, 0.0, PRIOR)
    with pytest.raises(ValueError, match=r"^noise must have 4 entries"):
        prior_sample(CHAIN, np.multiply, LEVELS, np.zeros((3, 5, 2)), PRIOR)
    with pytest.raises(ValueError, match=r"^levels must decrease strictly"):
        prior_sample(CHAIN, np.multiply, (0, 1), np.zeros((2, 5, 2)), PRIOR)


def test_refused_numbers() -> None:
    x, wrong = np.zeros((1, 2)), np.array([[np.nan, 0.0]])
    with pytest.raises(ValueError, match=r"^noise must be finite"):
        PRIOR.coloured(wrong)
    with pytest.raises(ValueError, match=r"^z must be finite"):
        PRIOR.whitened(wrong)
    with pytest.raises(ValueError, match=r"^x0 must be finite"):
        prior_q_sample(CHAIN, 1, wrong, x, PRIOR)
    with pytest.raises(ValueError, match=r"^x must be finite"):
        uncentred_step(wrong, 0.1, PRIOR)
    with pytest.raises(ValueError, match=r"^eps must be finite"):
        mahalanobis_loss(wrong, x, PRIOR)
    with pytest.raises(FrozenInstanceError):
        PRIOR.mean = np.zeros(2)  # type: ignore[misc]


def test_last_step_adds_no_noise() -> None:
    z, clean, noise = np.random.default_rng(2).normal(size=(3, 4, 2))
    got = prior_step(CHAIN, 0, 1, z, clean, noise, PRIOR, "beta")
    np.testing.assert_array_equal(got, clean)
    kept = prior_step(CHAIN, 0, 1, z, clean, noise, PRIOR, "beta", True)
    np.testing.assert_allclose(kept, clean + np.sqrt(0.1) * PRIOR.coloured(noise), rtol=1e-13)


def test_one_level_for_each_sample() -> None:
    rng, t = np.random.default_rng(0), np.array([0, 1, 3])
    x0, noise, z0 = rng.normal(size=(3, 3, 2))
    got = prior_q_sample(CHAIN, t, x0, noise, PRIOR)
    mean, covariance = prior_posterior(CHAIN, t[1:] - 1, t[1:], z0[1:], noise[1:], PRIOR)
    after, spread = uncentred_step(x0, np.array([0.1, 0.2, 0.3]), PRIOR)
    assert covariance.shape == (2, 2, 2)
    assert spread.shape == (3, 2, 2)
    for i in range(3):
        one = slice(i, i + 1)
        np.testing.assert_array_equal(
            got[i], prior_q_sample(CHAIN, int(t[i]), x0[one], noise[one], PRIOR)[0]
        )
        alone = uncentred_step(x0[one], 0.1 * (i + 1), PRIOR)
        np.testing.assert_allclose(after[i], alone[0][0], rtol=1e-15)
        np.testing.assert_allclose(spread[i], alone[1], rtol=1e-15)
    lone = prior_posterior(CHAIN, 2, 3, z0[2:], noise[2:], PRIOR)
    np.testing.assert_array_equal(mean[1], lone[0][0])
    np.testing.assert_array_equal(covariance[1], lone[1])


def test_samples_are_made_of_steps() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4, 3, 2))

    def denoise(z: Array, t: int) -> Array:
        return np.tanh(z) / t

    z = PRIOR.coloured(noise[3])
    for t in (3, 2, 1):
        z = prior_step(CHAIN, t - 1, t, z, denoise(z, t), noise[t - 1], PRIOR)
    # The last step of the default keeps the estimate of the clean sample and adds no noise.
    np.testing.assert_array_equal(
        prior_sample(CHAIN, denoise, LEVELS, noise, PRIOR), z + PRIOR.mean
    )
    silenced = noise * np.array([0.0, 1.0, 1.0, 1.0])[:, None, None]
    variances: tuple[Variance, ...] = ("posterior", "beta")
    for variance in variances:
        want = prior_sample(CHAIN, denoise, LEVELS, silenced, PRIOR, variance)
        got = prior_sample(CHAIN, denoise, LEVELS, noise, PRIOR, variance)
        np.testing.assert_array_equal(got, want)


def test_shapes() -> None:
    x = np.ones((5, 2))
    assert PRIOR.factor.shape == (2, 2)
    assert PRIOR.coloured(x).shape == PRIOR.whitened(x).shape == (5, 2)
    assert mahalanobis_loss(x, x, PRIOR).shape == (5,)
    assert np.all(mahalanobis_loss(x, x, PRIOR) == 0)
