from collections.abc import Callable

import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.likelihood_objective import (
    LikelihoodTerms,
    LinearStep,
    fit_linear_step,
    inner_average,
    likelihood_terms,
    simplified_constant,
    simplified_objective,
    snr_objective,
    tied_objective,
)

CHAIN = Chain([0.1, 0.2, 0.3])
PATHS, MEANS = np.zeros((3, 4, 2)), np.zeros((2, 4, 2))


def test_terms_of_one_step() -> None:
    terms = likelihood_terms(np.zeros((2, 1, 1)), np.zeros((1, 1, 1)), [1.0])
    assert terms.steps.shape == (1,)
    np.testing.assert_allclose(terms.total, -np.log(2 * np.pi), rtol=1e-14)
    assert LikelihoodTerms(1.0, np.array([2.0, 4.0])).total == 7


def test_shapes_broadcast() -> None:
    assert inner_average(np.zeros((3, 2)), np.ones(3), np.zeros(2), 1.0).shape == (3,)
    assert inner_average(np.zeros((3, 1)), 0.0, 0.0, np.ones(3)).shape == (3,)


def test_two_values_are_enough_for_a_line() -> None:
    step = fit_linear_step([1.0, 3.0], [0.0, 1.0])
    assert isinstance(step, LinearStep)
    np.testing.assert_allclose(step, [2.0, 1.0, 0.0], atol=1e-14)


def test_one_level_has_no_ratio_to_drop() -> None:
    assert snr_objective(Chain([0.1]), []) == 0
    assert tied_objective([0.0], [3.0]) == 0


def test_networks_without_error() -> None:
    assert snr_objective(CHAIN, [0.0, 0.0]) == simplified_objective(CHAIN, [0.0, 0.0, 0.0]) == 0


BAD: dict[str, Callable[[], object]] = {
    r"paths must have shape .* got \(1, 4, 2\)": lambda: likelihood_terms(PATHS[:1], MEANS, [1.0]),
    r"paths must have shape .* got \(3, 4\)": lambda: likelihood_terms(PATHS[..., 0], MEANS, [1.0]),
    r"means must have shape \(2, 4, 2\)": lambda: likelihood_terms(PATHS, PATHS, [1.0, 1.0]),
    r"variances must have shape \(2, 4\)": lambda: likelihood_terms(PATHS, MEANS, [1.0] * 3),
    r"variances must have shape": lambda: likelihood_terms(PATHS, MEANS, np.ones((2, 4, 2))),
    "variance must be positive": lambda: likelihood_terms(PATHS, MEANS, [1.0, 0.0]),
    r"cleaner must have shape \(2,\)": lambda: fit_linear_step([1.0], [1.0, 2.0]),
    "noisier must have shape": lambda: fit_linear_step([1.0, 2.0], [0.5, 0.5]),
    r"noisier must have shape \(N,\)": lambda: fit_linear_step(np.eye(2), np.eye(2)),
    "two different values": lambda: fit_linear_step([1.0], [1.0]),
    "variance_q must be at least 0, got -0.5": lambda: inner_average([0.0], [0, -0.5], [0.0], 1.0),
    "variance must be positive, got 0": lambda: inner_average([0.0], 1.0, [0.0], 0.0),
    "weights must be at least 0": lambda: tied_objective([1.0, -1.0], [0.0, 0.0]),
    r"weights .* T >= 1, got \[\]": lambda: tied_objective([], []),
    r"weights must be at least 0, shape": lambda: tied_objective([[1.0]], [[1.0]]),
    r"values must have shape \(1,\)": lambda: tied_objective([1.0], [1.0, 2.0]),
    r"errors must have shape \(3,\), got \(2,\)": lambda: simplified_objective(CHAIN, [0.0, 0.0]),
    r"errors must have shape \(2,\), got \(3,\)": lambda: snr_objective(CHAIN, [0.0] * 3),
    "errors must be at least 0, got -1": lambda: snr_objective(CHAIN, [0.0, -1.0]),
    "errors must be at least 0": lambda: simplified_objective(CHAIN, [0.0, 0.0, -1.0]),
    "paths must be finite": lambda: likelihood_terms(np.nan * PATHS, MEANS, [1.0, 1.0]),
    "variances must be finite": lambda: likelihood_terms(PATHS, MEANS, [1.0, np.nan]),
    "noisier must be finite": lambda: fit_linear_step([1.0, 2.0], [1.0, np.nan]),
    "variance_q must be finite": lambda: inner_average([0.0], np.nan, [0.0], 1.0),
    "weights must be finite": lambda: tied_objective([np.nan], [1.0]),
    "errors must be finite": lambda: snr_objective(CHAIN, [np.nan, 1.0]),
    "betas must stay below 1": lambda: simplified_constant(Chain([0.1, 1.0])),
}


@pytest.mark.parametrize("message", BAD)
def test_refused_arguments(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message]()


def test_the_number_of_elements_is_that_of_both_means() -> None:
    one = inner_average([0.0], 0.5, [1.0], 0.7)
    np.testing.assert_allclose(inner_average([0.0], 0.5, np.ones(4), 0.7), 4 * one, rtol=1e-15)
    np.testing.assert_allclose(inner_average(np.zeros(4), 0.5, [1.0], 0.7), 4 * one, rtol=1e-15)
