from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.ddim import (
    ddim_coefficients,
    ddim_inversion_step,
    ddim_kl_weight,
    ddim_mean,
    ddim_path,
    ddim_sample,
    ddim_step,
    ddim_variance,
    largest_eta,
)
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.schedules import linear_schedule
from ddpm.verify.strategies import Array, betas, generators, level_pairs, shapes

LINEAR = linear_schedule(1000)
THREE = Chain([0.1, 0.2, 0.3])
NO_SIGNAL = Chain([0.1, 1.0])


@given(shapes(min_batch=1), generators(), st.sampled_from([0.0, 0.5, 1.0]))
def test_levels_of_a_batch(shape: tuple[int, ...], rng: np.random.Generator, eta: float) -> None:
    x_t, x0_hat, noise = rng.normal(size=(3, *shape))
    t = rng.integers(2, 1001, shape[0])
    s = rng.integers(1, t)
    sigma2 = rng.uniform(0, 1, shape[0]) * LINEAR.one_minus_alpha_bar[s]
    step, mean = partial(ddim_step, LINEAR, eta=eta), partial(ddim_mean, LINEAR)
    inverse = partial(ddim_inversion_step, LINEAR)
    steps, means = step(s, t, x_t, x0_hat, noise), mean(s, t, x_t, noise, sigma2)
    inverted = inverse(s, t, x_t, x0_hat)
    for i in range(shape[0]):
        levels = (int(s[i]), int(t[i]), x_t[i])
        np.testing.assert_array_equal(steps[i], step(*levels, x0_hat[i], noise[i]))
        np.testing.assert_array_equal(means[i], mean(*levels, noise[i], sigma2[i]))
        np.testing.assert_array_equal(inverted[i], inverse(*levels, x0_hat[i]))


def test_coefficients_of_many_levels() -> None:
    s, t = np.array([0, 1, 2]), np.array([1, 2, 3])
    got = ddim_coefficients(THREE, s, t, 0.0)
    assert [value.shape for value in got] == [(3,)] * 3
    a, b, s2 = ddim_coefficients(THREE, 1, np.array([2, 3]), np.array([0.05, 0.1]))
    assert s2.tolist() == [0.05, 0.1]
    assert a[1] == pytest.approx(np.sqrt(0.9), rel=1e-14)
    assert b[1] == pytest.approx(0, abs=1e-8)
    assert ddim_coefficients(THREE, 1, np.array([2, 3]), 0.05).s2.tolist() == [0.05, 0.05]
    assert ddim_kl_weight(THREE, 1, t[1:], 0.05).shape == (2,)


@given(st.data(), betas())
def test_the_largest_eta_leaves_a_root_whatever_the_rounding(
    data: st.DataObject, values: Array
) -> None:
    s, t = data.draw(level_pairs(values.size))
    chain, one = Chain(values), np.ones(1)
    eta = min(float(largest_eta(chain, s, t)), 1e6)
    assert eta >= 1
    variance = ddim_variance(chain, s, t, eta)
    assert variance == pytest.approx(chain.one_minus_alpha_bar[s], rel=1e-14)
    moved = ddim_step(chain, s, t, one, 0 * one, 0 * one, eta)
    assert abs(moved[0]) <= 1e-15 * chain.d[s] / chain.d[t] * 1e8
    room = chain.one_minus_alpha_bar[s]
    assert ddim_coefficients(chain, s, t, room).b <= 1e-7 * chain.d[s] / chain.d[t]


def test_any_eta_leads_to_level_0() -> None:
    x = np.ones(2)
    assert largest_eta(THREE, 0, 3) == np.inf
    assert ddim_variance(THREE, 0, 3, 50.0) == 0
    np.testing.assert_array_equal(ddim_step(THREE, 0, 3, x, 2 * x, x, 50.0), 2 * x)
    assert largest_eta(THREE, np.array([0, 1]), np.array([1, 2])).shape == (2,)


