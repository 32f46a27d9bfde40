import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from ddpm.schedule import Schedule

S, T = torch.tensor([1, 2, 1]), torch.tensor([2, 4, 4])


def learned(drops: Tensor) -> Schedule:
    """A schedule that learns its log-SNR: from 5 downwards by exp(drops)."""
    log_snr = 5 - torch.cumsum(drops.exp(), dim=0)
    return Schedule(torch.cat([log_snr.new_full((1,), math.inf), log_snr]))


def everything(drops: Tensor) -> tuple[Tensor, ...]:
    schedule = learned(drops)
    return (
        schedule.alpha_bar,
        schedule.one_minus_alpha_bar,
        schedule.snr[1:],
        schedule.snr_drop[2:],
        schedule.beta[1:],
        schedule.step_beta(S, T),
        *schedule.posterior(S, T),
        *schedule.posterior(S - 1, S),
    )


@settings(max_examples=20)
@given(st.lists(st.floats(-1, 1.5), min_size=4, max_size=4))
def test_gradients_against_finite_differences(drops: list[float]) -> None:
    assert gradcheck(everything, torch.tensor(drops, dtype=torch.float64, requires_grad=True))


def test_gradients_flow_through_betas() -> None:
    def alpha_bar(logits: Tensor) -> Tensor:
        return Schedule.from_betas(torch.sigmoid(logits)).alpha_bar

    assert gradcheck(alpha_bar, torch.linspace(-4, 1, 6, dtype=torch.float64).requires_grad_())


def test_float32_tables_do_not_require_grad() -> None:
    schedule = learned(torch.zeros(4, dtype=torch.float64, requires_grad=True))
    assert not schedule.signal.requires_grad
    assert not schedule.sigma.requires_grad


def test_a_table_that_is_no_float64_tensor() -> None:
    with pytest.raises(TypeError, match=r"log_snr has dtype torch.float32.*float64"):
        Schedule(torch.tensor([math.inf, 1.0]))


@pytest.mark.parametrize(
    "values",
    [
        [math.inf, 1.0, 1.0],
        [math.inf, 1.0, 2.0],
        [3.0, 1.0],
        [math.inf, math.nan],
        [math.inf, math.inf, 1.0],
        [math.inf, 0.0, -math.inf, -math.inf],
    ],
)
def test_a_table_that_does_not_decrease(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"log_snr = .*strictly decreasing.*\+inf"):
        Schedule(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 2)])
def test_a_table_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"log_snr has shape \(.*T \+ 1"):
        Schedule(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("steps", [0, -3])
@pytest.mark.parametrize("make", [Schedule.log_snr_linear, Schedule.linear, Schedule.cosine])
def test_no_steps(make: type[Schedule], steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps = {steps}: allowed"):
        make(steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([0.1, 0.0], r"betas\[1\] = 0.0 \(level 2\)"),
        ([-0.1], r"betas\[0\] = -0.1"),
        ([0.1, 1.5], r"betas\[1\] = 1.5"),
        ([0.1, math.nan], r"betas\[1\] = nan"),
        ([0.1, 1.0, 0.1], r"betas\[1\] = 1.0.*only at the last"),
        ([1.0, 1.0], r"betas\[0\] = 1.0"),
        ([], r"betas has shape \(0,\)"),
        ([[0.1]], r"betas has shape \(1, 1\)"),
    ],
)
def test_betas_out_of_range(betas: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule.from_betas(betas)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (0.0, 1.0), (math.inf, 0.0), (0.0, math.nan)])
def test_ends_of_the_log_snr(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"log_snr_max, log_snr_min = .*allowed"):
        Schedule.log_snr_linear(5, *ends)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan])
def test_ends_of_the_linear_betas(value: float) -> None:
    with pytest.raises(ValueError, match=r"beta_start = .*allowed"):
        Schedule.linear(5, beta_start=value)
    with pytest.raises(ValueError, match=r"beta_end = .*allowed"):
        Schedule.linear(5, beta_end=value)


def test_arguments_of_the_cosine() -> None:
    with pytest.raises(ValueError, match=r"offset = -0.1: allowed"):
        Schedule.cosine(5, offset=-0.1)
    with pytest.raises(ValueError, match=r"offset = nan: allowed"):
        Schedule.cosine(5, offset=math.nan)
    with pytest.raises(ValueError, match=r"max_beta = 1.0: allowed"):
        Schedule.cosine(5, max_beta=1.0)


def test_log_alpha_bar_is_taken_as_it_is() -> None:
    log_alpha_bar = torch.tensor([-1e-3, -0.5, -40.0], dtype=torch.float64)
    got = Schedule.from_log_alpha_bar(log_alpha_bar).alpha_bar[1:]
    torch.testing.assert_close(got, log_alpha_bar.exp(), rtol=1e-13, atol=0)
