import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.reference.chain import Chain
from ddpm.reference.posterior import posterior_coefficients
from ddpm.schedule import Schedule
from ddpm.verify.oracles import PRECISION, condition, joint_covariance, signal_products
from ddpm.verify.strategies import Array, betas, level_pairs, moderate_betas

EPS = 2.0**-52
LENGTHS = (1, 2, 10, 1000)
KINDS: dict[str, Callable[[int], Schedule]] = {
    "log_snr_linear": Schedule.log_snr_linear,
    "linear": Schedule.linear,
    "cosine": Schedule.cosine,
}


def exact_log_snr_linear(steps: int) -> list[mp.mpf]:
    rise = [mp.mpf(i) / max(1, steps - 1) for i in range(steps)]
    top = mp.mpf(9.2)
    return [mp.mpf(1), *(1 / (1 + mp.exp(2 * top * r - top)) for r in rise)]


def exact_linear(steps: int) -> list[mp.mpf]:
    first, last = mp.mpf(1e-4), mp.mpf(0.02)
    curve = [mp.mpf(0)]
    for i in range(1000):
        curve.append(curve[-1] + mp.log1p(-(first + (last - first) * i / 999)))
    curve.append(curve[-1])
    levels = []
    for t in range(steps + 1):
        position = Fraction(1000 * t, steps)
        left = math.floor(position)
        rest = mp.mpf((position - left).numerator) / (position - left).denominator
        levels.append(mp.exp(curve[left] + (curve[left + 1] - curve[left]) * rest))
    return levels


def exact_cosine(steps: int) -> list[mp.mpf]:
    offset, limit = mp.mpf(0.008), mp.mpf(0.999)
    curve = [
        mp.cos((mp.mpf(t) / steps + offset) / (1 + offset) * mp.pi / 2) ** 2
        for t in range(steps + 1)
    ]
    levels = [mp.mpf(1)]
    for t in range(steps):
        levels.append(levels[-1] * (1 - min(1 - curve[t + 1] / curve[t], limit)))
    return levels


EXACT = {
    "log_snr_linear": exact_log_snr_linear,
    "linear": exact_linear,
    "cosine": exact_cosine,
}


def worst_float32_ulp(schedule: Schedule, alpha_bar: Sequence[mp.mpf]) -> float:
    """Largest error of the two tables, in float32 units of the last place of the truth."""
    worst = 0.0
    for table, power in (
        (schedule.signal, alpha_bar),
        (schedule.sigma, [1 - value for value in alpha_bar]),
    ):
        assert table.dtype == torch.float32
        for got, want in zip(table.tolist(), map(mp.sqrt, power), strict=True):
            unit = mp.mpf(float(np.spacing(np.float32(float(want)))))
            worst = max(worst, float(abs(mp.mpf(got) - want) / unit))
    return worst


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_float32_tables_against_fifty_digits(kind: str, steps: int) -> None:
    with mp.workdps(50):
        assert worst_float32_ulp(KINDS[kind](steps), EXACT[kind](steps)) <= 1.0


@given(betas(max_steps=10))
@example(np.array([1e-12]))
@example(np.array([1e-12, 1 - 2.0**-53, 1e-12]))
@example(np.array([1.0]))
def test_float32_tables_of_custom_betas(values: Array) -> None:
    schedule = Schedule.from_betas(torch.tensor(values))
    with mp.workprec(PRECISION):
        assert worst_float32_ulp(schedule, signal_products(values)) <= 1.0


def conditioning(schedule: Schedule, s: Tensor, t: Tensor) -> Array:
    """Relative error of the exponentials of two log-SNRs that hold a few roundings each.

    That of their difference does not grow where the difference is small.
    """
    g = schedule.log_snr
    size = torch.where(s > 0, g[s].abs(), 0.0) + torch.where(g[t].isfinite(), g[t].abs(), 0.0)
    return (16 * EPS * (1 + size)).numpy()


