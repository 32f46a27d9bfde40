from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddpm.predictions import (
    ALIASES,
    Prediction,
    canonical,
    check_prediction,
    x0_coefficients,
)
from ddpm.schedule import Schedule
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.strategies import Array, generators, moderate_betas

NAMES = get_args(Prediction)


def score(x_t: Tensor, x0: Tensor, signal: float) -> Tensor:
    """The gradient of log q(x_t | x_0), by automatic differentiation of torch's density."""
    x = x_t.clone().requires_grad_()
    density = torch.distributions.Normal(signal * x0, (1 - signal**2) ** 0.5)
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)  # type: ignore[no-untyped-call]
    result: Tensor = gradient.detach()
    return result


def output_of(prediction: str, betas: Array, t: int, x0: Tensor, eps: Tensor) -> Tensor:
    """What a perfect network returns, from the definition of each prediction."""
    signal = float(np.prod(np.sqrt(1 - betas[:t])))
    sigma = (1 - signal**2) ** 0.5
    x_t = signal * x0 + sigma * eps
    if prediction == "mean":
        weights, _ = condition(joint_covariance(betas), t - 1, [0, t])
        # Level 0 is x_0 itself, and the covariance of (x_0, x_0) would be singular.
        return x0 if t == 1 else weights[0] * x0 + weights[1] * x_t
    outputs: dict[str, Tensor] = {
        "eps": eps,
        "x0": x0,
        "v": signal * eps - sigma * x0,
        "score": score(x_t, x0, signal),
    }
    return outputs[prediction]


@given(st.data(), st.sampled_from(NAMES), moderate_betas(), generators())
def test_the_clean_sample_is_recovered(
    data: st.DataObject, prediction: Prediction, betas: Array, rng: np.random.Generator
) -> None:
    t = data.draw(st.integers(1, len(betas)))
    x0, eps = (torch.tensor(rng.normal(size=5)) for _ in range(2))
    signal = float(np.prod(np.sqrt(1 - betas[:t])))
    output = output_of(prediction, betas, t, x0, eps)
    k_x, k_out = x0_coefficients(Schedule.from_betas(betas.tolist()), prediction, torch.tensor([t]))
    got = k_x * (signal * x0 + (1 - signal**2) ** 0.5 * eps) + k_out * output
    # Errors of 1e-15 grow by 1 / signal <= 16, and by 1 / a <= 1000 where a mean is solved for x0.
    torch.testing.assert_close(got, x0, rtol=1e-11, atol=1e-11)


@given(st.sampled_from(NAMES), moderate_betas(), st.lists(st.integers(1, 8), max_size=5))
def test_one_pair_of_float64_coefficients_a_level(
    prediction: Prediction, betas: Array, levels: list[int]
) -> None:
    t = torch.tensor(levels, dtype=torch.int64).clamp(max=len(betas))
    schedule = Schedule.from_betas(betas.tolist())
    together = torch.stack(x0_coefficients(schedule, prediction, t), dim=-1)
    assert together.dtype == torch.float64
    assert together.shape == (len(levels), 2)
    for row, level in zip(together, t, strict=True):
        alone = torch.stack(x0_coefficients(schedule, prediction, level))
        assert torch.equal(row, alone)


def test_v_and_x0_work_without_any_signal() -> None:
    schedule = Schedule.from_betas([0.3, 1.0])
    last = torch.tensor([2])
    assert [float(k) for k in x0_coefficients(schedule, "v", last)] == [0.0, -1.0]
    assert [float(k) for k in x0_coefficients(schedule, "x0", last)] == [0.0, 1.0]
    check_prediction("v", schedule)
    check_prediction("x0", schedule)


def test_the_mean_determines_the_clean_image_without_any_signal() -> None:
    """An x_2 without signal says nothing of x_1, whose mean is then sqrt(alpha_bar_1) x_0."""
    schedule = Schedule.from_betas([0.36, 1.0])
    coefficients = x0_coefficients(schedule, "mean", torch.tensor([2]))
    assert [float(k) for k in coefficients] == pytest.approx([0.0, 1 / 0.8])
    check_prediction("mean", schedule)


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_predictions_that_divide_by_the_signal(prediction: Prediction) -> None:
    with pytest.raises(ValueError, match=rf"prediction = '{prediction}': allowed is 'x0', 'v'"):
        check_prediction(prediction, Schedule.from_betas([0.3, 1.0]))
    check_prediction(prediction, Schedule.from_betas([0.3, 0.999]))


def test_names() -> None:
    assert [canonical(name) for name in NAMES] == list(NAMES)
    aliases = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
    objectives = {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}
    assert aliases | objectives == ALIASES
    assert {name: canonical(name) for name in ALIASES} == ALIASES


@pytest.mark.parametrize("name", ["", "EPS", "noise", "xstart", "eps "])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match=rf"prediction = '{name}': allowed is one of .*eps.*epsi"):
        canonical(name)
