import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.chain import Chain
from ddpm.reference.forward import (
    forward_step,
    gaussian_product,
    q_mean_variance,
    q_sample,
    telescope,
)
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.strategies import Array, generators, moderate_betas, shapes

# Up to 25 steps of a few roundings each leave 1e-12, a regression 1e-11, quadrature 1e-9.
EXACT = 1e-12
SOLVED = 1e-11


@given(moderate_betas(), generators())
def test_steps_one_after_another_give_the_marginal(steps: Array, rng: np.random.Generator) -> None:
    x0 = rng.normal(size=(3, 2))
    mean, variance = x0, np.zeros(3)
    chain = Chain(steps)
    for t, beta in enumerate(steps, start=1):
        gain, _ = forward_step(np.ones(1), beta)
        mean, added = forward_step(mean, np.full(3, beta))
        variance = gain**2 * variance + added
        want_mean, want_variance = q_mean_variance(x0, np.full(3, chain.alpha_bar[t]))
        np.testing.assert_allclose(mean, want_mean, rtol=EXACT, atol=1e-14)
        np.testing.assert_allclose(variance, want_variance, rtol=EXACT)


@given(moderate_betas())
def test_marginal_by_regression_on_x0(steps: Array) -> None:
    weights, rest = condition(joint_covariance(steps), steps.size, [0])
    mean, variance = q_mean_variance(np.array([2.0]), Chain(steps).alpha_bar[-1])
    np.testing.assert_allclose(mean, 2 * weights, rtol=SOLVED)
    np.testing.assert_allclose(variance, rest, rtol=SOLVED)


