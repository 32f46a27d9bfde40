import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.untied import (
    PolynomialStep,
    fit_step,
    fit_untied,
    generated_variance,
    generation_gap,
    step_mean,
    untied_sample,
)

LINE = PolynomialStep(np.array([1.0, 2.0]), 0.0)


def test_coefficients_begin_with_the_constant() -> None:
    x = np.array([[0.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(step_mean(LINE, x), 1 + 2 * x)


def test_the_degree_is_one_unless_asked_for() -> None:
    x = np.array([0.0, 1.0, 2.0])
    assert fit_step(x**2, x).coefficients.shape == (2,)
    assert [step.coefficients.size for step in fit_untied([x**2, x, x])] == [2, 2]
    assert [step.coefficients.size for step in fit_untied([x**2, x, x], 2)] == [3, 3]


def test_as_many_values_as_coefficients_are_enough() -> None:
    step = fit_step([1.0, 3.0, 3.0], [0.0, 1.0, 1.0])
    np.testing.assert_allclose(step.coefficients, [1, 2], rtol=1e-14)
    np.testing.assert_allclose(fit_step([1.0, 3.0], [0.0, 0.0], 0).coefficients, [2])


@pytest.mark.parametrize("degree", [-1, 2, 3])
def test_bad_degrees_are_refused(degree: int) -> None:
    with pytest.raises(ValueError, match="below the 2 different values"):
        fit_step([1.0, 3.0, 4.0], [0.0, 1.0, 1.0], degree)


def test_bad_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"noisier must have shape \(N,\)"):
        fit_step(np.zeros((2, 2)), np.eye(2))
    with pytest.raises(ValueError, match="cleaner must have shape"):
        fit_step(np.zeros(3), np.arange(2.0))
    for shape in [(1, 5), (5,), (2, 3, 4)]:
        with pytest.raises(ValueError, match="paths must have shape"):
            fit_untied(np.zeros(shape))


def test_one_row_of_noise_for_each_step() -> None:
    for rows in (1, 3):
        with pytest.raises(ValueError, match="noise must have 2 rows"):
            untied_sample([LINE, LINE], np.zeros(4), np.zeros((rows, 4)))
    with pytest.raises(ValueError, match="noise must have shape"):
        untied_sample([LINE], np.zeros(4), np.zeros((1, 3)))
    assert untied_sample([LINE, LINE], np.zeros(4), np.zeros((2, 4))).shape == (4,)


def test_the_noise_is_exact_unless_asked_for() -> None:
    chain = Chain([0.1, 0.3])
    for function in (generated_variance, generation_gap):
        assert function(chain, 0.5, "beta") == function(chain, 0.5, "beta", 1.0)
        assert function(chain, 0.5, "beta") != function(chain, 0.5, "beta", 1.1)


def test_data_without_variance_have_no_divergence() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        generation_gap(Chain([0.1]), 0.0, "beta")


def test_the_first_row_of_noise_makes_the_clean_samples() -> None:
    spread = PolynomialStep(np.array([1.0]), 4.0)
    made = untied_sample([spread, spread], np.zeros(2), np.array([[1.0, -1.0], [7.0, 7.0]]))
    np.testing.assert_array_equal(made, [3, -1])
