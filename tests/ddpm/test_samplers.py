from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.predictions import Prediction
from ddpm.reference.chain import Chain
from ddpm.reference.ddim import ddim_step
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.posterior import posterior_mean_variance
from ddpm.reference.sampling import ancestral_step
from ddpm.reference.variances import log_interpolated_variance, sigmoid_variance
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import FixedVariance, LearnedVariance
from ddpm.schedule import Schedule
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.strategies import Array, betas, generators, moderate_betas, subsequences

PREDICTIONS = st.sampled_from(get_args(Prediction))
VARIANCES: st.SearchStrategy[FixedVariance] = st.sampled_from(get_args(FixedVariance))
LEARNED: st.SearchStrategy[LearnedVariance] = st.sampled_from(get_args(LearnedVariance))
SD, V0, V1 = 5, 6, 7
# A coefficient is rounded once from float64; two of them differ by at most one unit, 2^-23.
ULP = 2.0**-23


def rows(table: StepTable) -> Array:
    """The float32 coefficients, widened."""
    return np.asarray(table.coefficients.double().numpy())


def apply(row: Array, x: Array, output: Array, z: Array) -> Array:
    """One step in float64, as the documentation of the table says."""
    k_x, k_pred, a, b, c, sd, v0, v1 = row
    assert c == v0 == v1 == 0
    return np.asarray(a * (k_x * x + k_pred * output) + b * x + sd * z)


def size(row: Array, x: Array, output: Array, z: Array) -> Array:
    """Sum of the magnitudes of all terms of a step, the scale of its rounding errors."""
    return apply(np.abs(row), np.abs(x), np.abs(output), np.abs(z))


@settings(max_examples=50)
@given(st.data(), moderate_betas(), PREDICTIONS, VARIANCES, generators())
def test_ancestral_steps_against_the_reference(
    data: st.DataObject,
    values: Array,
    prediction: Prediction,
    variance: FixedVariance,
    rng: np.random.Generator,
) -> None:
    levels = data.draw(subsequences(len(values)))
    chain, schedule = Chain(values), Schedule.from_betas(values.tolist())
    table = ancestral_table(schedule, prediction, levels, variance)
    x, output, z = rng.normal(size=(3, 1, 4))
    assert table.levels.tolist() == levels[:-1]
    for row, t, s in zip(rows(table), levels, levels[1:], strict=False):
        clean = predict_x0(prediction, output, x, chain, t, t - 1)
        want = ancestral_step(chain, s, t, x, clean, z, variance)
        error = np.abs(apply(row, x, output, z) - want)
        np.testing.assert_array_less(error, 3 * ULP * size(row, x, output, z) + 1e-12)


@settings(max_examples=50)
@given(st.data(), moderate_betas(), PREDICTIONS, st.floats(0, 1), generators())
def test_ddim_steps_against_the_reference(
    data: st.DataObject,
    values: Array,
    prediction: Prediction,
    eta: float,
    rng: np.random.Generator,
) -> None:
    levels = data.draw(subsequences(len(values)))
    chain, schedule = Chain(values), Schedule.from_betas(values.tolist())
    table = ddim_table(schedule, prediction, levels, eta)
    x, output, z = rng.normal(size=(3, 1, 4))
    for row, t, s in zip(rows(table), levels, levels[1:], strict=False):
        clean = predict_x0(prediction, output, x, chain, t, t - 1)
        want = ddim_step(chain, s, t, x, clean, z, eta)
        error = np.abs(apply(row, x, output, z) - want)
        np.testing.assert_array_less(error, 3 * ULP * size(row, x, output, z) + 1e-12)


@settings(max_examples=50)
@given(st.data(), betas(terminal=False), PREDICTIONS)
def test_ddim_with_eta_one_is_ancestral(
    data: st.DataObject, values: Array, prediction: Prediction
) -> None:
    levels = data.draw(subsequences(len(values)))
    schedule = Schedule.from_betas(values.tolist())
    one = rows(ddim_table(schedule, prediction, levels, 1.0))
    other = rows(ancestral_table(schedule, prediction, levels, "posterior"))
    # No subtraction on either side: float64 errors, then one rounding to float32 each.
    np.testing.assert_allclose(one, other, rtol=ULP)


