from collections.abc import Callable

import numpy as np
import pytest

from ddpm.reference.gaussian_algebra import (
    affine_joint,
    affine_marginal,
    cholesky_factor,
    conditional,
    cross_covariance,
    decorrelate,
    expected_quadratic_form,
    frechet_distance,
    independent_sum,
)

ZERO, EYE = np.zeros(2), np.eye(2)
LONG, WIDE = np.zeros(3), np.eye(3)


def test_shapes() -> None:
    matrix = np.ones((3, 2))
    assert cross_covariance(EYE, matrix).shape == (2, 3)
    joint = affine_joint(ZERO, EYE, matrix, LONG, WIDE)
    assert joint.mean.shape == (5,)
    assert joint.covariance.shape == (5, 5)
    law = conditional(LONG, WIDE, [1.0])
    assert law.mean.shape == (2,)
    assert law.covariance.shape == (2, 2)


def test_noise_may_be_missing() -> None:
    law = affine_marginal(ZERO, EYE, [[1.0, 1.0]], [0.5], [[0.0]])
    assert law.mean.tolist() == [0.5]
    assert law.covariance.tolist() == [[2.0]]


def test_blocks_share_nothing_to_the_last_bit() -> None:
    covariance = np.array([[2.0, 0.3, 0.7], [0.3, 1.0, 0.1], [0.7, 0.1, 3.0]])
    _, law = decorrelate(LONG, LONG, covariance, 1)
    assert np.all(law.covariance[:1, 1:] == 0)
    assert np.all(law.covariance[1:, :1] == 0)
    assert law.covariance[0, 0] < 2
    assert law.covariance[1:, 1:].tolist() == covariance[1:, 1:].tolist()


def test_symmetry_is_asked_for_up_to_rounding() -> None:
    for gap, fine in ((1e-11, True), (1e-9, False)):
        matrix = np.array([[2.0, 0.5 + gap], [0.5, 2.0]])
        if fine:
            assert cholesky_factor(matrix, "c")[0, 1] == 0
        else:
            with pytest.raises(ValueError, match="c must be symmetric"):
                cholesky_factor(matrix, "c")


def test_eigenvalues_may_fall_below_zero_by_rounding_only() -> None:
    for lowest, fine in ((-1e-13, True), (-1e-11, False)):
        matrix = np.diag([1.0, lowest])
        if fine:
            assert frechet_distance(ZERO, matrix, ZERO, matrix) < 1e-12
        else:
            with pytest.raises(ValueError, match="covariance_x must be positive semidefinite"):
                frechet_distance(ZERO, matrix, ZERO, EYE)
            with pytest.raises(ValueError, match="covariance_y must be positive semidefinite"):
                frechet_distance(ZERO, EYE, ZERO, matrix)


BAD: dict[str, Callable[[], object]] = {
    r"mean_x must have shape \(2,\)": lambda: independent_sum(LONG, EYE, ZERO, EYE),
    r"mean_y must have shape \(3,\)": lambda: independent_sum(LONG, WIDE, ZERO, EYE),
    r"mean_y must have shape \(2,\)": lambda: independent_sum(ZERO, EYE, LONG, EYE),
    "covariance_y must be symmetric": lambda: independent_sum(ZERO, EYE, ZERO, [[1, 2], [3, 4]]),
    "covariance_x must be a square": lambda: independent_sum(ZERO, [1.0, 2.0], ZERO, EYE),
    r"square matrix, got shape \(2, 1\)": lambda: cholesky_factor(np.ones((2, 1)), "c"),
    r"square matrix, got shape \(0, 0\)": lambda: cholesky_factor(np.ones((0, 0)), "c"),
    "c must be positive definite": lambda: cholesky_factor(np.ones((2, 2)), "c"),
    "c must be finite": lambda: cholesky_factor([[np.nan]], "c"),
    r"matrix must have shape \(e, 2\), got \(1, 3\)": lambda: cross_covariance(EYE, [[1, 2, 3]]),
    r"matrix must have shape \(e, 2\), got \(2,\)": lambda: cross_covariance(EYE, [1, 2]),
    r"mean_y must have shape \(1,\)": lambda: affine_marginal(ZERO, EYE, [[1, 2]], ZERO, EYE),
    r"mean_y must have shape \(2,\), got": lambda: affine_joint(ZERO, EYE, EYE, LONG, EYE),
    r"x must have shape \(2,\)": lambda: decorrelate(LONG, ZERO, EYE, 1),
    r"first must lie in 1\.\.1, got 0": lambda: decorrelate(ZERO, ZERO, EYE, 0),
    r"first must lie in 1\.\.1, got 2": lambda: decorrelate(ZERO, ZERO, EYE, 2),
    "covariance_x must be positive": lambda: decorrelate(ZERO, ZERO, [[1, 2], [2, 1]], 1),
    r"first must lie in 1\.\.1, got 0\Z": lambda: conditional(ZERO, EYE, ZERO),
    "first must lie in 1": lambda: conditional(ZERO, EYE, []),
    r"value must have shape \(k,\), 0 < k < 2": lambda: conditional(ZERO, EYE, LONG),
    r"0 < k < 2, got \(1, 1\)": lambda: conditional(ZERO, EYE, [[1.0]]),
    r"matrix must have shape \(2, 2\)": lambda: expected_quadratic_form(ZERO, EYE, WIDE, ZERO),
    r"centre must have shape \(2,\)": lambda: expected_quadratic_form(ZERO, EYE, EYE, LONG),
    "mean_y must have shape": lambda: frechet_distance(ZERO, EYE, LONG, WIDE),
    "mean_x must have": lambda: frechet_distance(LONG, EYE, ZERO, EYE),
    "mean_y must have": lambda: frechet_distance(ZERO, EYE, LONG, EYE),
    "mean_x must": lambda: expected_quadratic_form(LONG, EYE, EYE, ZERO),
    "mean_x must have s": lambda: affine_marginal(LONG, EYE, EYE, ZERO, EYE),
    "mean_x must have sh": lambda: affine_joint(LONG, EYE, EYE, ZERO, EYE),
    "mean_x must have sha": lambda: decorrelate(ZERO, LONG, EYE, 1),
    "value must be finite": lambda: conditional(ZERO, EYE, [np.nan]),
    "matrix must be finite": lambda: cross_covariance(EYE, [[np.nan, 1.0]]),
    "matrix must be fin": lambda: affine_marginal(ZERO, EYE, [[np.nan, 1.0]], [0.0], [[1.0]]),
    "covariance must be symmetric": lambda: cross_covariance([[1, 2], [3, 4]], EYE),
}


@pytest.mark.parametrize("message", BAD)
def test_refused_arguments(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message]()