@given(shapes(), generators())
def test_q_sample_is_affine_in_the_noise(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x0, noise = rng.normal(size=shape), rng.normal(size=shape)
    alpha_bar = rng.uniform(size=shape[0])
    mean, variance = q_mean_variance(x0, alpha_bar)
    got = q_sample(x0, alpha_bar, noise)
    assert got.shape == shape
    for i in range(shape[0]):
        np.testing.assert_allclose(
            got[i], mean[i] + np.sqrt(variance[i]) * noise[i], rtol=1e-14, atol=1e-14
        )
    np.testing.assert_array_equal(q_sample(x0, alpha_bar, 0 * noise), mean)


def test_q_sample_law() -> None:
    # 20,000 draws with a fixed seed; 1e-4 is far from the uniform p-values of a right sampler.
    rng = np.random.default_rng(7)
    draws = q_sample(np.full(20_000, 0.7), 0.36, rng.standard_normal(20_000))
    assert stats.kstest(draws, stats.norm(0.6 * 0.7, 0.8).cdf).pvalue > 1e-4


def test_q_sample_keeps_the_digits_of_tiny_noise() -> None:
    chain = Chain([1e-12])
    got = q_sample(np.zeros(1), chain.alpha_bar[1], np.ones(1), chain.one_minus_alpha_bar[1])
    np.testing.assert_allclose(got, 1e-6, rtol=1e-14)
    assert abs(q_sample(np.zeros(1), chain.alpha_bar[1], np.ones(1))[0] / 1e-6 - 1) > 1e-6


@given(
    st.lists(st.tuples(st.floats(-1.5, 1.5), st.floats(0, 2)), min_size=1, max_size=25),
)
def test_telescoping_without_preserved_variance(steps: list[tuple[float, float]]) -> None:
    lambdas, variances = np.array(steps).T
    rows = np.eye(len(steps) + 1)
    for t in range(1, len(steps) + 1):
        rows[t, t] = np.sqrt(variances[t - 1])
        rows[t] += lambdas[t - 1] * rows[t - 1]
    gain, variance = telescope(lambdas, variances)
    np.testing.assert_allclose(gain, rows[:, 0], rtol=SOLVED, atol=1e-13)
    np.testing.assert_allclose(variance, (rows[:, 1:] ** 2).sum(axis=1), rtol=SOLVED, atol=1e-13)


def test_variance_exploding_chain_is_a_random_walk() -> None:
    gain, variance = telescope(np.ones(3), [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(gain, 1)
    np.testing.assert_allclose(variance, [0, 0.1, 0.3, 0.6], rtol=1e-15)


def test_refuted_last_term_of_the_square() -> None:
    # T-4.1.1 prints lambda^2 for sigma^2: 0.72 where the variance stays 1.
    _, variance = telescope([0.6], [1 - 0.36])
    assert np.isclose(0.36 + variance[1], 1)
    assert not np.isclose(0.36 + 0.36, 1)
    # T-4.1.2 as bracketed leaves eps_2 with 0.6 instead of 0.42 after lambda_3.
    gains = np.array([0.9, 0.8, 0.7])
    _, shares = telescope(gains, [0, 0.36, 0])
    assert np.isclose(np.sqrt(shares[3]), 0.42)


def test_refuted_one_step_law_from_x0() -> None:
    # K-15 calls the law given x_0 that given x_{t-1}: variance 0.28 against 0.2.
    _, rest = condition(joint_covariance([0.1, 0.2]), 2, [0])
    assert np.isclose(rest, 0.28)
    assert forward_step(np.zeros(1), 0.2)[1] == 0.2


products = st.tuples(
    st.floats(-2, 2), st.floats(0.1, 2), st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 2)
)


@given(products)
def test_product_of_gaussians_by_quadrature(case: tuple[float, float, float, float, float]) -> None:
    mean, variance, slope, target, noise = case
    nodes = np.linspace(-25, 25, 10_001)
    x = mean + np.sqrt(variance) * nodes
    density = np.exp(-(nodes**2) / 2 - (target - slope * x) ** 2 / (2 * noise))
    centre = density @ x / density.sum()
    spread = density @ (x - centre) ** 2 / density.sum()
    got = gaussian_product(*case)
    np.testing.assert_allclose(np.stack(got), [centre, spread], rtol=1e-10, atol=1e-10)


def test_refuted_variance_of_a_product() -> None:
    # T-4.1.3 prints s1 s2 / (s1 + a^2 s2): 0.159236 where quadrature finds 0.192308.
    def density(x: float, power: int) -> float:
        exponent = (x - 0.4) ** 2 / 0.5 + (1.3 - 0.8 * x) ** 2 / 0.2
        return float(x**power * np.exp(-exponent / 2))

    mass, first, second = (
        integrate.quad(density, -8, 8, args=(k,), epsabs=1e-13)[0] for k in range(3)
    )
    mean, variance = gaussian_product(0.4, 0.5, 0.8, 1.3, 0.2)
    np.testing.assert_allclose(mean, first / mass, rtol=1e-9)
    np.testing.assert_allclose(variance, second / mass - (first / mass) ** 2, rtol=1e-9)
    assert np.isclose(variance, 0.192308, atol=1e-6)
    assert np.isclose(0.5 * 0.2 / (0.5 + 0.64 * 0.2), 0.159236, atol=1e-6)


def test_point_mass_stays_where_it_is() -> None:
    mean, variance = gaussian_product(0.4, 0.0, 0.8, 1.3, 0.2)
    assert float(mean) == 0.4
    assert float(variance) == 0.0


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"beta must lie in \(0, 1\]"):
        forward_step(x, 0.0)
    with pytest.raises(ValueError, match=r"alpha_bar must lie in \[0, 1\]"):
        q_mean_variance(x, 1.5)
    with pytest.raises(ValueError, match="one_minus_alpha_bar must be"):
        q_mean_variance(x, 0.5, 0.4)
    with pytest.raises(ValueError, match="noise must have shape"):
        q_sample(x, 0.5, np.zeros(3))
    with pytest.raises(ValueError, match="variances must have the shape"):
        telescope([0.5, 0.5], [0.1])
    with pytest.raises(ValueError, match="variances must be at least 0"):
        telescope([0.5], [-0.1])
    with pytest.raises(ValueError, match="noise must be positive"):
        gaussian_product(0, 1, 1, 0, 0)
