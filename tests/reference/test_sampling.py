from functools import partial

import numpy as np
import pytest
from hypothesis import given

from ddpm.reference.chain import Chain
from ddpm.reference.sampling import (
    ancestral_sample,
    ancestral_step,
    descend,
    model_mean_variance,
)
from ddpm.reference.schedules import linear_schedule
from ddpm.verify.strategies import Array, generators, shapes

LINEAR = linear_schedule(1000)
THREE = Chain([0.1, 0.2, 0.3])


def zeros(x: Array, _t: int) -> Array:
    return np.zeros_like(x)


@given(shapes(min_batch=1), generators())
def test_levels_of_a_batch(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x_t, x0_hat, noise = rng.normal(size=(3, *shape))
    t = rng.integers(1, 1001, shape[0])
    s = rng.integers(0, t)
    step = partial(ancestral_step, LINEAR, variance="beta")
    law = partial(model_mean_variance, LINEAR, variance="beta")
    got = step(s=s, t=t, x_t=x_t, x0_hat=x0_hat, noise=noise)
    mean, variance = law(s=s, t=t, x_t=x_t, x0_hat=x0_hat)
    assert mean.shape == shape
    assert variance.shape == shape[:1]
    for i in range(shape[0]):
        one = {"s": int(s[i]), "t": int(t[i]), "x_t": x_t[i], "x0_hat": x0_hat[i]}
        np.testing.assert_array_equal(got[i], step(noise=noise[i], **one))
        np.testing.assert_array_equal(mean[i], law(**one)[0])
        assert variance[i] == law(**one)[1]


def test_zero_terminal_snr() -> None:
    x_t, x0, noise = np.ones(2), np.array([0.5, -0.5]), np.zeros(2)
    got = ancestral_step(Chain([0.1, 1.0]), 1, 2, x_t, x0, noise)
    np.testing.assert_allclose(got, np.sqrt(0.9) * x0, rtol=1e-14)


def test_defaults_are_the_posterior_and_no_noise_at_the_end() -> None:
    x, noise = np.ones(2), np.array([1.0, -2.0])
    default = ancestral_step(THREE, 1, 2, x, x, noise)
    np.testing.assert_array_equal(default, ancestral_step(THREE, 1, 2, x, x, noise, "posterior"))
    assert np.any(default != ancestral_step(THREE, 1, 2, x, x, noise, "beta"))
    assert model_mean_variance(THREE, 1, 2, x, x)[1] == pytest.approx(0.0714286, abs=1e-7)
    assert model_mean_variance(THREE, 0, 1, x, x, "beta")[1] == 0
    assert model_mean_variance(THREE, 0, 1, x, x, "beta", True)[1] == THREE.beta(0, 1)
    np.testing.assert_array_equal(ancestral_step(THREE, 0, 1, x, x, noise, "beta"), x)
    run = partial(ancestral_sample, THREE, zeros, [3, 2, 1, 0], np.ones((4, 2)))
    runs = [run(*options) for options in ((), ("posterior", False), ("beta",), ("beta", True))]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[2], 0)
    np.testing.assert_allclose(runs[3], np.sqrt(0.1), rtol=1e-12)


def test_a_run_visits_its_levels_in_order_and_uses_each_noise_once() -> None:
    noise = np.arange(8.0).reshape(4, 2)
    seen: list[tuple[int, int, list[float], list[float]]] = []

    def step(s: int, t: int, x: Array, x0_hat: Array, z: Array) -> Array:
        np.testing.assert_array_equal(x0_hat, -x * t)
        seen.append((s, t, x.tolist(), z.tolist()))
        return np.asarray(x + 10)

    got = descend(step, lambda x, t: -x * t, (9, 4, 3, 0), noise)
    assert seen == [
        (4, 9, [6, 7], [4, 5]),
        (3, 4, [16, 17], [2, 3]),
        (0, 3, [26, 27], [0, 1]),
    ]
    assert got.tolist() == [36, 37]


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"^noise must have shape"):
        ancestral_step(LINEAR, 1, 2, x, x, x[0])
    with pytest.raises(ValueError, match=r"^x_t must have shape"):
        ancestral_step(LINEAR, 1, 2, x[0], x, x)
    with pytest.raises(ValueError, match=r"^variance must be"):
        ancestral_step(LINEAR, 1, 2, x, x, x, "learned")  # type: ignore[arg-type]
    for s, t in ((2, 2), (3, 2)):
        with pytest.raises(ValueError, match=r"^s must be less than t"):
            ancestral_step(LINEAR, s, t, x, x, x)
        with pytest.raises(ValueError, match=r"^s must be less than t"):
            model_mean_variance(LINEAR, s, t, x, x)


@pytest.mark.parametrize("levels", [[], [0], [3], [3, 1], [1, 3, 0], [3, 3, 0], [0, 0]])
def test_levels_that_do_not_decrease_to_zero(levels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^levels must decrease strictly and end at 0"):
        ancestral_sample(THREE, zeros, levels, np.zeros((len(levels), 2)))


@pytest.mark.parametrize("shape", [(), (2,), (4,), (2, 3), (4, 3)])
def test_noise_of_another_length(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^noise must have 3 entries"):
        ancestral_sample(THREE, zeros, [2, 1, 0], np.zeros(shape))


def test_noise_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match=r"^noise must be finite"):
        ancestral_sample(THREE, zeros, [2, 1, 0], np.full((3, 2), np.nan))