def test_zero_terminal_snr() -> None:
    x_t, x0, noise = np.ones(2), np.array([0.5, -0.5]), np.ones(2)
    got = ddim_step(NO_SIGNAL, 1, 2, x_t, x0, noise)
    np.testing.assert_allclose(got, np.sqrt(0.9) * x0 + np.sqrt(0.1), rtol=1e-14)
    got = ddim_step(NO_SIGNAL, 1, 2, 5 * x_t, x0, noise, 1.0)
    np.testing.assert_allclose(got, np.sqrt(0.9) * x0 + np.sqrt(0.1), rtol=1e-14)
    assert largest_eta(NO_SIGNAL, 1, 2) == 1
    path = ddim_path(NO_SIGNAL, x0, noise)
    np.testing.assert_allclose(path[2], noise, rtol=1e-14)


@given(st.data(), betas())
def test_eta_one_is_the_posterior(data: st.DataObject, values: Array) -> None:
    s, t = data.draw(level_pairs(values.size))
    chain, unit = Chain(values), np.eye(3)
    a, b, s2 = posterior_coefficients(chain, s, t)
    got = ddim_step(chain, s, t, unit[1], unit[0], unit[2], 1.0)
    np.testing.assert_allclose(got, [a, b, np.sqrt(s2)], rtol=1e-15)


def test_default_is_deterministic() -> None:
    x, noise = np.ones(2), np.array([3.0, -3.0])
    np.testing.assert_array_equal(
        ddim_step(THREE, 1, 2, x, x, noise), ddim_step(THREE, 1, 2, x, x, 0 * noise, 0.0)
    )
    draws = np.stack([noise, noise, x])
    got = ddim_sample(THREE, lambda x, _: x / 2, [3, 1, 0], draws)
    want = ddim_sample(THREE, lambda x, _: x / 2, [3, 1, 0], draws * [[0], [0], [1]], 0.0)
    np.testing.assert_array_equal(got, want)


def test_path_starts_with_the_data() -> None:
    x0, noise = np.array([[0.5, 1.0]]), np.array([[2.0, -1.0]])
    path = ddim_path(THREE, x0, noise)
    assert path.shape == (4, 1, 2)
    np.testing.assert_array_equal(path[0], x0)
    assert ddim_path(Chain([0.1]), x0, noise).shape == (2, 1, 2)


@pytest.mark.parametrize("eta", [-0.1, -1e-300, np.nan, np.inf])
@pytest.mark.parametrize("s", [0, 1])
def test_eta_out_of_range(eta: float, s: int) -> None:
    with pytest.raises(ValueError, match=r"^eta must be finite and at least 0"):
        ddim_variance(LINEAR, s, 2, eta)
    with pytest.raises(ValueError, match=r"^eta must be finite and at least 0"):
        ddim_step(LINEAR, s, 2, np.zeros(1), np.zeros(1), np.zeros(1), eta)


def test_eta_too_large_for_the_radicand() -> None:
    bound = float(largest_eta(THREE, 1, 2))
    with pytest.raises(ValueError, match=r"^eta = .* asks for more noise than level s = 1 holds"):
        ddim_variance(THREE, 1, 2, np.nextafter(bound, 2))
    with pytest.raises(ValueError, match="asks for more noise"):
        ddim_variance(THREE, np.array([0, 1]), np.array([1, 2]), 1.2)
    with pytest.raises(ValueError, match="asks for more noise"):
        ddim_step(THREE, 1, 2, np.zeros(1), np.zeros(1), np.zeros(1), 1.2)


LEVELS: list[Callable[[int, int], object]] = [
    lambda s, t: ddim_coefficients(THREE, s, t, 0.0),
    lambda s, t: largest_eta(THREE, s, t),
    lambda s, t: ddim_variance(THREE, s, t, 0.0),
    lambda s, t: ddim_mean(THREE, s, t, np.zeros(1), np.zeros(1), 0.0),
    lambda s, t: ddim_kl_weight(THREE, s, t, 0.01),
    lambda s, t: ddim_step(THREE, s, t, np.zeros(1), np.zeros(1), np.zeros(1)),
    lambda s, t: ddim_inversion_step(THREE, s, t, np.zeros(1), np.zeros(1)),
]