@given(st.data(), st.sampled_from(["log_snr_linear", "linear", "cosine"]), st.floats(0, 1))
def test_ddim_keeps_the_marginals(data: st.DataObject, kind: str, eta: float) -> None:
    total = data.draw(st.integers(1, 300))
    schedule = getattr(Schedule, kind)(total)
    levels = data.draw(subsequences(min(total, 40)))
    table = rows(ddim_table(schedule, "x0", levels, eta))
    signal, noise = (power.numpy() for power in (schedule.alpha_bar, schedule.one_minus_alpha_bar))
    for (_, _, a, b, _, sd, _, _), t, s in zip(table, levels, levels[1:], strict=False):
        mean = a + b * np.sqrt(signal[t])
        np.testing.assert_allclose(mean, np.sqrt(signal[s]), rtol=4 * ULP)
        np.testing.assert_allclose(b**2 * noise[t] + sd**2, noise[s], rtol=4 * ULP, atol=1e-12)


@given(moderate_betas(min_steps=3))
def test_the_full_sequence_is_the_training_chain(values: Array) -> None:
    schedule = Schedule.from_betas(values.tolist())
    levels = trailing(len(values))
    beta = rows(ancestral_table(schedule, "x0", levels, "beta"))[:, SD] ** 2
    np.testing.assert_allclose(beta, [*values[:0:-1], 0.0], rtol=2 * ULP)


@given(st.data(), betas(terminal=False, min_steps=2), VARIANCES)
def test_last_step_returns_the_estimate(
    data: st.DataObject, values: Array, variance: FixedVariance
) -> None:
    levels = data.draw(subsequences(len(values)))
    schedule = Schedule.from_betas(values.tolist())
    for table in (
        ancestral_table(schedule, "x0", levels, variance),
        ddim_table(schedule, "x0", levels, 0.7),
    ):
        assert rows(table)[-1].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]


def learned_noise(table: StepTable, row: Array, raw: Array) -> Array:
    """Variance of a step's noise, as the documentation of the table says."""
    if table.learned == "log":
        return np.asarray((row[SD] * np.exp(row[V0] + row[V1] * raw)) ** 2)
    return np.asarray(row[SD] ** 2 * (row[V0] + row[V1] / (1 + np.exp(-raw))))


@settings(max_examples=50)
@given(st.data(), moderate_betas(), PREDICTIONS, LEARNED, generators())
def test_learned_steps_against_the_reference(
    data: st.DataObject,
    values: Array,
    prediction: Prediction,
    variance: LearnedVariance,
    rng: np.random.Generator,
) -> None:
    levels = data.draw(subsequences(len(values)))
    chain, schedule = Chain(values), Schedule.from_betas(values.tolist())
    table = ancestral_table(schedule, prediction, levels, variance)
    assert table.learned == ("sigmoid" if variance == "learned_sigmoid" else "log")
    assert table.noisy == (len(levels) > 2)
    raw, (x, output) = rng.uniform(-3, 3, size=(1, 4)), rng.normal(size=(2, 1, 4))
    for row, t, s in zip(rows(table), levels, levels[1:], strict=False):
        fixed = np.where(np.isin(np.arange(8), [SD, V0, V1]), 0, row)
        clean = predict_x0(prediction, output, x, chain, t, t - 1)
        mean, _ = posterior_mean_variance(chain, s, t, clean, x)
        error = np.abs(apply(fixed, x, output, x) - mean)
        np.testing.assert_array_less(error, 3 * ULP * size(fixed, x, output, x) + 1e-12)
        assert np.isfinite(row).all()
        if s == 0:
            assert row[SD] == 0
        elif variance == "learned_sigmoid":
            want = sigmoid_variance(chain, s, t, raw)
            np.testing.assert_allclose(learned_noise(table, row, raw), want, rtol=4 * ULP)
        else:
            share = raw if variance == "learned" else (raw + 1) / 2
            want = log_interpolated_variance(chain, s, t, share)
            # Twice the errors of v0 and v1, which are logarithms of up to 10 and 3 raw.
            got = learned_noise(table, row, raw)
            np.testing.assert_allclose(got, want, rtol=40 * ULP)


