import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.decoder import grey_levels
from ddpm.reference.elbo import (
    bits_per_dimension,
    bound_terms,
    expected_divergence,
    expected_terms,
    step_divergence,
)
from ddpm.reference.linear_reverse import LinearReverse
from ddpm.verify.strategies import Array

CHAIN = Chain([0.1, 0.25, 0.45])
LEVELS, DEVIATION = 5, 0.4
SLOPES, SHIFTS = (0.0, 0.8, 0.6, 0.3), (0.0, 0.05, -0.1, 0.2)
MODEL = LinearReverse(np.array([1.0, 0.9, 0.8]), np.zeros(3), np.ones(3))


def denoise(x_t: Array, t: int) -> Array:
    return SLOPES[t] * x_t + SHIFTS[t]


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
    model = LinearReverse(np.ones(1), np.zeros(1), np.ones(1))
    assert expected_terms(Chain([0.3]), model, x0).kls.shape == (0, 2)


def test_images_have_256_levels_and_the_posterior_variance_unless_said_otherwise() -> None:
    x0 = np.array([[1.0, -1.0]])
    noise = np.ones((3, 1, 2))
    got = bound_terms(x0, CHAIN, denoise, noise, DEVIATION)
    want = bound_terms(x0, CHAIN, denoise, noise, DEVIATION, 256, "posterior")
    np.testing.assert_array_equal(got.total, want.total)


def test_expected_terms_sum_over_a_sample() -> None:
    x0 = np.random.default_rng(0).normal(size=(4, 2, 3))
    got, flat = expected_terms(CHAIN, MODEL, x0), expected_terms(CHAIN, MODEL, x0.reshape(4, 6))
    assert got.prior.shape == got.decoder.shape == (4,)
    assert got.kls.shape == (2, 4)
    np.testing.assert_array_equal(got.total, flat.total)
    assert step_divergence(CHAIN, MODEL, 2, x0, x0).shape == (4,)
    assert expected_divergence(CHAIN, MODEL, 3, x0).shape == (4,)


@pytest.mark.parametrize("t", [-1, 0, 1, 4])
def test_refused_levels(t: int) -> None:
    x0 = np.zeros((1, 1))
    with pytest.raises(ValueError, match="t must"):
        step_divergence(CHAIN, MODEL, t, x0, x0)
    with pytest.raises(ValueError, match="t must"):
        expected_divergence(CHAIN, MODEL, t, x0)


def test_refused_arguments() -> None:
    x0 = np.zeros((2, 1))
    with pytest.raises(ValueError, match="noise must have shape"):
        bound_terms(x0, CHAIN, denoise, np.zeros((2, 2, 1)), DEVIATION, LEVELS)
    with pytest.raises(ValueError, match="elements must be at least 1"):
        bits_per_dimension(1.0, 0)
    with pytest.raises(ValueError, match="model must have 1 steps"):
        expected_terms(Chain([0.3]), MODEL, x0)
    with pytest.raises(ValueError, match="x_t must have shape"):
        step_divergence(CHAIN, MODEL, 2, x0, np.zeros((1, 1)))


def test_one_element_is_enough() -> None:
    assert bits_per_dimension(np.log(2.0), 1) == 1.0
