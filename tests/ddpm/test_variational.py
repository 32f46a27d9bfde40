"""The tables of learned variances against the reference, which starts from beta."""

import math
from typing import Any, get_args

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.predictions import Prediction
from ddpm.reference import variances
from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import predict_mean
from ddpm.reference.posterior import posterior_coefficients
from ddpm.schedule import Schedule
from ddpm.variational import Learned, learned_step_columns, variational_table
from ddpm.verify.strategies import Array, betas, generators, level_pairs, moderate_betas

PREDICTIONS: tuple[Prediction, ...] = ("eps", "x0", "v", "score")
KINDS: tuple[Learned, ...] = get_args(Learned)


def log_ratio(learned: str, d0: Any, d1: Any, raw: Any) -> Any:
    return d0 + d1 * raw if learned == "log" else np.log(d0 + d1 / (1 + np.exp(-raw)))


def smallest(chain: Chain, learned: str, t: int) -> float:
    """The variance that those of a level are measured by."""
    if t > 1:
        return float(posterior_coefficients(chain, t - 1, t).s2)
    kind: variances.Variance = "beta" if chain.steps == 1 or learned == "sigmoid" else "posterior"
    return variances.decoder_variance(chain, kind)


def step_variance(chain: Chain, learned: str, s: int, t: int, raw: Array) -> Array:
    """The reference's variance of a step; to level 0 the posterior to level 1 stands in for s2."""
    if learned == "sigmoid":
        return variances.sigmoid_variance(chain, s, t, raw)
    if s > 0:
        return variances.log_interpolated_variance(chain, s, t, raw)
    high = float(chain.beta(0, t))
    low = high if chain.steps == 1 else float(posterior_coefficients(chain, 1, max(t, 2)).s2)
    return np.asarray(high**raw * low ** (1 - raw))


@given(moderate_betas(), st.sampled_from(PREDICTIONS), st.sampled_from(KINDS), generators())
@settings(max_examples=40)
def test_rows_against_the_reference(
    noise: Array, prediction: Prediction, learned: Learned, rng: np.random.Generator
) -> None:
    chain, schedule = Chain(noise), Schedule.from_betas(noise.tolist())
    table = variational_table(schedule, prediction, learned, 17)
    assert table.dtype == torch.float64
    assert table.shape == (chain.steps + 1, 6)
    raw, x_t = rng.normal(size=(1, 5)), np.zeros((1, 1))
    for t in range(1, chain.steps + 1):
        signal, sigma, root, d0, d1, half = table[t].tolist()
        base = smallest(chain, learned, t)
        assert (signal, sigma) == pytest.approx((chain.c[t], chain.d[t]), rel=1e-12)
        assert half == pytest.approx(1 / 16 / math.sqrt(base) if t == 1 else 0, rel=1e-11)
        # The mean is a line in the output, and root its slope in standard deviations.
        ends = (predict_mean(prediction, x_t + v, x_t, chain, t, t - 1) for v in (0, 1))
        below, above = (float(end[0, 0]) for end in ends)
        assert root == pytest.approx((above - below) / math.sqrt(base), rel=1e-11)
        got = base * np.exp(log_ratio(learned, d0, d1, raw))
        np.testing.assert_allclose(got, step_variance(chain, learned, t - 1, t, raw), rtol=1e-11)


@given(st.data(), betas(), st.sampled_from(KINDS), generators())
def test_steps_between_any_levels(
    data: st.DataObject, noise: Array, learned: Learned, rng: np.random.Generator
) -> None:
    chain, schedule = Chain(noise), Schedule.from_betas(noise.tolist())
    s, t = data.draw(level_pairs(chain.steps))
    v0, v1 = learned_step_columns(schedule, torch.tensor(s), torch.tensor([[t]]), learned)
    assert v0.shape == v1.shape == (1, 1)
    assert v0.dtype == v1.dtype == torch.float64
    raw = rng.normal(size=(1, 5))
    line = float(v0) + float(v1) * (raw if learned == "log" else 1 / (1 + np.exp(-raw)))
    deviation = np.exp(line) if learned == "log" else np.sqrt(line)
    want = np.sqrt(step_variance(chain, learned, s, t, raw))
    np.testing.assert_allclose(deviation, want, rtol=1e-10)


