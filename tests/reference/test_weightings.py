"""Weights by brute force: an output is spoilt, the clean image it stands for is compared."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.forward import q_sample
from ddpm.reference.parameterisations import Prediction, predict_eps, predict_v, predict_x0
from ddpm.reference.weightings import (
    Weighting,
    clean_weight,
    decoder_variance,
    prediction_weight,
)
from ddpm.verify.oracles import condition, joint_covariance, quad_kl
from ddpm.verify.strategies import Array, generators, moderate_betas

PREDICTIONS: tuple[Prediction, ...] = ("eps", "x0", "v", "score")
GOLDEN = Chain([0.1, 0.2, 0.3])


def spoilt(
    prediction: Prediction, chain: Chain, t: int, rng: np.random.Generator
) -> tuple[float, Array, Array, Array]:
    """The squared error of one output, and (x_t, x_0, the x_0 of that output), one number each."""
    x0, noise = rng.standard_normal((2, 1, 1))
    x_t = q_sample(x0, chain.alpha_bar[t], noise)
    truth = {
        "eps": noise,
        "x0": x0,
        "v": predict_v("eps", noise, x_t, chain, t),
        "score": -noise / chain.d[t],
    }[prediction]
    error = rng.uniform(0.2, 1)
    return error**2, x_t, x0, predict_x0(prediction, truth + error, x_t, chain, t)


def bound_of(steps: Array, t: int, x_t: Array, x0: Array, estimate: Array) -> float:
    """What the wrong clean image costs the bound in nats, by quadrature of densities."""
    covariance = joint_covariance(steps)
    if t == 1:
        variance = condition(covariance, 1, [0, 2])[1] if steps.size > 1 else float(steps[0])
        log_p = stats.norm.logpdf([0.0, float((estimate - x0).sum())], 0.0, np.sqrt(variance))
        return float(-np.diff(log_p).sum())
    gains, variance = condition(covariance, t - 1, [0, t])
    means = [float(gains[0] * x.sum() + gains[1] * x_t.sum()) for x in (x0, estimate)]
    # A shift of many deviations would leave the quadrature's grid: shrink it, and scale back.
    shrink = min(1.0, np.sqrt(variance) / abs(means[1] - means[0]))
    near = means[0] + shrink * (means[1] - means[0])
    deviation = float(np.sqrt(variance))
    return float(quad_kl(means[0], deviation, near, deviation) / shrink**2)


@given(
    st.data(),
    moderate_betas(),
    st.sampled_from(PREDICTIONS),
    st.sampled_from(get_args(Weighting)),
    st.floats(0.1, 8),
    st.floats(0.1, 3),
    generators(),
)
@settings(max_examples=150)
def test_weighted_error_of_any_prediction(
    data: st.DataObject,
    steps: Array,
    prediction: Prediction,
    weighting: Weighting,
    gamma: float,
    k: float,
    rng: np.random.Generator,
) -> None:
    chain, t = Chain(steps), data.draw(st.integers(1, steps.size))
    square, x_t, x0, estimate = spoilt(prediction, chain, t, rng)
    got = prediction_weight(prediction, weighting, chain, t, gamma, k) * square
    # The ratio of signal to noise of the simulated chain, not the table of the class.
    gain, noise = condition(joint_covariance(steps), t, [0])
    snr, error = float(gain[0]) ** 2 / noise, float(((estimate - x0) ** 2).sum())
    of_eps = predict_eps("x0", estimate, x_t, chain, t) - predict_eps("x0", x0, x_t, chain, t)
    want = {
        "simple": square,
        "eps": float((of_eps**2).sum()),
        "min_snr": (snr if snr < gamma else gamma) * error,
        "truncated": (snr if snr > 1 else 1) * error,
        "p2": float((of_eps**2).sum()) / (k + snr) ** gamma,
        "snr_drop": bound_of(steps, t, x_t, x0, estimate),
    }[weighting]
    # Regressions and quadrature lose some digits where little noise is left.
    np.testing.assert_allclose(got, want, rtol=1e-6)


@given(moderate_betas(min_steps=2))
@settings(max_examples=20)
def test_decoder_variance_is_that_of_the_first_posterior(steps: Array) -> None:
    _, variance = condition(joint_covariance(steps), 1, [0, 2])
    assert decoder_variance(Chain(steps)) == pytest.approx(variance, rel=1e-9)
    assert decoder_variance(Chain(steps[:1])) == pytest.approx(steps[0], rel=1e-14)


def test_weights_at_zero_snr() -> None:
    chain = Chain([0.5, 1.0])
    want = {"simple": 1, "eps": 0, "snr_drop": 0.5, "min_snr": 0, "p2": 0, "truncated": 1}
    for prediction in ("x0", "v"):
        for weighting in get_args(Weighting):
            got = prediction_weight(prediction, weighting, chain, 2, 2.0, 1.0)
            assert got == pytest.approx(want[weighting]), weighting


def test_shapes_and_defaults() -> None:
    t = np.array([[1, 2, 3]])
    assert prediction_weight("v", "snr_drop", GOLDEN, t).shape == (1, 3)
    assert clean_weight("min_snr", GOLDEN, 1, 5.0, 1.0) == 5.0
    assert prediction_weight("x0", "min_snr", GOLDEN, 1) == 5.0
    assert prediction_weight("eps", "p2", GOLDEN, 1, 1.0) == pytest.approx(1 / (1 + 9))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"t must lie in 1\.\.3, got 0"):
        prediction_weight("x0", "simple", GOLDEN, 0)
    with pytest.raises(ValueError, match=r"t must lie in 1\.\.3, got 0"):
        clean_weight("min_snr", GOLDEN, 0, 5.0, 1.0)
    with pytest.raises(ValueError, match=r"prediction must be one of .*'score'.*, got 'mean'"):
        prediction_weight("mean", "simple", GOLDEN, 1)
    with pytest.raises(ValueError, match=r"weighting must be one of .*, got 'other'"):
        clean_weight("other", GOLDEN, 1, 5.0, 1.0)  # type: ignore[arg-type]
    for prediction in ("eps", "score"):
        with pytest.raises(ValueError, match=f"{prediction} says nothing of x0 at zero SNR, t = 2"):
            prediction_weight(prediction, "simple", Chain([0.5, 1.0]), 2)
