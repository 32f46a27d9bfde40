from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import (
    Prediction,
    predict_eps,
    predict_mean,
    predict_score,
    predict_v,
    predict_x0,
)
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas, shapes

KINDS: tuple[Prediction, ...] = get_args(Prediction)
GOLDEN = Chain([0.1, 0.2, 0.3])
PREDICT: dict[Prediction, Callable[..., Array]] = {
    "x0": predict_x0,
    "eps": predict_eps,
    "score": predict_score,
    "v": predict_v,
    "mean": predict_mean,
}


def simulated_outputs(
    steps: Array, s: int, t: int, x0: Array, noise: Array
) -> tuple[Array, dict[Prediction, Array]]:
    """Run the covariance oracle, never the formulas: what a perfect network would return."""
    covariance = joint_covariance(steps)
    gain, variance = condition(covariance, t, [0])
    x_t = gain[0] * x0 + np.sqrt(variance) * noise
    weights, _ = condition(covariance, s, [0, t]) if s else (np.array([1.0, 0.0]), 0.0)
    # The gradient of the log density of x_t given x_0, by central differences, which are exact
    # for a quadratic.
    h = 0.5
    slope = [-((x_t + shift - gain[0] * x0) ** 2) / (2 * variance) for shift in (-h, h)]
    # v is the derivative of x_t as (signal, noise) turns on the circle.
    angle = np.arccos(gain[0])
    ahead, behind = (np.cos(angle + d) * x0 + np.sin(angle + d) * noise for d in (1e-5, -1e-5))
    return x_t, {
        "x0": x0,
        "eps": noise,
        "score": (slope[1] - slope[0]) / (2 * h),
        "v": (ahead - behind) / 2e-5,
        "mean": weights[0] * x0 + weights[1] * x_t,
    }


@given(st.data(), moderate_betas(), shapes(min_batch=1), generators())
def test_every_prediction_becomes_every_other(
    data: st.DataObject, steps: Array, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    s, t = data.draw(level_pairs(steps.size))
    x_t, truth = simulated_outputs(steps, s, t, rng.normal(size=shape), rng.normal(size=shape))
    chain, source = Chain(steps), data.draw(st.sampled_from(KINDS))
    for target in KINDS:
        got = PREDICT[target](source, truth[source], x_t, chain, t, s)
        # Finite differences leave 1e-9, and alpha_bar >= 2^-8 divides by up to 16.
        np.testing.assert_allclose(got, truth[target], rtol=1e-7, atol=1e-7)


@given(shapes(min_batch=1), generators(), st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_levels_of_a_batch(
    shape: tuple[int, ...], rng: np.random.Generator, source: Prediction, target: Prediction
) -> None:
    x_t, output = rng.normal(size=shape), rng.normal(size=shape)
    t = rng.integers(1, 4, shape[0])
    s = rng.integers(0, t)
    got = PREDICT[target](source, output, x_t, GOLDEN, t, s)
    for i in range(shape[0]):
        want = PREDICT[target](source, output[i], x_t[i], GOLDEN, int(t[i]), int(s[i]))
        np.testing.assert_array_equal(got[i], want)


def test_zero_terminal_snr() -> None:
    chain = Chain([0.1, 0.2, 1.0])
    x0, noise = np.array([0.5, -0.25]), np.array([1.0, 2.0])
    assert np.array_equal(predict_x0("v", -x0, noise, chain, 3), x0)
    assert np.array_equal(predict_eps("x0", x0, noise, chain, 3), noise)
    assert np.array_equal(predict_eps("v", -x0, noise, chain, 3), noise)
    assert np.array_equal(predict_v("x0", x0, noise, chain, 3), -x0)
    assert np.array_equal(predict_score("x0", x0, noise, chain, 3), -noise)
    mean = predict_mean("x0", x0, noise, chain, 3, 2)
    np.testing.assert_allclose(mean, np.sqrt(0.72) * x0, rtol=1e-14)
    np.testing.assert_allclose(predict_x0("mean", mean, noise, chain, 3, 2), x0, rtol=1e-14)
    for kind in ("eps", "score"):
        for predict in (predict_x0, predict_v):
            with pytest.raises(ValueError, match=f"{kind} cannot be turned into x0 at zero SNR"):
                predict(kind, noise, noise, chain, 3)
        with pytest.raises(ValueError, match="zero SNR"):
            predict_x0(kind, noise, noise, chain, np.array([1, 3]))


def test_refuted_prefactor_of_the_mean() -> None:
    # K-71, K-75, G-37 and G-38 divide by sqrt(alpha_bar_t) where sqrt(alpha_t) belongs.
    steps = np.array([0.1, 0.2, 0.3])
    x_t, truth = simulated_outputs(steps, 1, 2, np.array([0.5]), np.array([-1.0]))
    assert np.isclose(x_t[0], -0.104886, atol=1e-6)
    got = predict_mean("eps", np.array([-1.0]), x_t, GOLDEN, 2, 1)
    assert np.isclose(truth["mean"][0], 0.305311, atol=1e-6)
    np.testing.assert_allclose(got, truth["mean"], rtol=1e-12)
    printed = (x_t[0] + 0.2 / np.sqrt(0.28)) / np.sqrt(0.72)
    assert np.isclose(printed, 0.321826, atol=1e-6)


def test_refuted_decoder_mean() -> None:
    # L-2.10mu prints x_1 - eps: -0.3462 for x_0 = 0.5, eps = 1.2, beta_1 = 0.1.
    chain, noise = Chain([0.1]), np.array([1.2])
    x1 = np.sqrt(0.9) * 0.5 + np.sqrt(0.1) * noise
    assert np.isclose(x1[0] - 1.2, -0.3462, atol=1e-4)
    np.testing.assert_allclose(predict_mean("eps", noise, x1, chain, 1, 0), 0.5, rtol=1e-14)


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="t must be at least 1, got 0"):
        predict_x0("v", x, x, GOLDEN, 0)
    with pytest.raises(ValueError, match="s must be given"):
        predict_x0("mean", x, x, GOLDEN, 2)
    with pytest.raises(ValueError, match="x_t must have shape"):
        predict_eps("v", x, x[0], GOLDEN, 2)
    for predict in (predict_x0, predict_eps, predict_v, predict_score):
        with pytest.raises(ValueError, match="prediction must be one of"):
            predict("noise", x, x, GOLDEN, 2)  # type: ignore[arg-type]
