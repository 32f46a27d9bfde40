import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.score_matching import (
    bound_score_weight,
    conditional_score,
    continuous_score_loss,
    denoising_loss,
    least_denoising_loss,
    mean_factor,
    noise_loss,
    score_loss,
)
from ddpm.reference.sde import SDE, linear_rate

CHAIN = Chain([0.1, 0.2, 1.0])
X = np.ones((2, 3))


def test_shapes() -> None:
    assert conditional_score(X, X, 0.5, 0.1).shape == (2, 3)
    assert denoising_loss(X, X, X, 0.5, 0.1).shape == (2,)
    assert noise_loss(X, X, 0.1).shape == (2,)
    assert score_loss(CHAIN, np.array([1, 3]), X, X, X).shape == (2,)
    levels = np.array([1, 2])
    assert mean_factor(CHAIN, levels - 1, levels).shape == (2,)
    assert bound_score_weight(CHAIN, levels - 1, levels).shape == (2,)


def test_refused_shapes_and_noises() -> None:
    with pytest.raises(ValueError, match="x0 must have shape"):
        conditional_score(X, X[:1], 0.5, 0.1)
    with pytest.raises(ValueError, match="score must have shape"):
        denoising_loss(X[:1], X, X, 0.5, 0.1)
    with pytest.raises(ValueError, match="score must have shape"):
        noise_loss(X[:1], X, 0.1)
    data = Mixture(np.ones(1), np.zeros(1), np.ones(1))
    for noise in (0.0, -0.5):
        with pytest.raises(ValueError, match=f"noise must be positive, got {noise}"):
            conditional_score(X, X, 0.5, noise)
        with pytest.raises(ValueError, match=f"noise must be positive, got {noise}"):
            noise_loss(X, X, np.array([0.1, noise]))
        with pytest.raises(ValueError, match=f"noise must be positive, got {noise}"):
            least_denoising_loss(data, 0.5, noise)


def test_refused_levels() -> None:
    for function in (mean_factor, bound_score_weight):
        with pytest.raises(ValueError, match="t must be a level with signal, got 3 at zero SNR"):
            function(CHAIN, 1, 3)
        with pytest.raises(ValueError, match="s must be less than t"):
            function(CHAIN, 1, 1)
        assert function(CHAIN, 1, 2) > 0
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.3, got 4"):
        score_loss(CHAIN, 4, X, X, X)
    with pytest.raises(ValueError, match=r"noise must be positive, got 0\.0"):
        score_loss(CHAIN, 0, X, X, X)


def test_refused_times_and_weights() -> None:
    sde = SDE.vp(linear_rate(0.1, 1.0))
    for weight in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"weight must be positive, got {weight}"):
            continuous_score_loss(sde, 0.5, X, X, X, weight)
    with pytest.raises(ValueError, match=r"noise must be positive, got 0\.0"):
        continuous_score_loss(sde, 0.0, X, X, X, 1.0)
