from functools import partial

import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.ilvr import ilvr_sample, ilvr_step, low_pass, noisy_reference
from ddpm.verify.strategies import Array

CHAIN = Chain([0.1, 0.2, 0.3])
HALF = partial(low_pass, factor=2)


@pytest.mark.parametrize("factor", [0, -2, 3, 5, 8])
def test_refused_factors(factor: int) -> None:
    with pytest.raises(ValueError, match=r"^factor must divide the lengths \(4,\), got"):
        low_pass(np.zeros((2, 4)), factor)


def test_every_filtered_axis_is_divided() -> None:
    image = np.zeros((2, 3, 4))
    assert low_pass(image, 4).shape == image.shape
    with pytest.raises(ValueError, match=r"^factor must divide the lengths \(3, 4\), got 2"):
        low_pass(image, 2, axes=2)
    with pytest.raises(ValueError, match=r"^x must be finite"):
        low_pass(np.array([[np.nan, 0.0]]), 2)


@pytest.mark.parametrize("axes", [0, -1, 3])
def test_refused_axes(axes: int) -> None:
    with pytest.raises(ValueError, match=r"^axes must lie in 1\.\.2, got"):
        low_pass(np.zeros((2, 4, 4)), 2, axes)


def test_blocks() -> None:
    signal = np.array([[1.0, 3.0, 5.0, 9.0]])
    np.testing.assert_array_equal(low_pass(signal, 2), [[2.0, 2.0, 7.0, 7.0]])
    image = np.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(low_pass(image, 4, axes=2), np.full((1, 4, 4), 7.5))


def test_refused_levels_and_shapes() -> None:
    x = np.zeros((3, 4))
    for level in (-1, 4):
        with pytest.raises(ValueError, match=r"^t must lie in 0\.\.3"):
            noisy_reference(CHAIN, level, x, x)
    for level in (0, 4):
        with pytest.raises(ValueError, match=r"^t must"):
            ilvr_step(CHAIN, level, x, x, x, x, x, HALF)
    with pytest.raises(ValueError, match=r"^reference must have shape"):
        ilvr_step(CHAIN, 1, x, x, x[:1], x, x, HALF)
    with pytest.raises(ValueError, match="zero SNR"):
        ilvr_step(Chain([0.1, 1.0]), 2, x, x, x, x, x, HALF)
    with pytest.raises(ValueError, match=r"^noise must have 4 entries"):
        ilvr_sample(CHAIN, np.multiply, x, np.zeros((3, 3, 4)), np.zeros((3, 3, 4)), HALF)
    with pytest.raises(ValueError, match=r"^reference_noise must have shape \(3, 3, 4\)"):
        ilvr_sample(CHAIN, np.multiply, x, np.zeros((4, 3, 4)), np.zeros((4, 3, 4)), HALF)


def test_refused_numbers() -> None:
    x, wrong = np.zeros((1, 4)), np.full((1, 4), np.nan)
    with pytest.raises(ValueError, match=r"^x_t must be finite"):
        ilvr_step(CHAIN, 1, wrong, x, x, x, x, HALF)
    with pytest.raises(ValueError, match=r"^reference must be finite"):
        ilvr_step(CHAIN, 1, x, x, wrong, x, x, HALF)
    noise, other = np.zeros((4, 1, 4)), np.zeros((3, 1, 4))
    with pytest.raises(ValueError, match=r"^reference must be finite"):
        ilvr_sample(CHAIN, np.multiply, wrong, noise, other, HALF)
    with pytest.raises(ValueError, match=r"^reference_noise must be finite"):
        ilvr_sample(CHAIN, np.multiply, x, noise, other + np.nan, HALF)


def test_samples_are_made_of_steps() -> None:
    rng = np.random.default_rng(0)
    y, noise, other = (
        rng.normal(size=(2, 4)),
        rng.normal(size=(4, 2, 4)),
        rng.normal(size=(3, 2, 4)),
    )

    def model(x: Array, t: int) -> Array:
        return np.tanh(x) / t

    x = noise[3]
    for t in (3, 2, 1):
        x = ilvr_step(CHAIN, t, x, model(x, t), y, noise[t - 1], other[t - 1], HALF)
    np.testing.assert_array_equal(ilvr_sample(CHAIN, model, y, noise, other, HALF), x)
    beta = ilvr_sample(CHAIN, model, y, noise, other, HALF, "beta")
    assert not np.allclose(beta, x)


def test_one_level_for_each_reference() -> None:
    rng, t = np.random.default_rng(1), np.array([0, 2, 3])
    y, noise = rng.normal(size=(2, 3, 4))
    got = noisy_reference(CHAIN, t, y, noise)
    for i in range(3):
        want = noisy_reference(CHAIN, int(t[i]), y[i : i + 1], noise[i : i + 1])
        np.testing.assert_array_equal(got[i], want[0])
