"""Log-SNR and estimates between levels: straight lines, exact noising and exact denoisers."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import ddpm
from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.learned_schedule import MonotoneLogSnr, ScheduledNetwork
from ddpm.predictions import Prediction, x0_coefficients_at
from ddpm.samplers.continuous import ContinuousDenoiser, check_between, times_of
from ddpm.samplers.loop import Guidance
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, moderate_betas

SCHEDULES = {
    "log_snr_linear": Schedule.log_snr_linear(40, 6.0, -6.0),
    "cosine": Schedule.cosine(30),
    "linear": Schedule.linear(1000),
    "one": Schedule.log_snr_linear(1),
}
MIXTURE = GaussianMixture([0.3, 0.7], [[-0.7, 0.2], [0.5, -0.1]], [0.05, 0.2])
BETWEEN: tuple[Prediction, ...] = ("eps", "x0", "v", "score")


def exact(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_whole_levels_have_the_table_s_own_numbers(schedule: Schedule) -> None:
    t = torch.arange(1, schedule.steps + 1)
    for given_as in (t, t.double(), t.float()):
        assert torch.equal(schedule.log_snr_at(given_as), schedule.log_snr[1:])
    assert torch.equal(schedule.level_of(schedule.log_snr[1:]), t.double())
    assert schedule.log_snr_at(t[0]).shape == ()


@given(st.data(), moderate_betas(min_steps=2))
def test_levels_between_lie_on_straight_lines(data: st.DataObject, betas: Array) -> None:
    schedule = Schedule.from_betas(betas.tolist())
    t = data.draw(st.floats(1, schedule.steps))
    want = np.interp(t, np.arange(1, schedule.steps + 1), schedule.log_snr[1:].numpy())
    found = schedule.log_snr_at(exact(t))
    assert found.item() == pytest.approx(want, rel=1e-12, abs=1e-12)
    again = float(schedule.level_of(found))
    # A flat stretch of the table forgets the place in it.
    slope = float(schedule.fall(torch.tensor(math.ceil(again)) - 1, torch.tensor(math.ceil(again))))
    assert abs(again - t) < 1e-9 + 1e-14 * (1 + abs(found.item())) / slope


def test_levels_where_no_signal_is_left() -> None:
    schedule = Schedule.log_snr_linear(5, 4.0, -4.0).with_zero_terminal_snr()
    found = schedule.log_snr_at(exact(1, 3.5, 4, 4.25, 5))
    assert found[:3].isfinite().all()
    assert found[3:].isneginf().all()
    with pytest.raises(ValueError, match=r"log_snr from -inf .* allowed is -inf to 4.0, finite"):
        schedule.level_of(exact(-math.inf))
    with pytest.raises(ValueError, match=r"levels begin at 5: allowed .* at most 4; zero SNR"):
        times_of(schedule, [5, 3, 0])
    assert times_of(schedule, [4, 3, 0]).tolist() == (schedule.log_snr[[4, 3]] / 2).tolist()


def test_levels_and_log_snrs_outside_are_refused() -> None:
    schedule = SCHEDULES["log_snr_linear"]
    for wrong in (0.999, 40.001, math.nan):
        with pytest.raises(ValueError, match=r"t from .* allowed is 1 to T = 40"):
            schedule.log_snr_at(exact(2.5, wrong))
    for wrong in (6.001, -6.001, math.nan):
        with pytest.raises(ValueError, match=r"log_snr from .* allowed is -6.0 to 6.0"):
            schedule.level_of(exact(0.0, wrong))


@given(st.sampled_from(BETWEEN), st.floats(-12, 12), st.floats(-2, 2), st.floats(-3, 3))
def test_the_line_undoes_the_noising(
    prediction: Prediction, log_snr: float, clean: float, eps: float
) -> None:
    """The outputs are those of their definitions, from x_0 and its noise."""
    power = 1 / (1 + math.exp(-log_snr))
    alpha, sigma = math.sqrt(power), math.sqrt(1 / (1 + math.exp(log_snr)))
    output = {"eps": eps, "x0": clean, "v": alpha * eps - sigma * clean, "score": -eps / sigma}
    k_x, k_out = (float(k) for k in x0_coefficients_at(prediction, exact(log_snr)[0]))
    found = k_x * (alpha * clean + sigma * eps) + k_out * output[prediction]
    assert found == pytest.approx(clean, abs=1e-12 * (1 + 10 / alpha))


@settings(max_examples=30)
@given(st.sampled_from(BETWEEN), st.floats(-6, 6))
def test_an_exact_network_gives_the_exact_denoiser_at_any_log_snr(
    prediction: Prediction, log_snr: float
) -> None:
    schedule = SCHEDULES["log_snr_linear"]
    denoiser = ContinuousDenoiser(
        GaussianDiffusion(schedule, prediction), MIXTURE.network(schedule, prediction)
    )
    x = torch.linspace(-2, 2, 6, dtype=torch.float64).view(3, 2)
    power = 1 / (1 + math.exp(-log_snr))
    want = MIXTURE.posterior(x, exact(power)[0].sqrt(), exact(1 - power)[0].sqrt()).mean
    found = denoiser.x0_hat(x, exact(log_snr)[0])
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-9)
    assert denoiser.x0_hat(x.float(), exact(log_snr)[0]).dtype == torch.float32
    assert denoiser.calls == 2


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {
        "unet": ddpm.UNet(ddpm.UNetConfig(image_channels=1, channels=8)),
        "mlp": ddpm.MLP(ddpm.MLPConfig(width=32, depth=1), (1, 8, 8)),
        "transformer": ddpm.Transformer(ddpm.TransformerConfig(width=16, depth=1, heads=2), 1),
    }
    for network in found.values():
        network.requires_grad_(False)
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return found


@pytest.mark.parametrize("name", ["unet", "mlp", "transformer"])
def test_networks_with_a_code_of_the_level_are_smooth_in_it(name: str) -> None:
    schedule, network = SCHEDULES["log_snr_linear"], networks()[name]
    diffusion, x = GaussianDiffusion(schedule, "v"), torch.randn(2, 1, 8, 8)
    denoiser = ContinuousDenoiser(diffusion, network)
    t = torch.tensor([7, 7])
    whole = denoiser.x0_hat(x, schedule.log_snr[7])
    want = diffusion.predict_xstart(network(x, t), x, t)
    torch.testing.assert_close(whole, want, rtol=1e-6, atol=1e-6)
    near, far = (network(x, t + share) - network(x, t) for share in (0.01, 0.02))
    # A hundredth of a level moves the output, and twice as far twice as much.
    assert near.abs().max() > 1e-6
    torch.testing.assert_close(far, 2 * near, rtol=0.02, atol=0.03 * float(near.abs().max()))
    assert denoiser.x0_hat(x.double(), schedule.log_snr[7]).dtype == torch.float64


def test_what_the_network_is_given() -> None:
    schedule, seen = SCHEDULES["log_snr_linear"], []
    diffusion = GaussianDiffusion(schedule, "x0", "learned_range")

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        seen.append((x.dtype, t, labels))
        return torch.cat([labels.to(x.dtype)[:, None].expand_as(x), 9 + x], dim=1)

    labels, none = torch.tensor([3, 5]), torch.tensor([1, 1])
    guidance = Guidance(torch.tensor([0.5, 2.0]), {"labels": none})
    denoiser = ContinuousDenoiser(diffusion, network, {"labels": labels}, guidance=guidance)
    middle = schedule.log_snr[[11, 12]].mean()
    found = denoiser.x0_hat(torch.zeros(2, 3, dtype=torch.float64), middle)
    # 1 + 0.5 (3 - 1) and 1 + 2 (5 - 1).
    assert found.tolist() == [[2.0] * 3, [9.0] * 3]
    dtype, t, asked = seen[-1]
    assert dtype == torch.float32
    torch.testing.assert_close(t, torch.full((4,), 11.5))
    assert asked.tolist() == [3, 5, 1, 1]
    assert denoiser.calls == 1
    clipped = ContinuousDenoiser(diffusion, network, {"labels": labels}, clip_denoised=True)
    assert clipped.x0_hat(torch.zeros(2, 3), middle).tolist() == [[1.0] * 3] * 2


def test_what_knows_whole_levels_alone_is_refused() -> None:
    schedule = SCHEDULES["log_snr_linear"]
    with pytest.raises(ValueError, match="'mean': allowed between levels is 'eps', 'x0', 'v'"):
        ContinuousDenoiser(GaussianDiffusion(schedule, "mean"), lambda x, _: x)
    untied = ddpm.Untied(ddpm.UntiedConfig(levels=40, hidden=(4,)), (2,))
    with pytest.raises(ValueError, match=r"has a network Untied: allowed .* as UNet"):
        ContinuousDenoiser(GaussianDiffusion(schedule), nn.Sequential(untied))
    scheduled = ScheduledNetwork(nn.Identity(), MonotoneLogSnr(5, -5, 4), 40)
    with pytest.raises(ValueError, match=r"ScheduledNetwork: allowed .* it returns losses"):
        check_between(scheduled)
    with pytest.raises(ValueError, match="uncond has labels: allowed are names of conditions"):
        ContinuousDenoiser(
            GaussianDiffusion(schedule), lambda x, _: x, guidance=Guidance(2.0, {"labels": 1})
        ).x0_hat(torch.zeros(1, 2), schedule.log_snr[3])
    assert set(BETWEEN) | {"mean"} == set(get_args(Prediction))


def test_a_network_without_a_gradient_is_refused_where_one_is_needed() -> None:
    schedule = SCHEDULES["log_snr_linear"]
    denoiser = ContinuousDenoiser(GaussianDiffusion(schedule), lambda x, _: x.detach())
    with pytest.raises(ValueError, match="tensor without a gradient: allowed"):
        denoiser.x0_hat(torch.zeros(1, 2, requires_grad=True), schedule.log_snr[3])
    assert denoiser.x0_hat(torch.zeros(1, 2), schedule.log_snr[3]).shape == (1, 2)
