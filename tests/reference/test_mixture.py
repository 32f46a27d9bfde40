import numpy as np
import pytest

from ddpm.reference.mixture import Mixture

TWO = Mixture(np.array([0.25, 0.75]), np.array([-1.0, 1.0]), np.array([0.0, 0.5]))


def test_lists_and_numbers_are_taken() -> None:
    listed = Mixture([0.25, 0.75], [-1, 1], [0, 0.5])  # type: ignore[arg-type]
    assert listed.variance == TWO.variance
    assert listed.score(0.3, 1.0, 0.5) == TWO.score(0.3, 1.0, 0.5)
    assert Mixture(np.ones(1), np.zeros(1), np.zeros(1)).variance == 0


def test_values_have_the_shape_of_the_points() -> None:
    for shape in ((), (3,), (2, 3)):
        x = np.zeros(shape)
        for method in (TWO.log_density, TWO.score, TWO.denoised, TWO.uncertainty):
            assert method(x, 1.0, 0.5).shape == shape


def test_refused_mixtures() -> None:
    one, two = np.ones(1), np.full(2, 0.5)
    for arguments in ((two, one, one), (one, two, one), (one, one, two)):
        with pytest.raises(ValueError, match=r"must have one shape \(K,\) with K >= 1, got"):
            Mixture(*arguments)
    for empty in (np.ones(0), np.array(1.0), np.ones((1, 1))):
        with pytest.raises(ValueError, match=r"must have one shape \(K,\)"):
            Mixture(empty, empty, empty)
    for weights in ([0.0, 1.0], [-0.5, 1.5], [0.5, 0.5 + 1e-11], [0.5, 0.5 - 1e-11]):
        with pytest.raises(ValueError, match="weights must be positive and sum to 1, got"):
            Mixture(np.array(weights), two, two)
    with pytest.raises(ValueError, match=r"variances must be at least 0, got -0\.1"):
        Mixture(two, two, np.array([0.1, -0.1]))
    with pytest.raises(ValueError, match="means must be finite"):
        Mixture(one, np.array([np.nan]), one)


def test_refused_levels() -> None:
    for noise in (0.0, -0.1):
        with pytest.raises(ValueError, match=f"noise must be at least 0, and .* got {noise}"):
            TWO.log_density(0.0, 1.0, noise)
    wide = Mixture(np.ones(1), np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="noise must be at least 0"):
        wide.score(0.0, 1.0, -0.1)
    with pytest.raises(ValueError, match="x must be finite"):
        wide.score(np.inf, 1.0, 0.1)
    assert wide.score(2.0, 1.0, 0.0) == -2