@settings(max_examples=60)
@given(st.data(), betas())
def test_coefficients_against_the_reference(data: st.DataObject, values: Array) -> None:
    low, high = data.draw(level_pairs(len(values)))
    chain, schedule = Chain(values), Schedule.from_betas(values.tolist())
    s, t = torch.tensor([low]), torch.tensor([high])
    allowed = conditioning(schedule, s, t)
    pairs = [
        (schedule.step_beta(s, t), chain.beta(low, high)),
        *zip(schedule.posterior(s, t), posterior_coefficients(chain, low, high), strict=True),
        (schedule.alpha_bar[t], chain.alpha_bar[high]),
        (schedule.one_minus_alpha_bar[t], chain.one_minus_alpha_bar[high]),
        (schedule.snr[t], chain.snr[high]),
    ]
    for got, want in pairs:
        assert got.dtype == torch.float64
        np.testing.assert_array_less(np.abs(got.numpy() - want), allowed * np.abs(want) + 1e-300)


@settings(max_examples=60)
@given(betas())
def test_tables_of_single_steps_against_the_reference(values: Array) -> None:
    chain, schedule = Chain(values), Schedule.from_betas(values.tolist())
    t = np.arange(1, schedule.steps + 1)
    allowed = conditioning(schedule, torch.tensor(t - 1), torch.tensor(t))
    error = np.abs(schedule.beta[1:].numpy() / values - 1)
    np.testing.assert_array_less(error, allowed)
    drop = chain.snr_drop(t[1:] - 1, t[1:])
    error = np.abs(schedule.snr_drop[2:].numpy() / drop - 1)
    np.testing.assert_array_less(error, allowed[1:])
    assert schedule.snr_drop[1] == math.inf
    assert schedule.snr_drop[0].isnan()
    assert schedule.beta[0].isnan()


@given(st.data(), moderate_betas())
def test_posterior_by_conditioning_the_joint_covariance(data: st.DataObject, values: Array) -> None:
    s, t = data.draw(level_pairs(len(values)))
    got = Schedule.from_betas(values.tolist()).posterior(torch.tensor(s), torch.tensor(t))
    weights, rest = condition(joint_covariance(values), s, [0, t])
    # Eight well conditioned steps: the solve loses three digits at most.
    np.testing.assert_allclose(torch.stack(got).numpy(), [*weights, rest], rtol=1e-9, atol=1e-11)


@given(betas(terminal=False))
def test_last_step_is_exact(values: Array) -> None:
    schedule = Schedule.from_betas(values.tolist())
    t = torch.arange(1, schedule.steps + 1)
    a, b, variance = schedule.posterior(torch.zeros_like(t), t)
    assert a.eq(1).all()
    assert b.eq(0).all()
    assert variance.eq(0).all()


@settings(max_examples=40)
@given(moderate_betas())
def test_zero_terminal_snr(values: Array) -> None:
    schedule = Schedule.from_betas([*values.tolist(), 1.0])
    last = torch.tensor(schedule.steps)
    assert schedule.signal[-1] == 0
    assert schedule.sigma[-1] == 1
    assert schedule.beta[-1] == 1
    assert schedule.snr_drop[-1] == schedule.snr[-2]
    a, b, variance = schedule.posterior(last - 1, last)
    assert b == 0
    torch.testing.assert_close(a, schedule.alpha_bar[-2].sqrt(), rtol=1e-15, atol=0)
    torch.testing.assert_close(variance, schedule.one_minus_alpha_bar[-2], rtol=1e-15, atol=0)


