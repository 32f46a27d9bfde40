"""The table of weights against the reference, which computes it from the SNR itself."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.predictions import TRAINABLE, Prediction
from ddpm.reference.chain import Chain
from ddpm.reference.weightings import prediction_weight
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, betas
from ddpm.weightings import WEIGHTINGS, Weighting, weight_table

ANY = st.floats(0.05, 20)


@given(betas(), st.sampled_from(TRAINABLE), st.sampled_from(WEIGHTINGS), ANY, ANY)
@settings(max_examples=150)
def test_table_of_the_reference(
    steps: Array, prediction: Prediction, weighting: Weighting, gamma: float, k: float
) -> None:
    if steps[-1] == 1 and prediction in ("eps", "score"):
        steps = steps * 0.5
    schedule, chain = Schedule.from_betas(steps.tolist()), Chain(steps)
    got = weight_table(schedule, prediction, weighting, gamma=gamma, k=k)
    assert got.dtype == torch.float64
    assert got.shape == (steps.size + 1,)
    assert math.isnan(got[0])
    t = np.arange(1, steps.size + 1)
    want = prediction_weight(prediction, weighting, chain, t, gamma, k)
    # Log-SNRs reach 40 and gamma 20: their logarithms carry errors of a few hundred roundings.
    np.testing.assert_allclose(got[1:].numpy(), want, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_zero_terminal_snr_has_finite_weights(prediction: Prediction, weighting: Weighting) -> None:
    schedule = Schedule.from_betas([0.1, 0.4, 1.0])
    got = weight_table(schedule, prediction, weighting)[1:]
    assert bool((got >= 0).all())
    assert bool(got.isfinite().all())


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_bound_in_equal_steps_of_log_snr_is_the_simple_loss(steps: int) -> None:
    schedule = Schedule.log_snr_linear(steps, 4.0, -4.0)
    got = weight_table(schedule, "eps", "snr_drop")[2:]
    np.testing.assert_allclose(got, math.expm1(8 / max(1, steps - 1)) / 2, rtol=1e-13)


def test_defaults_are_those_of_the_papers() -> None:
    schedule = Schedule.log_snr_linear(9)
    for weighting, gamma in (("min_snr", 5.0), ("p2", 1.0)):
        default = weight_table(schedule, "eps", weighting)
        assert torch.equal(default[1:], weight_table(schedule, "eps", weighting, gamma=gamma)[1:])
    assert float(weight_table(schedule, "x0", "min_snr")[1:].max()) == pytest.approx(5.0)
    middle = weight_table(schedule, "eps", "p2")[5]
    assert float(middle) == pytest.approx(0.5)


def test_a_learned_schedule_gets_no_gradient() -> None:
    log_snr = torch.tensor([math.inf, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
    assert not weight_table(Schedule(log_snr), "v", "snr_drop").requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "mean"}, "prediction = 'mean': allowed is one of"),
        ({"weighting": "snr"}, "weighting = 'snr': allowed is one of .*'min_snr'"),
        ({"gamma": 0.0}, "gamma = 0.0: allowed is a positive finite number"),
        ({"gamma": math.inf}, "gamma = inf: allowed is a positive"),
        ({"k": -1.0}, "k = -1.0: allowed is a positive"),
        ({"k": math.nan}, "k = nan: allowed is a positive"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], message: str) -> None:
    good = {"schedule": Schedule.linear(5), "prediction": "v", "weighting": "p2"}
    with pytest.raises(ValueError, match=message):
        weight_table(**{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_zero_terminal_snr_is_refused_where_nothing_says_x0(prediction: Prediction) -> None:
    with pytest.raises(ValueError, match="zero terminal SNR"):
        weight_table(Schedule.from_betas([0.1, 1.0]), prediction, "min_snr")
