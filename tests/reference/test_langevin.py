import numpy as np
import pytest

from ddpm.reference.arrays import Array
from ddpm.reference.langevin import (
    annealed_langevin,
    langevin,
    langevin_step,
    stationary_variance,
)

X = np.ones((2, 3))


def score(x: Array) -> Array:
    return -x


def noisy_score(x: Array, sigma: float) -> Array:
    return -x / (1 + sigma**2)


def test_shapes() -> None:
    assert langevin_step(score, X, 0.1, X).shape == X.shape
    assert langevin(score, X, 0.1, np.zeros((0, 2, 3))).tolist() == X.tolist()
    assert annealed_langevin(noisy_score, X, [0.5], 0.1, np.zeros((1, 2, 2, 3))).shape == X.shape
    assert stationary_variance(np.ones((2, 3)), 0.1).shape == (2, 3)


def test_refused_steps() -> None:
    for h in (0.0, -0.1):
        with pytest.raises(ValueError, match=f"h must be positive, got {h}"):
            langevin_step(score, X, h, X)
    with pytest.raises(ValueError, match="noise must have shape"):
        langevin(score, X, 0.1, np.zeros((2, 1, 3)))
    with pytest.raises(ValueError, match="x must be finite"):
        langevin(score, X * np.nan, 0.1, np.zeros((0, 2, 3)))


def test_refused_levels() -> None:
    for deviations in ([], [1.0, 1.0], [0.5, 1.0], [1.0, 0.0], [1.0, -0.5]):
        with pytest.raises(ValueError, match="deviations must be positive and strictly decreasing"):
            annealed_langevin(noisy_score, X, deviations, 0.1, np.zeros((2, 1, 2, 3)))
    for levels in (1, 3):
        with pytest.raises(ValueError, match=f"noises must have 2 levels, got {levels}"):
            annealed_langevin(noisy_score, X, [1.0, 0.5], 0.1, np.zeros((levels, 1, 2, 3)))


def test_refused_variances() -> None:
    for h in (0.0, -0.1, 1.0, 1.1):
        with pytest.raises(ValueError, match=r"h must lie in \(0, 2 variance\), got"):
            stationary_variance([0.5, 2.0], h)
