import numpy as np
import pytest

from ddpm.reference.transition_matrices import absorbing_matrix, gaussian_matrix, uniform_matrix


def test_rows_lead_from_and_columns_to() -> None:
    matrix = absorbing_matrix(0.25, 3, 1)
    np.testing.assert_array_equal(matrix, [[0.75, 0.25, 0], [0, 1, 0], [0, 0.25, 0.75]])


def test_two_states_are_enough_and_beta_may_be_one() -> None:
    np.testing.assert_array_equal(uniform_matrix(1.0, 2), np.full((2, 2), 0.5))
    np.testing.assert_array_equal(absorbing_matrix(1.0, 2, 0), [[1, 0], [1, 0]])
    assert gaussian_matrix(5.0, 2).shape == (2, 2)


def test_bad_betas_are_refused() -> None:
    for beta in (0.0, -0.1, 1 + 1e-9, np.inf, np.nan):
        with pytest.raises(ValueError, match="beta must"):
            uniform_matrix(beta, 3)
        with pytest.raises(ValueError, match="beta must"):
            absorbing_matrix(beta, 3, 0)
    for beta in (0.0, -0.1, np.inf, np.nan):
        with pytest.raises(ValueError, match="beta must"):
            gaussian_matrix(beta, 3)


def test_a_single_state_is_refused() -> None:
    for make in (uniform_matrix, gaussian_matrix, lambda b, k: absorbing_matrix(b, k, 0)):
        with pytest.raises(ValueError, match="states must be at least 2, got 1"):
            make(0.5, 1)


@pytest.mark.parametrize("mask", [-1, 3])
def test_a_mask_outside_the_categories_is_refused(mask: int) -> None:
    with pytest.raises(ValueError, match=r"mask must lie in 0\.\.2"):
        absorbing_matrix(0.5, 3, mask)
