from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference.chain import Chain, checked_levels, checked_pair, one_minus_exp
from ddpm.reference.double_double import DoubleDouble
from ddpm.verify.oracles import (
    PRECISION,
    condition,
    joint_covariance,
    signal_products,
    worst_ulp,
)
from ddpm.verify.strategies import Array, betas, level_pairs, moderate_betas

# The design allows 4. What is computed in pairs and rounded once does better: half a unit, or
# one where the result is subnormal; log SNR ends in one float64 logarithm.
ONE = 1.0
FOUR = 4.0

# The simulated chain and its regressions are float64: eight steps leave 1e-12, a solve 1e-11.
SIMULATED = 1e-12
SOLVED = 1e-11

TABLES: dict[str, tuple[Callable[[Chain], Array], Callable[[mp.mpf], mp.mpf], float]] = {
    "alpha_bar": (lambda chain: chain.alpha_bar, lambda p: p, ONE),
    "one_minus_alpha_bar": (lambda chain: chain.one_minus_alpha_bar, lambda p: 1 - p, ONE),
    "c": (lambda chain: chain.c, mp.sqrt, ONE),
    "d": (lambda chain: chain.d, lambda p: mp.sqrt(1 - p), ONE),
    "snr": (lambda chain: chain.snr, lambda p: p / (1 - p) if p < 1 else mp.inf, ONE),
    "log_alpha_bar": (
        lambda chain: chain.log_alpha_bar,
        lambda p: mp.log(p) if p > 0 else -mp.inf,
        ONE,
    ),
    "log_snr": (
        lambda chain: chain.log_snr,
        lambda p: mp.inf if p == 1 else mp.log(p / (1 - p)) if p > 0 else -mp.inf,
        FOUR,
    ),
}


def jump_truths(products: list[mp.mpf], steps: Array, s: int, t: int) -> dict[str, mp.mpf]:
    kept = signal_products(steps[s:t])[-1]
    drop = products[s] / (1 - products[s]) - products[t] / (1 - products[t]) if s else mp.inf
    return {"alpha": kept, "beta": 1 - kept, "snr_drop": drop}


@given(betas())
def test_tables_against_exact_products(steps: Array) -> None:
    chain, products = Chain(steps), signal_products(steps)
    with mp.workprec(PRECISION):
        for name, (table, truth, bound) in TABLES.items():
            assert table(chain).shape == (steps.size + 1,)
            assert worst_ulp(table(chain), [truth(p) for p in products]) <= bound, name


@given(st.data(), betas())
def test_jumps_against_exact_products(data: st.DataObject, steps: Array) -> None:
    s, t = data.draw(level_pairs(steps.size))
    chain, products = Chain(steps), signal_products(steps)
    with mp.workprec(PRECISION):
        truths = jump_truths(products, steps, s, t)
        assert worst_ulp(chain.alpha(s, t), [truths["alpha"]]) <= ONE
        assert worst_ulp(chain.beta(s, t), [truths["beta"]]) <= ONE
        assert worst_ulp(chain.snr_drop(s, t), [truths["snr_drop"]]) <= ONE


LONG = {
    "tiny": np.full(100_000, 1e-12),
    "mixed": 10 ** np.random.default_rng(0).uniform(-12, -3, 100_000),
    "tiny after large": np.concatenate([np.full(50_000, 0.9), np.full(50_000, 1e-12)]),
    "zero terminal": np.append(np.full(99_999, 1e-5), 1.0),
}


@pytest.mark.parametrize("name", LONG)
def test_a_hundred_thousand_steps(name: str) -> None:
    steps = LONG[name]
    chain, products = Chain(steps), signal_products(steps)
    levels = [0, 1, 2, 777, 49_999, 50_001, 50_003, 99_998, 99_999, 100_000]
    with mp.workprec(PRECISION):
        for label, (table, truth, bound) in TABLES.items():
            got = table(chain)[levels]
            assert worst_ulp(got, [truth(products[t]) for t in levels]) <= bound, label
        for s, t in [(0, 1), (1, 2), (777, 1000), (50_001, 50_003), (99_998, 99_999)]:
            truths = jump_truths(products, steps, s, t)
            assert worst_ulp(chain.beta(s, t), [truths["beta"]]) <= ONE
            assert worst_ulp(chain.snr_drop(s, t), [truths["snr_drop"]]) <= ONE


@pytest.mark.parametrize("last", [0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1), 0.49, 0.51])
def test_log_snr_where_it_passes_through_zero(last: float) -> None:
    with mp.workprec(PRECISION):
        truth = [mp.log(p / (1 - p)) for p in signal_products([last])[1:]]
    assert worst_ulp(Chain([last]).log_snr[1:], truth) <= FOUR


@given(moderate_betas())
def test_tables_against_the_simulated_chain(steps: Array) -> None:
    chain = Chain(steps)
    with_data, without_data = joint_covariance(steps), joint_covariance(steps, 0.0)
    total, noise = np.diag(with_data), np.diag(without_data)
    np.testing.assert_allclose(total, 1.0, rtol=SIMULATED)
    np.testing.assert_allclose(chain.alpha_bar, total - noise, rtol=SIMULATED, atol=1e-14)
    np.testing.assert_allclose(chain.one_minus_alpha_bar, noise, rtol=SIMULATED)
    np.testing.assert_allclose(chain.c, with_data[0], rtol=SIMULATED)
    np.testing.assert_allclose(chain.d, np.sqrt(noise), rtol=SIMULATED)
    np.testing.assert_allclose(
        chain.snr[1:], (total - noise)[1:] / noise[1:], rtol=SIMULATED, atol=1e-13
    )