def test_steps_far_smaller_than_a_rounding_of_the_log_snr() -> None:
    # The log-SNR is about -13,815, where float64 numbers lie 1.8e-12 apart.
    betas = np.array([0.999] * 2000 + [1e-12] * 1000)
    chain, schedule = Chain(betas), Schedule.from_betas(betas.tolist())
    s, t = torch.tensor([2000, 2500, 1000]), torch.tensor([2001, 3000, 3000])
    got = torch.stack([schedule.step_beta(s, t), *schedule.posterior(s, t)]).numpy()
    want = np.stack(
        [
            chain.beta(s.numpy(), t.numpy()),
            *posterior_coefficients(chain, s.numpy(), t.numpy()),
        ]
    )
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-300)
    # Hardly any signal is left, so that log SNR falls as log alpha_bar does.
    lost = -chain.log_signal_ratio(s.numpy(), t.numpy()).high
    np.testing.assert_allclose(schedule.fall(s, t), lost, rtol=1e-12)
    assert float(schedule.fall(t[0], t[0])) == 0


def test_what_rounding_took_is_a_few_roundings() -> None:
    schedule = Schedule.from_betas([*np.geomspace(1e-10, 0.5, 999).tolist(), 1.0])
    assert schedule.rounding is not None
    assert schedule.rounding.shape == schedule.log_snr.shape
    assert schedule.rounding[0] == schedule.rounding[-1] == 0
    lost = schedule.rounding[1:-1].abs().numpy()
    # Every sum of steps holds the rounding of level 1, whose log-SNR is the largest.
    np.testing.assert_array_less(lost, 4 * np.spacing(float(schedule.log_snr[1])))
    assert np.count_nonzero(lost) > 100


def test_snr_drop_where_the_snr_underflows() -> None:
    schedule = Schedule(torch.tensor([math.inf, -1.0, -800.0], dtype=torch.float64))
    assert schedule.snr_drop[-1] == math.exp(-1)


def test_thousand_linear_betas() -> None:
    want = np.linspace(1e-4, 0.02, 1000)
    # A log-SNR of up to 10 that falls by 0.01 or more: 10 ulp over 0.01.
    np.testing.assert_allclose(Schedule.linear(1000).beta[1:], want, rtol=1e-11)


@given(st.sampled_from(list(KINDS)), st.integers(1, 3000))
def test_any_number_of_steps(kind: str, steps: int) -> None:
    schedule = KINDS[kind](steps)
    beta = schedule.beta[1:]
    assert schedule.steps == steps
    assert len(schedule.log_snr) == len(schedule.signal) == steps + 1
    assert bool(((beta > 0) & (beta < 1)).all())
    assert bool((schedule.snr[1:] < schedule.snr[:-1]).all())
    assert bool((schedule.snr_drop[1:] > 0).all())
    assert schedule.alpha_bar[0] == 1
    assert schedule.one_minus_alpha_bar[0] == 0
    assert schedule.log_snr[-1].isfinite()


@given(st.floats(0, 0.1), st.floats(0.5, 0.9999), st.integers(1, 50))
def test_cosine_arguments(offset: float, limit: float, steps: int) -> None:
    beta = Schedule.cosine(steps, offset, limit).beta[1:].numpy()
    angle = (np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2
    want = np.minimum(1 - (np.cos(angle[1:]) / np.cos(angle[:-1])) ** 2, limit)
    # Both sides subtract numbers near 1 that are off by a few 1e-16.
    np.testing.assert_allclose(beta, want, rtol=1e-9, atol=1e-14)


@given(st.floats(1e-6, 0.5), st.floats(1e-6, 0.5))
def test_linear_arguments(first: float, last: float) -> None:
    # A log-SNR of up to 700 and a fall of down to 1e-6: 700 ulp over 1e-6.
    got = Schedule.linear(1000, first, last).beta[1:]
    np.testing.assert_allclose(got, np.linspace(first, last, 1000), rtol=1e-6)


@given(st.floats(-20, 20), st.floats(0.1, 20), st.integers(2, 50))
def test_log_snr_linear_arguments(top: float, drop: float, steps: int) -> None:
    log_snr = Schedule.log_snr_linear(steps, top, top - drop).log_snr
    assert log_snr[1] == top
    np.testing.assert_allclose(np.diff(log_snr[1:]), -drop / (steps - 1), rtol=1e-10)