def test_neighbouring_levels_of_a_long_chain() -> None:
    """The logarithm of a ratio near 1 keeps its digits, against thirty of them."""
    noise = np.linspace(1e-6, 1e-3, 5000)
    table = variational_table(Schedule.from_betas(noise.tolist()), "v", "log", 256)
    with mp.workdps(30):
        kept = [mp.mpf(1)]
        for beta in noise.tolist():
            kept.append(kept[-1] * (1 - mp.mpf(beta)))
        for t in range(2, 5001, 119):
            want = float(mp.log((1 - kept[t]) / (1 - kept[t - 1])))
            assert float(table[t, 4]) == pytest.approx(want, rel=1e-13, abs=0)


@pytest.mark.parametrize("learned", KINDS)
def test_without_any_signal_at_the_last_level(learned: Learned) -> None:
    schedule = Schedule.from_betas([0.1, 0.2, 1.0])
    for prediction in PREDICTIONS:
        if prediction in ("x0", "v"):
            assert bool(variational_table(schedule, prediction, learned, 17)[1:].isfinite().all())
            continue
        with pytest.raises(ValueError, match="allowed is 'x0', 'v' or 'mean'"):
            variational_table(schedule, prediction, learned, 17)


@pytest.mark.parametrize("learned", KINDS)
def test_one_level(learned: Learned) -> None:
    schedule = Schedule.from_betas([0.25])
    table = variational_table(schedule, "x0", learned, 3)
    assert bool(table[0].isnan().all())
    # The variance is beta_1 = 1/4, and half the spacing of -1, 0 and 1 is 1/2.
    want = [0.75**0.5, 0.5, 2, 0, 0 if learned == "log" else 1, 1]
    assert table[1].tolist() == pytest.approx(want)
    v0, v1 = learned_step_columns(schedule, torch.tensor(0), torch.tensor(1), learned)
    want = [math.log(0.5), 0] if learned == "log" else [0, 0.25]
    assert [float(v0), float(v1)] == pytest.approx(want)


def test_signed() -> None:
    """-1 and 1 mean what 0 and 1 mean otherwise."""
    schedule = Schedule.linear(7)
    plain = variational_table(schedule, "eps", "log", 17)
    table = variational_table(schedule, "eps", "log", 17, signed=True)
    for raw in (-1.0, 1.0, 0.3):
        got = log_ratio("log", table[1:, 3], table[1:, 4], raw)
        want = log_ratio("log", plain[1:, 3], plain[1:, 4], (raw + 1) / 2)
        torch.testing.assert_close(got, want)
    assert torch.equal(table[:, [0, 1, 2, 5]].nan_to_num(), plain[:, [0, 1, 2, 5]].nan_to_num())
    s, t = torch.tensor([0, 1, 4]), torch.tensor([2, 5, 7])
    v0, v1 = learned_step_columns(schedule, s, t, "log")
    w0, w1 = learned_step_columns(schedule, s, t, "log", signed=True)
    torch.testing.assert_close(w0 - w1, v0)
    torch.testing.assert_close(w0 + w1, v0 + v1)


def test_a_learned_schedule_gives_tables_without_gradients() -> None:
    log_snr = Schedule.linear(5).log_snr.clone().requires_grad_()
    schedule = Schedule(log_snr)
    one: Tensor = torch.tensor(1)
    for learned in KINDS:
        assert not variational_table(schedule, "v", learned, 17).requires_grad
        columns = learned_step_columns(schedule, one - 1, one, learned)
        assert not any(column.requires_grad for column in columns)


BAD = [
    ({"prediction": "mean"}, "prediction = 'mean': allowed is eps, x0, v or score"),
    ({"learned": "none"}, "learned = 'none': allowed is log or sigmoid"),
    ({"learned": "sigmoid", "signed": True}, "signed = True: allowed is False for .*'sigmoid'"),
    ({"grey_levels": 1}, "grey_levels = 1: allowed is 2 to 65536"),
    ({"grey_levels": 65537}, "grey_levels = 65537: allowed is 2 to 65536"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    good = {"prediction": "eps", "learned": "log", "grey_levels": 17}
    schedule = Schedule.linear(5)
    with pytest.raises(ValueError, match=message):
        variational_table(schedule, **{**good, **change})


@pytest.mark.parametrize(("learned", "signed"), [("none", False), ("sigmoid", True)])
def test_bad_input_of_steps(learned: Any, signed: bool) -> None:
    one = torch.tensor(1)
    with pytest.raises(ValueError, match="allowed is"):
        learned_step_columns(Schedule.linear(5), one - 1, one, learned, signed=signed)