@given(st.data(), moderate_betas())
def test_jumps_against_regression(data: st.DataObject, steps: Array) -> None:
    s, t = data.draw(level_pairs(steps.size))
    weights, rest = condition(joint_covariance(steps), t, [s])
    np.testing.assert_allclose(Chain(steps).alpha(s, t), weights[0] ** 2, rtol=SOLVED)
    np.testing.assert_allclose(Chain(steps).beta(s, t), rest, rtol=SOLVED)


@given(betas(min_steps=2))
def test_levels_lose_signal_monotonically(steps: Array) -> None:
    chain = Chain(steps)
    assert chain.alpha_bar[0] == 1
    assert chain.snr[0] == np.inf
    assert np.all(np.diff(chain.alpha_bar) <= 0)
    assert np.all(np.diff(chain.log_alpha_bar) < 0)
    assert np.all(chain.snr_drop(np.arange(steps.size), np.arange(1, steps.size + 1)) >= 0)


def test_golden_table() -> None:
    chain = Chain([0.1, 0.2, 0.3])
    np.testing.assert_allclose(chain.alpha_bar, [1, 0.9, 0.72, 0.504], rtol=1e-15)
    np.testing.assert_allclose(chain.snr[1:], [9, 2.571428571, 1.016129032], rtol=1e-9)


def test_refuted_sign_of_the_snr_drop() -> None:
    # T-fn28 and T-eq3 print SNR(t) - SNR(t - 1), which would be -6.43 for a ratio of squares.
    chain = Chain([0.1, 0.2])
    weights, rest = condition(joint_covariance([0.1, 0.2]), 1, [0, 2])
    assert np.isclose(weights[0] ** 2 / rest, 6.428571428571)
    assert np.isclose(chain.snr_drop(1, 2), 6.428571428571)
    assert np.isclose(chain.snr[2] - chain.snr[1], -6.428571428571)


def test_refuted_product_over_all_steps() -> None:
    # K prints alpha_bar_t as the product up to T, 0.504 at t = 1 instead of 0.9.
    assert np.isclose(Chain([0.1, 0.2, 0.3]).alpha_bar[1], 0.9)
    assert not np.isclose(Chain([0.1, 0.2, 0.3]).alpha_bar[1], 0.504)


def test_refuted_smallest_snr() -> None:
    # T-4.2 sets the smallest SNR to sqrt(alpha_bar_T): 6.3528e-3 where the ratio is 4.0360e-5.
    chain = Chain(np.linspace(1e-4, 0.02, 1000))
    assert np.isclose(chain.snr[1], 9999, rtol=1e-9)
    assert np.isclose(chain.snr[-1], 4.0360e-5, rtol=1e-4)
    assert np.isclose(chain.c[-1], 6.3528e-3, rtol=1e-4)


def test_refuted_sufficient_condition_for_pure_noise() -> None:
    # T-2.1-lim: every lambda below 1 does not suffice, 1 - 1/(t+1)^2 leaves one half.
    t = np.arange(1, 2001.0)
    lambdas = 1 - 1 / (t + 1) ** 2
    assert np.isclose(Chain(1 - lambdas**2).c[-1], 0.5, atol=1e-3)


def test_properties_of_the_chain() -> None:
    chain = Chain([0.1, 1.0])
    assert chain.steps == 2
    assert chain.zero_terminal_snr
    assert not Chain([0.1]).zero_terminal_snr
    assert chain.log_snr[-1] == -np.inf
    assert chain.alpha_bar[-1] == 0
    assert not chain.betas.flags.writeable


def test_unrounded_values_hold_the_rounded_tables() -> None:
    chain = Chain([0.1, 0.2, 0.3])
    levels = np.arange(4)
    assert np.array_equal(chain.signal(levels).high, chain.alpha_bar)
    assert np.array_equal(chain.amplitude(levels).high, chain.c)
    assert np.array_equal(chain.noise(levels).high, chain.one_minus_alpha_bar)
    assert np.array_equal(chain.log_signal(levels).high, chain.log_alpha_bar)
    assert chain.step_noise(1, 3).high == chain.beta(1, 3)
    np.testing.assert_allclose(chain.log_signal_ratio(1, 3).high, np.log(0.8 * 0.7), rtol=1e-15)
    np.testing.assert_allclose(one_minus_exp(DoubleDouble.of(-1e-20)).high, 1e-20, rtol=1e-15)
    assert not np.signbit(one_minus_exp(DoubleDouble.of(0.0)).high)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "T >= 1"),
        ([[0.1]], "T >= 1"),
        ([0.0], r"\(0, 1\]"),
        ([-0.1], r"\(0, 1\]"),
        ([1.1], r"\(0, 1\]"),
        ([np.nan], r"\(0, 1\]"),
        ([1.0, 0.5], "last level only"),
    ],
)
def test_refused_betas(bad: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain(bad)


def test_refused_levels() -> None:
    chain = Chain([0.1, 0.2])
    for s, t in [(1, 1), (2, 1), (-1, 1), (0, 3)]:
        with pytest.raises(ValueError, match="must"):
            chain.beta(s, t)
        with pytest.raises(ValueError, match="must"):
            checked_pair(s, t, 2)
    with pytest.raises(TypeError, match="integer"):
        checked_levels(np.array([0.5]), 2)
    assert checked_levels(np.array([0, 2]), 2).dtype == np.int64
