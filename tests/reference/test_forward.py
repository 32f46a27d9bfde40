import numpy as np
import pytest
from hypothesis import given

from ddpm.reference.chain import Chain
from ddpm.reference.forward import (
    forward_jump,
    forward_path,
    forward_step,
    q_mean_variance,
    q_sample,
)
from ddpm.verify.strategies import generators, shapes

CHAIN = Chain([0.1, 0.2, 1.0])


@given(shapes(), generators())
def test_any_shape_of_a_batch(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x0, noise = rng.normal(size=shape), rng.normal(size=shape)
    alpha_bar = rng.uniform(size=shape[0])
    mean, variance = q_mean_variance(x0, alpha_bar)
    got = q_sample(x0, alpha_bar, noise)
    assert mean.shape == got.shape == shape
    assert variance.shape == shape[:1]
    for i in range(shape[0]):
        np.testing.assert_array_equal(got[i], q_sample(x0[i], alpha_bar[i], noise[i]))
    np.testing.assert_array_equal(q_sample(x0, alpha_bar, 0 * noise), mean)


def test_shape_of_a_step_and_of_a_path() -> None:
    x = np.ones((2, 3))
    mean, variance = forward_step(x, [0.1, 1.0])
    assert mean.shape == (2, 3)
    assert variance.tolist() == [0.1, 1.0]
    assert mean[1].tolist() == [0, 0, 0]
    path = forward_path(CHAIN, x, np.zeros((3, 2, 3)))
    assert path.shape == (4, 2, 3)
    np.testing.assert_array_equal(path[0], x)


def test_levels_of_each_sample() -> None:
    mean, variance = forward_jump(CHAIN, np.array([0, 2]), np.array([1, 3]), np.ones((2, 2)))
    np.testing.assert_allclose(mean[:, 0], [np.sqrt(0.9), 0], rtol=1e-15)
    np.testing.assert_allclose(variance, [0.1, 1], rtol=1e-15)


def test_ends_of_the_range_of_signal() -> None:
    for signal, noise in [(0.0, 1.0), (1.0, 0.0)]:
        mean, variance = q_mean_variance([2.0], signal)
        assert mean.tolist() == [2 * signal]
        assert variance == noise


def test_complement_within_a_millionth() -> None:
    assert q_mean_variance([1.0], 0.5, 0.5 + 9e-7)[1] == 0.5 + 9e-7
    for wrong in (0.5 + 1.1e-6, 0.5 - 1.1e-6):
        with pytest.raises(ValueError, match=r"one_minus_alpha_bar must be 1 - 0\.5"):
            q_mean_variance([1.0], 0.5, wrong)


@pytest.mark.parametrize("beta", [0.0, -0.1, 1.1, np.nan])
def test_refused_betas(beta: float) -> None:
    with pytest.raises(ValueError, match=r"beta must lie in \(0, 1\], got"):
        forward_step(np.zeros((2, 3)), beta)


@pytest.mark.parametrize("signal", [-0.1, 1.1])
def test_refused_signal(signal: float) -> None:
    with pytest.raises(ValueError, match=r"alpha_bar must lie in \[0, 1\], got"):
        q_mean_variance(np.zeros(2), signal)


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="x must be finite"):
        forward_step([np.nan], 0.1)
    with pytest.raises(ValueError, match="x0 must be finite"):
        q_mean_variance([np.inf], 0.1)
    with pytest.raises(ValueError, match="alpha_bar must be finite"):
        q_mean_variance(x, np.nan)
    with pytest.raises(ValueError, match="one_minus_alpha_bar must be finite"):
        q_mean_variance(x, 0.5, np.nan)
    with pytest.raises(ValueError, match="noise must have shape"):
        q_sample(x, 0.5, np.zeros(3))
    with pytest.raises(ValueError, match=r"noise must have shape \(3, 2, 3\), got \(2, 2, 3\)"):
        forward_path(CHAIN, x, np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="x0 must be finite"):
        forward_path(CHAIN, [np.nan], np.zeros((3, 1)))
    with pytest.raises(ValueError, match="noise must be finite"):
        forward_path(CHAIN, [0.0], np.full((3, 1), np.nan))
    with pytest.raises(ValueError, match="s must be less than t"):
        forward_jump(CHAIN, 2, 2, x)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.3"):
        forward_jump(CHAIN, 2, 4, x)
