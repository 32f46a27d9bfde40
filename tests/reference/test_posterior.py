import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from ddpm.reference.chain import Chain
from ddpm.reference.posterior import (
    Coefficients,
    log_interpolated_variance,
    mixed_variance,
    model_variance,
    posterior_coefficients,
    posterior_mean_variance,
)
from ddpm.verify.oracles import (
    PRECISION,
    condition,
    joint_covariance,
    signal_products,
    worst_ulp,
)
from ddpm.verify.strategies import Array, betas, generators, level_pairs, moderate_betas, shapes

# Betas of at least 0.02 and at most eight steps keep the condition number of a covariance below
# about 1e4, so that a solve leaves 1e-11; quadrature leaves 1e-9; printed numbers their digits.
GOLDEN = Chain([0.1, 0.2, 0.3])


@given(st.data(), moderate_betas(), st.floats(0.05, 5.0))
def test_conditioning_the_joint_covariance(
    data: st.DataObject, steps: Array, data_variance: float
) -> None:
    s, t = data.draw(level_pairs(steps.size))
    a, b, s2 = posterior_coefficients(Chain(steps), s, t)
    weights, rest = condition(joint_covariance(steps, data_variance), s, [0, t])
    np.testing.assert_allclose(np.stack([a, b]), weights, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(s2, rest, rtol=1e-9, atol=1e-12)


@given(st.data(), moderate_betas(min_steps=3))
def test_later_levels_add_nothing(data: st.DataObject, steps: Array) -> None:
    s, t = data.draw(level_pairs(steps.size - 1))
    a, b, _ = posterior_coefficients(Chain(steps), s, t)
    weights, _ = condition(joint_covariance(steps), s, [0, t, steps.size])
    np.testing.assert_allclose(np.stack([a, b, 0 * a]), weights, rtol=1e-9, atol=1e-10)


@given(st.data(), betas())
def test_one_unit_in_the_last_place(data: st.DataObject, steps: Array) -> None:
    s, t = data.draw(level_pairs(steps.size))
    products = signal_products(steps)
    kept = signal_products(steps[s:t])[-1]
    with mp.workprec(PRECISION):
        clean, noise = 1 - products[s], 1 - products[t]
        a = mp.sqrt(products[s]) * (1 - kept) / noise
        b, s2 = mp.sqrt(kept) * clean / noise, (1 - kept) * clean / noise
    got = posterior_coefficients(Chain(steps), s, t)
    assert worst_ulp(got, [a, b, s2]) <= 1.0


@given(betas())
def test_last_step_returns_the_clean_sample(steps: Array) -> None:
    t = np.arange(1, steps.size + 1)
    a, b, s2 = posterior_coefficients(Chain(steps), np.zeros_like(t), t)
    assert np.all(a == 1)
    assert np.all(b == 0)
    assert np.all(s2 == 0)
    assert not np.any(np.signbit(b) | np.signbit(s2))


@given(moderate_betas(min_steps=1))
def test_zero_signal_in_x_t(steps: Array) -> None:
    chain = Chain([*steps, 1.0])
    a, b, s2 = posterior_coefficients(chain, steps.size, steps.size + 1)
    assert b == 0
    assert a == chain.c[-2]
    assert s2 == chain.one_minus_alpha_bar[-2]


def test_golden_table() -> None:
    a, b, s2 = posterior_coefficients(GOLDEN, np.arange(3), np.arange(1, 4))
    assert Coefficients._fields == ("a", "b", "s2")
    np.testing.assert_allclose(a, [1, 0.677630927, 0.513222664], rtol=1e-8)
    np.testing.assert_allclose(b, [0, 0.319438282, 0.472308080], rtol=1e-8)
    np.testing.assert_allclose(s2, [0, 0.071428571, 0.169354839], rtol=1e-8)


def test_refuted_root_of_alpha_bar() -> None:
    # K-67 and G-34 put sqrt(alpha_bar_t) where sqrt(alpha_t) belongs.
    weights, rest = condition(joint_covariance([0.1, 0.2]), 1, [0, 2])
    assert np.isclose(weights[1], 0.319438, atol=1e-6)
    assert np.isclose(np.sqrt(0.72) * 0.1 / 0.28, 0.303046, atol=1e-6)
    assert np.isclose(posterior_coefficients(GOLDEN, 1, 2).b, weights[1], rtol=1e-12)
    # K-60 loses the index of its denominator, which gives 0.0403.
    assert np.isclose(rest, 0.0714286, atol=1e-7)
    mean, _ = condition(joint_covariance([0.1, 0.25, 0.45]), 2, [0, 3])
    assert np.isclose(mean @ [0.6, -0.3], 0.2378, atol=1e-4)
    got, _ = posterior_mean_variance(
        Chain([0.1, 0.25, 0.45]), 2, 3, np.array([0.6]), np.array([-0.3])
    )
    np.testing.assert_allclose(got, mean @ [0.6, -0.3], rtol=1e-12)


@given(shapes(min_batch=1), generators())
def test_mean_and_variance_of_a_batch(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x0, x_t = rng.normal(size=shape), rng.normal(size=shape)
    t = rng.integers(1, 4, shape[0])
    s = rng.integers(0, t)
    mean, variance = posterior_mean_variance(GOLDEN, s, t, x0, x_t)
    covariance = joint_covariance([0.1, 0.2, 0.3])
    for i in range(shape[0]):
        if s[i] == 0:
            weights, rest = np.array([1.0, 0.0]), 0.0
        else:
            weights, rest = condition(covariance, int(s[i]), [0, int(t[i])])
        want = weights[0] * x0[i] + weights[1] * x_t[i]
        np.testing.assert_allclose(mean[i], want, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(variance[i], rest, rtol=1e-10)


def test_density_by_quadrature() -> None:
    # q(x_1 | x_2, x_0) is proportional to q(x_1 | x_0) q(x_2 | x_1), integrated over x_1.
    x0, x2 = 0.5, -0.7

    def density(x: float, power: int) -> float:
        exponent = (x - np.sqrt(0.9) * x0) ** 2 / 0.1 + (x2 - np.sqrt(0.8) * x) ** 2 / 0.2
        return float(x**power * np.exp(-exponent / 2))

    mass, first, second = (
        integrate.quad(density, -4, 4, args=(power,), epsabs=1e-13)[0] for power in range(3)
    )
    mean, variance = posterior_mean_variance(GOLDEN, 1, 2, np.array([x0]), np.array([x2]))
    np.testing.assert_allclose(mean, first / mass, rtol=1e-9)
    np.testing.assert_allclose(variance, second / mass - (first / mass) ** 2, rtol=1e-9)


@given(st.data(), moderate_betas())
def test_fixed_variances_are_exact_for_their_data(data: st.DataObject, steps: Array) -> None:
    s, t = data.draw(level_pairs(steps.size))
    chain = Chain(steps)
    _, unit = condition(joint_covariance(steps), s, [t])
    np.testing.assert_allclose(model_variance(chain, s, t, "beta"), unit, rtol=1e-10)
    _, point = condition(joint_covariance(steps, 0.0), s, [t])
    np.testing.assert_allclose(
        model_variance(chain, s, t, "posterior"), point, rtol=1e-9, atol=1e-12
    )


def test_refuted_that_beta_is_always_too_large() -> None:
    # T-2.5-var1 holds for data of unit variance; for variance 4 the truth exceeds beta.
    covariance = joint_covariance([0.1, 0.2], 4.0)
    assert np.isclose(condition(covariance, 0, [1])[1], 0.108108, atol=1e-6)
    assert np.isclose(condition(covariance, 1, [2])[1], 0.234177, atol=1e-6)


@given(st.data(), moderate_betas(min_steps=2), generators())
def test_learned_variances(data: st.DataObject, steps: Array, rng: np.random.Generator) -> None:
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain, share = Chain(steps), rng.uniform(size=(3, 2))
    covariance = joint_covariance(steps)
    _, beta = condition(covariance, t, [s])
    _, s2 = condition(covariance, s, [0, t])
    levels = np.full(3, s), np.full(3, t)
    geometric = log_interpolated_variance(chain, *levels, share)
    np.testing.assert_allclose(geometric, beta**share * s2 ** (1 - share), rtol=1e-8)
    linear = mixed_variance(chain, *levels, share)
    np.testing.assert_allclose(linear, s2 + share * (beta - s2), rtol=1e-8)
    assert np.all(geometric <= linear * (1 + 1e-12))


def test_refused_variances() -> None:
    with pytest.raises(ValueError, match="'posterior' or 'beta', got 'learned'"):
        model_variance(GOLDEN, 1, 2, "learned")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="s must be at least 1"):
        log_interpolated_variance(GOLDEN, 0, 2, np.zeros(2))
    with pytest.raises(ValueError, match=r"rho must lie in \[0, 1\]"):
        mixed_variance(GOLDEN, 1, 2, np.array([1.5]))
    with pytest.raises(ValueError, match="x_t must have shape"):
        posterior_mean_variance(GOLDEN, 1, 2, np.zeros((2, 3)), np.zeros(2))
