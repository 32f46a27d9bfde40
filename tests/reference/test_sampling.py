from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.posterior import Variance
from ddpm.reference.sampling import ancestral_step, ddim_step, ddim_variance
from ddpm.reference.schedules import linear_schedule
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.strategies import (
    Array,
    generators,
    level_pairs,
    moderate_betas,
    shapes,
    subsequences,
)

# Products of at most six coefficients leave 1e-12; a regression on a covariance of condition
# number 1e4 leaves 1e-9, and its root 1e-8 near zero; numbers of the ledger have four digits.
LINEAR = linear_schedule(1000)
VARIANCES = st.sampled_from(["posterior", "beta"])


def reverse_rows(chain: Chain, levels: list[int], eta: float, ancestral: bool = False) -> Array:
    """Run a sampler on coefficient vectors: x_0 and the noises are unit vectors, x0_hat is x_0."""
    unit = np.eye(len(levels) + 1)
    x = chain.c[levels[0]] * unit[0] + chain.d[levels[0]] * unit[1]
    rows = [x]
    for i, (t, s) in enumerate(pairwise(levels), start=2):
        if ancestral:
            x = ancestral_step(chain, s, t, x, unit[0], unit[i])
        else:
            x = ddim_step(chain, s, t, x, unit[0], unit[i], eta)
        rows.append(x)
    return np.stack(rows)


@given(st.data(), moderate_betas(max_steps=6))
def test_eta_one_is_the_chain_restricted(data: st.DataObject, steps: Array) -> None:
    levels = data.draw(subsequences(steps.size))
    truth = joint_covariance(steps)[np.ix_(levels, levels)]
    for ancestral in (False, True):
        rows = reverse_rows(Chain(steps), levels, 1.0, ancestral)
        np.testing.assert_allclose(rows @ rows.T, truth, rtol=1e-11, atol=1e-12)


@given(st.data(), moderate_betas(max_steps=6), st.floats(0, 1))
def test_every_eta_keeps_the_marginals(data: st.DataObject, steps: Array, eta: float) -> None:
    levels = data.draw(subsequences(steps.size))
    rows = reverse_rows(Chain(steps), levels, eta)
    truth = joint_covariance(steps)
    np.testing.assert_allclose((rows**2).sum(axis=1), 1, rtol=1e-11)
    np.testing.assert_allclose(rows[:, 0], truth[0, levels], rtol=1e-11)
    if eta == 0:
        assert np.linalg.matrix_rank(rows[:, 1:], tol=1e-10) == 1


@given(moderate_betas(max_steps=6))
def test_eta_zero_carries_one_noise_down(steps: Array) -> None:
    rows = reverse_rows(Chain(steps), [*range(steps.size, 0, -1), 0], 0.0)
    assert np.all(rows[:, 2:] == 0)
    truth = np.sqrt(1 - joint_covariance(steps)[0, ::-1] ** 2)
    np.testing.assert_allclose(rows[:, 1], truth, rtol=1e-9, atol=1e-12)


@given(st.data(), moderate_betas(), VARIANCES, shapes(min_batch=1), generators())
def test_ancestral_step_by_conditioning(
    data: st.DataObject,
    steps: Array,
    variance: Variance,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    s, t = data.draw(level_pairs(steps.size))
    x_t, x0_hat, noise = rng.normal(size=(3, *shape))
    covariance = joint_covariance(steps)
    weights, s2 = condition(covariance, s, [0, t]) if s else (np.array([1.0, 0.0]), 0.0)
    beta = condition(covariance, t, [s])[1]
    spread = s2 if variance == "posterior" else beta if s else 0.0
    want = weights[0] * x0_hat + weights[1] * x_t + np.sqrt(max(spread, 0.0)) * noise
    got = ancestral_step(Chain(steps), s, t, x_t, x0_hat, noise, variance)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)
    last = ancestral_step(Chain(steps), 0, t, x_t, x0_hat, noise, variance, noise_at_end=True)
    kept = np.sqrt(condition(covariance, t, [0])[1]) if variance == "beta" else 0.0
    np.testing.assert_allclose(last, x0_hat + kept * noise, rtol=1e-9, atol=1e-9)


@given(shapes(min_batch=1), generators(), st.sampled_from([0.0, 0.5, 1.0]))
def test_levels_of_a_batch(shape: tuple[int, ...], rng: np.random.Generator, eta: float) -> None:
    x_t, x0_hat, noise = rng.normal(size=(3, *shape))
    t = rng.integers(1, 1001, shape[0])
    s = rng.integers(0, t)
    for step in (
        partial(ddim_step, LINEAR, eta=eta),
        partial(ancestral_step, LINEAR, variance="beta"),
    ):
        got = step(s=s, t=t, x_t=x_t, x0_hat=x0_hat, noise=noise)
        for i in range(shape[0]):
            one = {"x_t": x_t[i], "x0_hat": x0_hat[i], "noise": noise[i]}
            want = step(s=int(s[i]), t=int(t[i]), **one)
            np.testing.assert_array_equal(got[i], want)


def test_zero_terminal_snr() -> None:
    chain = Chain([0.1, 1.0])
    x_t, x0, noise = np.ones(2), np.array([0.5, -0.5]), np.zeros(2)
    got = ddim_step(chain, 1, 2, x_t, x0, noise)
    np.testing.assert_allclose(got, np.sqrt(0.9) * x0 + np.sqrt(0.1), rtol=1e-14)
    got = ancestral_step(chain, 1, 2, x_t, x0, noise)
    np.testing.assert_allclose(got, np.sqrt(0.9) * x0, rtol=1e-14)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("levels", [[1000, 600, 50, 0], [901, 101, 1, 0], [1000, 0]])
