from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.schedules import (
    cosine_schedule,
    lambda_schedule,
    linear_log_snr_schedule,
    linear_schedule,
    log_snr_schedule,
)
from ddpm.verify.oracles import PRECISION

STEPS = st.integers(1, 300)


@given(STEPS, st.floats(1e-6, 0.4), st.floats(1e-6, 0.9))
def test_linear_ends_and_differences(steps: int, first: float, last: float) -> None:
    betas = linear_schedule(steps, first, last).betas
    assert betas[0] == first
    assert steps == 1 or betas[-1] == last
    np.testing.assert_allclose(np.diff(betas, 2), 0, atol=1e-15)


def test_refuted_increment_named_beta_2() -> None:
    # T-2.6-linear: read as the second beta, the multiplier 1.99199e-5 + 1e-4 ends at 0.1199.
    betas = linear_schedule(1000).betas
    assert np.isclose(betas[1] - betas[0], 1.99199e-5, rtol=1e-5)
    assert betas[-1] == 0.02
    assert np.isclose(1e-4 + 999 * betas[1], 0.1199, rtol=1e-3)
    assert np.isclose(linear_schedule(1000).alpha_bar[-1], 4.03583e-5, rtol=1e-5)


@given(STEPS, st.floats(0, 0.2))
def test_cosine_unclipped_follows_the_squared_cosine(steps: int, offset: float) -> None:
    chain = cosine_schedule(steps, offset, clip=1.0)
    angles = (np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2
    want = np.cos(angles) ** 2 / np.cos(angles[0]) ** 2
    # The cosine of an angle near pi/2 has lost digits; the amplitude has not.
    np.testing.assert_allclose(chain.alpha_bar, want, rtol=1e-9, atol=1e-13)
    assert chain.zero_terminal_snr


@given(STEPS)
def test_cosine_betas_to_the_last_digits(steps: int) -> None:
    betas = cosine_schedule(steps, clip=1.0).betas
    with mp.workprec(PRECISION):
        s = mp.mpf(0.008)
        angles = [(mp.mpf(t) / steps + s) / (1 + s) * mp.pi / 2 for t in range(steps + 1)]
        squares = [mp.cos(angle) ** 2 for angle in angles]
        want = [float(1 - after / before) for before, after in pairwise(squares)]
    np.testing.assert_allclose(betas, want, rtol=1e-14)


@pytest.mark.parametrize("steps", [10, 50, 100, 1000, 4000])
def test_clipped_cosine(steps: int) -> None:
    clipped, plain = cosine_schedule(steps), cosine_schedule(steps, clip=1.0)
    assert np.flatnonzero(clipped.betas != plain.betas).tolist() == [steps - 1]
    assert clipped.betas[-1] == 0.999
    assert np.all(np.diff(clipped.betas) > 0)
    want = np.prod(1 - clipped.betas)
    np.testing.assert_allclose(clipped.alpha_bar[-1], want, rtol=1e-10)


def test_cosine_landmarks() -> None:
    chain = cosine_schedule(1000)
    assert np.isclose(chain.betas[0], 4.128e-5, rtol=1e-3)
    assert np.isclose(chain.alpha_bar[-1], 2.43e-9, rtol=1e-2)
    # G-46: squaring the argument instead of the cosine gives 0.8100 half way.
    assert np.isclose(chain.alpha_bar[500], 0.4938, atol=1e-4)
    assert np.isclose(np.cos(((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2), 0.8100, atol=1e-3)
    assert np.isclose(cosine_schedule(1000, 0.0, 1.0).betas[0], 2.467e-6, rtol=1e-3)


@given(STEPS, st.floats(-2, 8), st.floats(0.01, 10))
def test_linear_log_snr_is_an_arithmetic_progression(steps: int, first: float, span: float) -> None:
    chain = linear_log_snr_schedule(steps, first, first - span)
    want = np.linspace(first - span, first, steps)[::-1]
    # A beta rounds to 1e-16, which is up to e^12 times as much of 1 - beta, 300 times over.
    np.testing.assert_allclose(chain.log_snr[1:], want, rtol=0, atol=4e-9)


@given(st.lists(st.floats(-30, 12), min_size=1, max_size=20, unique=True), st.booleans())
def test_any_decreasing_log_snr(values: list[float], ends_in_noise: bool) -> None:
    values = sorted(values, reverse=True)
    assume(all(high - low > 1e-6 for high, low in pairwise(values)))
    levels = [*values, -np.inf] if ends_in_noise else values
    chain = log_snr_schedule(levels)
    assert chain.zero_terminal_snr == ends_in_noise
    with mp.workprec(PRECISION):
        signal = [mp.mpf(1), *(1 / (1 + mp.exp(-mp.mpf(g))) for g in values)]
        want = [float(1 - after / before) for before, after in pairwise(signal)]
    # A difference of log SNRs rounds to 1e-16 of the larger one.
    np.testing.assert_allclose(chain.betas[: len(values)], want, rtol=1e-8)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_lambdas_are_the_step_amplitudes(lambdas: list[float]) -> None:
    assume(all(0 < 1 - x * x < 1 for x in lambdas))
    chain = lambda_schedule(lambdas)
    # beta rounds to 1e-16, which is much of a small lambda^2.
    amplitudes = [np.sqrt(1 - beta) for beta in chain.betas]
    np.testing.assert_allclose(amplitudes, lambdas, rtol=1e-12, atol=2e-8)
    np.testing.assert_allclose(chain.c[1:], np.cumprod(amplitudes), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(chain.betas, 1 - np.square(lambdas), rtol=1e-12, atol=1e-16)


def test_zero_lambda_ends_the_chain() -> None:
    assert lambda_schedule([0.5, 0.0]).zero_terminal_snr


def test_one_step_of_each_schedule() -> None:
    assert linear_schedule(1).betas.tolist() == [1e-4]
    assert cosine_schedule(1).betas.tolist() == [0.999]
    np.testing.assert_allclose(linear_log_snr_schedule(1).log_snr[1], -10.1, rtol=1e-12)


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule, linear_log_snr_schedule])
def test_no_steps_are_refused(make: type[Chain]) -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        make(0)


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match="offset"):
        cosine_schedule(10, -0.1)
    with pytest.raises(ValueError, match="clip"):
        cosine_schedule(10, clip=0.0)
    with pytest.raises(ValueError, match="betas must lie"):
        linear_schedule(10, 0.1, 2.0)
    with pytest.raises(ValueError, match="first must be greater"):
        linear_log_snr_schedule(10, 0.0, 0.0)
    with pytest.raises(ValueError, match="decrease strictly"):
        log_snr_schedule([1.0, 1.0])
    with pytest.raises(ValueError, match="log_snrs must be numbers"):
        log_snr_schedule([np.nan])
    with pytest.raises(ValueError, match="lambdas must lie"):
        lambda_schedule([1.0])