@pytest.mark.parametrize("function", LEVELS)
def test_levels_out_of_order_or_range(function: Callable[[int, int], object]) -> None:
    for s, t in ((2, 2), (3, 2)):
        with pytest.raises(ValueError, match=r"^s must be less than t"):
            function(s, t)
    for s, t in ((-1, 2), (1, 4)):
        with pytest.raises(ValueError, match=r"^[st] must lie in"):
            function(s, t)


@pytest.mark.parametrize("sigma2", [-1e-300, 0.2, np.array([0.05, 0.11])])
def test_variance_out_of_range(sigma2: float | Array) -> None:
    x, t = np.zeros((2, 1)), np.array([2, 3])
    refusal = r"^sigma2 must lie in \[0, 1 - alpha_bar_s\]"
    with pytest.raises(ValueError, match=refusal):
        ddim_coefficients(THREE, 1, t, sigma2)
    with pytest.raises(ValueError, match=refusal):
        ddim_mean(THREE, 1, t, x, x, sigma2)
    with pytest.raises(ValueError, match=refusal):
        ddim_kl_weight(THREE, 1, t, sigma2)


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"^sigma2 must be finite"):
        ddim_coefficients(THREE, 1, 2, np.nan)
    with pytest.raises(ValueError, match=r"^sigma2 must be positive"):
        ddim_kl_weight(THREE, 1, np.array([2, 3]), np.array([0.01, 0.0]))
    with pytest.raises(ValueError, match=r"^sigma2 must be positive"):
        ddim_kl_weight(THREE, 0, 1, 0.0)
    with pytest.raises(ValueError, match=r"^t must be a level with signal"):
        ddim_kl_weight(NO_SIGNAL, 1, 2, 0.01)
    with pytest.raises(ValueError, match=r"^t must be a level with signal"):
        ddim_mean(NO_SIGNAL, 0, np.array([1, 2]), x, x, 0.0)
    with pytest.raises(ValueError, match=r"^s must be at least 1"):
        ddim_inversion_step(THREE, np.array([0, 1]), 2, x, x)
    with pytest.raises(ValueError, match=r"^x0_hat must have shape"):
        ddim_inversion_step(THREE, 1, 2, x, x[0])
    with pytest.raises(ValueError, match=r"^eps must have shape"):
        ddim_mean(THREE, 1, 2, x, x[0], 0.0)
    with pytest.raises(ValueError, match=r"^x_t must have shape"):
        ddim_step(THREE, 1, 2, x[0], x, x)
    with pytest.raises(ValueError, match=r"^noise must have shape"):
        ddim_step(THREE, 1, 2, x, x, x[0])
    with pytest.raises(ValueError, match=r"^noise must have shape"):
        ddim_path(THREE, x, x[0])
    with pytest.raises(ValueError, match=r"^levels must decrease"):
        ddim_sample(THREE, lambda x, _: x, [1, 2, 0], x)


def test_samples_that_are_not_finite() -> None:
    x, wrong = np.zeros(2), np.array([0.0, np.nan])
    with pytest.raises(ValueError, match=r"^x_t must be finite"):
        ddim_mean(THREE, 1, 2, wrong, x, 0.0)
    with pytest.raises(ValueError, match=r"^x0_hat must be finite"):
        ddim_step(THREE, 1, 2, x, wrong, x)
    with pytest.raises(ValueError, match=r"^x_s must be finite"):
        ddim_inversion_step(THREE, 1, 2, wrong, x)
    with pytest.raises(ValueError, match=r"^x0 must be finite"):
        ddim_path(THREE, wrong, x)