@given(st.data(), moderate_betas(), st.floats(0, 4))
def test_the_best_constant_is_the_variance_that_remains(
    data: st.DataObject, values: Array, spread: float
) -> None:
    """For Gaussian data nothing depends on x_t: Var(x_s | x_t) by conditioning the joint law."""
    schedule, levels = Schedule.from_betas(values.tolist()), data.draw(subsequences(len(values)))
    covariance = joint_covariance(values, spread)
    every = range(1, len(values) + 1)
    known = [max(0.0, condition(covariance, 0, [t])[1]) for t in every]
    error = torch.tensor([np.nan, *known], dtype=torch.float64)
    table = ancestral_table(schedule, "x0", levels, "optimal", error)
    assert table.learned == "none"
    for row, t, s in zip(rows(table), levels, levels[1:], strict=False):
        want = condition(covariance, s, [t])[1] if s else 0.0
        # Two roundings to float32; the conditioning subtracts numbers near one.
        assert row[SD] ** 2 == pytest.approx(want, rel=2 * ULP, abs=1e-12)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, r"error = None: allowed for variance 'optimal' is float64 \(4,\)"),
        (torch.zeros(4), r"error = torch.float32 \(4,\): allowed"),
        (torch.zeros(3).double(), r"error = torch.float64 \(3,\): allowed"),
        (torch.tensor([0, 0.1, -0.5, 0]).double(), r"error\[2\] = -0.5: allowed is a finite"),
        (torch.tensor([0, 0.1, 0, torch.nan]).double(), r"error\[3\] = nan: allowed is a finite"),
    ],
)
def test_errors_that_do_not_fit(error: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ancestral_table(Schedule.cosine(3), "x0", [3, 0], "optimal", error)


def test_an_error_where_none_is_used() -> None:
    with pytest.raises(ValueError, match="error is given: allowed for variance = 'beta' is None"):
        ancestral_table(Schedule.cosine(3), "x0", [3, 0], "beta", torch.zeros(4).double())


def test_noisy_says_whether_noise_is_drawn() -> None:
    schedule = Schedule.cosine(10)
    assert not ddim_table(schedule, "eps", trailing(10), 0.0).noisy
    assert ddim_table(schedule, "eps", trailing(10), 0.1).noisy
    assert ancestral_table(schedule, "eps", trailing(10), "posterior").noisy
    assert not ancestral_table(schedule, "eps", trailing(10, 1), "posterior").noisy


def test_form_of_a_table() -> None:
    log_snr = torch.linspace(3, -3, 5, dtype=torch.float64).requires_grad_()
    clean = torch.tensor([torch.inf], dtype=torch.float64)
    table = ddim_table(Schedule(torch.cat([clean, log_snr])), "v", [5, 2, 0], 0.5)
    assert table.coefficients.shape == (2, 8)
    assert table.coefficients.dtype == torch.float32
    assert not table.coefficients.requires_grad
    assert table.levels.dtype == torch.int64
    moved = table.to("meta")
    assert moved.coefficients.device.type == moved.levels.device.type == "meta"
    assert moved.noisy == table.noisy
    assert moved.path == table.path == (5, 2, 0)
    assert moved.learned == table.learned == "none"
    assert moved.reads_history == table.reads_history == (False, False)
    assert not table.needs_history


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_sampling_from_zero_terminal_snr(prediction: Prediction) -> None:
    schedule = Schedule.from_betas([0.1, 0.3, 1.0])
    for table in (
        ddim_table(schedule, prediction, [3, 2, 1, 0], 0.0),
        ddim_table(schedule, prediction, [3, 1, 0], 1.0),
        ancestral_table(schedule, prediction, [3, 2, 0], "posterior"),
        ancestral_table(schedule, prediction, [3, 0], "beta"),
    ):
        assert bool(table.coefficients.isfinite().all())


@pytest.mark.parametrize("levels", [[], [0], [3, 1], [1, 3, 0], [4, 0]])
def test_levels_are_checked(levels: list[int]) -> None:
    schedule = Schedule.cosine(3)
    with pytest.raises(ValueError, match="levels = "):
        ddim_table(schedule, "eps", levels, 0.0)
    with pytest.raises(ValueError, match="levels = "):
        ancestral_table(schedule, "eps", levels, "beta")


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_out_of_range(eta: float) -> None:
    with pytest.raises(ValueError, match=rf"eta = {eta}: allowed is \[0, 1\]"):
        ddim_table(Schedule.cosine(3), "eps", [3, 0], eta)


def test_unknown_variance() -> None:
    with pytest.raises(ValueError, match="variance = 'large': allowed is one of posterior, beta, "):
        ancestral_table(Schedule.cosine(3), "eps", [3, 0], "large")  # type: ignore[arg-type]
