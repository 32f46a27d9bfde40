from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import (
    Prediction,
    additive_noise,
    predict_eps,
    predict_mean,
    predict_score,
    predict_v,
    predict_x0,
)
from ddpm.verify.strategies import Array, generators, shapes

KINDS: tuple[Prediction, ...] = get_args(Prediction)
GOLDEN = Chain([0.1, 0.2, 0.3])
NO_SIGNAL = Chain([0.1, 0.2, 1.0])
X = np.zeros((2, 3))
PREDICT: dict[Prediction, Callable[..., Array]] = {
    "x0": predict_x0,
    "eps": predict_eps,
    "score": predict_score,
    "v": predict_v,
    "mean": predict_mean,
}


@given(shapes(min_batch=1), generators(), st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_levels_of_a_batch(
    shape: tuple[int, ...], rng: np.random.Generator, source: Prediction, target: Prediction
) -> None:
    x_t, output = rng.normal(size=shape), rng.normal(size=shape)
    t = rng.integers(1, 4, shape[0])
    s = rng.integers(0, t)
    got = PREDICT[target](source, output, x_t, GOLDEN, t, s)
    assert got.shape == shape
    for i in range(shape[0]):
        want = PREDICT[target](source, output[i], x_t[i], GOLDEN, int(t[i]), int(s[i]))
        np.testing.assert_array_equal(got[i], want)


@pytest.mark.parametrize("kind", ["x0", "eps", "v", "mean"])
def test_a_prediction_as_itself_is_untouched(kind: Prediction) -> None:
    output, x_t = np.random.default_rng(1).normal(size=(2, 5, 3))
    assert np.array_equal(PREDICT[kind](kind, output, x_t, GOLDEN, 3, 1), output)


def test_shapes_of_added_noise() -> None:
    sample, deviation = additive_noise(GOLDEN, np.array([1, 3]), X)
    assert (sample.shape, deviation.shape) == ((2, 3), (2,))
    sample, deviation = additive_noise(GOLDEN, 1, X)
    assert (sample.shape, deviation.shape) == ((2, 3), ())


@pytest.mark.parametrize("kind", ["eps", "score"])
def test_refused_at_zero_snr(kind: Prediction) -> None:
    message = f"{kind} cannot be turned into x0 at zero SNR, t = 3"
    for predict in (predict_x0, predict_v):
        with pytest.raises(ValueError, match=message):
            predict(kind, X, X, NO_SIGNAL, 3)
    with pytest.raises(ValueError, match=message):
        predict_mean(kind, X, X, NO_SIGNAL, 3, 2)
    with pytest.raises(ValueError, match="zero SNR"):
        predict_x0(kind, X, X, NO_SIGNAL, np.array([1, 3]))


def test_refused_added_noise() -> None:
    with pytest.raises(ValueError, match="x_t at zero SNR, t = 3, is no clean sample plus noise"):
        additive_noise(NO_SIGNAL, 3, X)
    with pytest.raises(ValueError, match="zero SNR"):
        additive_noise(NO_SIGNAL, np.array([1, 3]), X)
    with pytest.raises(ValueError, match="t must be at least 1, got 0"):
        additive_noise(GOLDEN, 0, X)
    with pytest.raises(ValueError, match="x_t must be finite"):
        additive_noise(GOLDEN, 1, X + np.nan)


@pytest.mark.parametrize("kind", KINDS)
def test_refused_levels(kind: Prediction) -> None:
    for predict in (predict_x0, predict_eps, predict_v, predict_score):
        with pytest.raises(ValueError, match="t must be at least 1, got 0: nothing is to be"):
            predict(kind, X, X, GOLDEN, 0, 0)
        with pytest.raises(ValueError, match=r"t must lie in 0\.\.3, got 4"):
            predict(kind, X, X, GOLDEN, 4, 1)
        with pytest.raises(ValueError, match="t must be at least 1"):
            predict(kind, X, X, GOLDEN, np.array([1, 0]), np.array([0, 0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("s", "t"), [(2, 2), (3, 1)])
def test_refused_order_of_levels(kind: Prediction, s: int, t: int) -> None:
    message = f"s must be less than t, got s = {s}, t = {t}"
    with pytest.raises(ValueError, match=message):
        predict_mean(kind, X, X, GOLDEN, t, s)
    with pytest.raises(ValueError, match=message):
        predict_x0("mean", X, X, GOLDEN, t, s)


def test_refused_mean_without_its_level() -> None:
    for predict in (predict_x0, predict_eps, predict_v, predict_score):
        with pytest.raises(ValueError, match=r"^s must be given when the prediction is 'mean'$"):
            predict("mean", X, X, GOLDEN, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_refused_outputs(kind: Prediction) -> None:
    for predict in (predict_x0, predict_eps, predict_v, predict_score):
        with pytest.raises(ValueError, match="output must be finite"):
            predict(kind, X + np.nan, X, GOLDEN, 2, 1)
    with pytest.raises(ValueError, match="output must be finite"):
        predict_mean(kind, X + np.nan, X, GOLDEN, 2, 1)


def test_refused_shapes() -> None:
    message = r"x_t must have shape \(2, 3\), got \(3,\)"
    for predict in (predict_x0, predict_eps, predict_v, predict_score):
        with pytest.raises(ValueError, match=message):
            predict("v", X, X[0], GOLDEN, 2)
    with pytest.raises(ValueError, match=message):
        predict_mean("mean", X, X[0], GOLDEN, 2, 1)


def test_refused_names() -> None:
    message = "prediction must be one of .*'eps', 'x0', 'v', 'score', 'mean'.*, got 'noise'"
    for predict in (predict_x0, predict_eps, predict_v, predict_score):
        with pytest.raises(ValueError, match=message):
            predict("noise", X, X, GOLDEN, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        predict_mean("noise", X, X, GOLDEN, 2, 1)  # type: ignore[arg-type]