def test_a_point_mass_comes_back_exactly(eta: float, levels: list[int]) -> None:
    rng = np.random.default_rng(1)
    x, m = rng.normal(size=5), np.full(5, 0.3)
    for t, s in pairwise(levels):
        x = ddim_step(LINEAR, s, t, x, m, rng.normal(size=5), eta)
    np.testing.assert_array_equal(x, m)


def linear_steps(
    chain: Chain, data_variance: float, variance: Variance, noise_at_end: bool
) -> tuple[Array, Array]:
    """Slope and added deviation of every step for the exact denoiser of Gaussian data."""
    t = np.arange(1, chain.steps + 1)
    one, zero = np.ones(t.size), np.zeros(t.size)
    signal = chain.alpha_bar[1:]
    x0_hat = chain.c[1:] * data_variance / (signal * data_variance + 1 - signal)
    settings: tuple[Variance, bool] = (variance, noise_at_end)
    slope = ancestral_step(chain, t - 1, t, one, x0_hat, zero, *settings)
    return slope, ancestral_step(chain, t - 1, t, zero, zero, one, *settings)


@pytest.mark.parametrize(
    ("data_variance", "variance", "noise_at_end", "want"),
    [
        (1.0, "beta", True, 1.0),
        (1.0, "beta", False, 0.9999),
        (1.0, "posterior", False, 0.9911),
        (0.25, "beta", False, 0.25075),
        (0.25, "posterior", False, 0.24613),
        (1e-3, "beta", False, 9.99e-4),
        (1e-3, "posterior", False, 7.79e-4),
    ],
)
def test_variance_of_samples_of_gaussian_data(
    data_variance: float, variance: Variance, noise_at_end: bool, want: float
) -> None:
    total = 1.0
    for slope, noise in np.stack(linear_steps(LINEAR, data_variance, variance, noise_at_end)).T[
        ::-1
    ]:
        total = slope**2 * total + noise**2
    np.testing.assert_allclose(total, want, rtol=5e-4)


def test_refuted_noise_and_prefactor() -> None:
    # K-80 adds the variance in place of its root; K-81 divides by sqrt(alpha_bar_t).
    slopes, deviations = linear_steps(LINEAR, 1.0, "beta", True)
    right = unrooted = 1.0
    for slope, noise in zip(slopes[::-1], deviations[::-1], strict=True):
        right = slope**2 * right + noise**2
        unrooted = slope**2 * unrooted + noise**4
    assert np.isclose(right, 1.0, rtol=1e-9)
    assert np.isclose(unrooted, 0.0056, atol=1e-4)
    chain = linear_schedule(100)
    slopes, deviations = linear_steps(chain, 1.0, "beta", True)
    printed = 1.0
    factor = np.sqrt(chain.alpha(np.arange(100), np.arange(1, 101))) / chain.c[1:]
    for slope, noise in zip((slopes * factor)[::-1], deviations[::-1], strict=True):
        printed = slope**2 * printed + noise**2
    assert printed > 10


def test_deterministic_sampling_of_gaussian_data() -> None:
    t = np.arange(1, 1001)
    x0_hat = LINEAR.c[1:] * 0.5 / (LINEAR.alpha_bar[1:] * 0.5 + LINEAR.one_minus_alpha_bar[1:])
    slope = ddim_step(LINEAR, t - 1, t, np.ones(1000), x0_hat, np.zeros(1000))
    np.testing.assert_allclose(np.prod(slope) ** 2, 0.4977, atol=1e-4)


def test_refuted_variance_on_a_subsequence() -> None:
    # L-tau prints the one-step alpha and the neighbouring level: 1 - alpha_bar_s - sigma^2 < 0.
    signal = LINEAR.alpha_bar
    printed = LINEAR.betas[100] * (1 - signal[100]) / (1 - signal[101])
    assert np.isclose(np.sqrt(printed), 0.04533, atol=1e-5)
    assert np.isclose(1 - signal[1] - printed, -1.95e-3, atol=1e-5)
    assert np.isclose(np.sqrt(ddim_variance(LINEAR, 1, 101, 1.0)), 0.01, atol=1e-4)
    assert np.isclose(np.sqrt(ddim_variance(LINEAR, 500, 600, 1.0)), 0.7965, atol=1e-4)


@given(st.data(), moderate_betas(min_steps=2))
def test_largest_eta(data: st.DataObject, steps: Array) -> None:
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    covariance = joint_covariance(steps)
    largest = np.sqrt(condition(covariance, t, [0])[1] / condition(covariance, t, [s])[1])
    room = condition(covariance, s, [0])[1]
    got = ddim_variance(Chain(steps), s, t, largest * (1 - 1e-9))
    np.testing.assert_allclose(got, room, rtol=1e-8)
    assert got <= Chain(steps).one_minus_alpha_bar[s]
    with pytest.raises(ValueError, match="asks for more noise"):
        ddim_variance(Chain(steps), s, t, largest * (1 + 1e-6))


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="eta must be at least 0"):
        ddim_variance(LINEAR, 1, 2, -0.1)
    with pytest.raises(ValueError, match="noise must have shape"):
        ddim_step(LINEAR, 1, 2, x, x, x[0])
    with pytest.raises(ValueError, match="noise must have shape"):
        ancestral_step(LINEAR, 1, 2, x, x, x[0])
    with pytest.raises(ValueError, match="x_t must have shape"):
        ancestral_step(LINEAR, 1, 2, x[0], x, x)
    with pytest.raises(ValueError, match="variance must be"):
        ancestral_step(LINEAR, 1, 2, x, x, x, "learned")  # type: ignore[arg-type]
