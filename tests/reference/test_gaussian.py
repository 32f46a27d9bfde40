from collections.abc import Callable

import numpy as np
import pytest

from ddpm.reference.gaussian import (
    entropy,
    kl_diagonal,
    kl_equal_variance,
    kl_full,
    kl_isotropic,
    log_density,
    spread_divergence,
)


def test_shapes_broadcast() -> None:
    x, mean = np.zeros((4, 3, 2)), np.ones((3, 2))
    assert log_density(x, mean, 2.0).shape == (4, 3)
    assert log_density(x, 0.0, np.ones(3)).shape == (4, 3)
    assert kl_equal_variance(x, mean, 0.5).shape == (4, 3)
    assert kl_isotropic(x, 1.0, mean, np.full((4, 3), 0.5)).shape == (4, 3)
    assert kl_diagonal(x, np.ones(2), mean, np.ones((3, 2))).shape == (4, 3)
    assert spread_divergence(np.ones((2, 5))).shape == (2, 5)
    assert entropy(np.ones((2, 5)), 3).shape == (2, 5)
    assert entropy(1.0, 0) == 0


def test_equal_laws_have_no_divergence() -> None:
    m, v = np.array([0.3, -2.0]), np.array([0.1, 7.0])
    assert kl_equal_variance(m, m, 0.3) == 0
    assert kl_isotropic(m, 0.3, m, 0.3) == 0
    assert kl_diagonal(m, v, m, v) == 0
    assert spread_divergence(1.0) == 0


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_refused_variances(bad: float) -> None:
    calls: dict[str, Callable[[], object]] = {
        "variance must be positive": lambda: kl_equal_variance([0.0], [0.0], bad),
        "variance_q must be positive": lambda: kl_isotropic([0.0], bad, [0.0], 1.0),
        "variance_p must be positive": lambda: kl_diagonal([0.0], [1.0], [0.0], [bad]),
        "ratio must be positive": lambda: spread_divergence([1.0, bad]),
        "variance must be positive, got": lambda: log_density([0.0], [0.0], bad),
        f"variance must be positive, got {bad}": lambda: entropy([1.0, bad], 1),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_refused_variances_of_both_laws() -> None:
    with pytest.raises(ValueError, match="variance_p must be positive"):
        kl_isotropic([0.0], 1.0, [0.0], 0.0)
    with pytest.raises(ValueError, match="variance_q must be positive"):
        kl_diagonal([0.0], [0.0], [0.0], [1.0])


def test_refused_numbers_and_infinities() -> None:
    with pytest.raises(ValueError, match="x must have shape"):
        log_density(0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"mean_q .* \(\.\.\., d\), got the number 0.5"):
        kl_equal_variance(0.5, 1.0, 1.0)
    with pytest.raises(ValueError, match="mean must be finite"):
        log_density([0.0], [np.nan], 1.0)
    with pytest.raises(ValueError, match="mean_p must be finite"):
        kl_isotropic([0.0], 1.0, [np.inf], 1.0)
    with pytest.raises(ValueError, match="mean_q must be finite"):
        kl_isotropic([np.nan], 1.0, [0.0], 1.0)
    with pytest.raises(ValueError, match="mean_q must be finite"):
        kl_diagonal([np.inf], [1.0], [0.0], [1.0])
    with pytest.raises(ValueError, match="mean_p must be finite"):
        kl_diagonal([0.0], [1.0], [np.inf], [1.0])
    with pytest.raises(ValueError, match="mean_p must be finite"):
        kl_equal_variance([0.0], [np.inf], 1.0)


@pytest.mark.parametrize(
    "bad",
    [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.4, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]],
)
def test_refused_covariances(bad: list[list[float]]) -> None:
    m, eye, matrix = np.zeros(2), np.eye(2), np.array(bad)
    with pytest.raises(ValueError, match="covariance_q must be"):
        kl_full(m, matrix, m, eye)
    with pytest.raises(ValueError, match="covariance_p must be"):
        kl_full(m, eye, m, matrix)


def test_refused_means_of_full_covariances() -> None:
    with pytest.raises(ValueError, match="centre must have shape"):
        kl_full(np.zeros(2), np.eye(2), np.zeros(3), np.eye(2))
    with pytest.raises(ValueError, match="mean_x must have shape"):
        kl_full(np.zeros(3), np.eye(2), np.zeros(2), np.eye(2))
