import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ddpm.diffusion import GaussianDiffusion
from ddpm.kernels.normal import normal
from ddpm.kernels.philox import normals
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.learned_schedule import MonotoneLogSnr, NetworkObjective, ScheduledNetwork
from ddpm.likelihood import NATS_PER_BIT, level_bits
from ddpm.models.initialise import build
from ddpm.models.mlp import MLP, MLPConfig
from ddpm.predictions import TRAINABLE, Prediction
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.schedules import log_snr_schedule
from ddpm.verify.strategies import Array

OBJECTIVES: tuple[NetworkObjective, ...] = get_args(NetworkObjective)


def moved(schedule: MonotoneLogSnr, seed: int, size: float) -> MonotoneLogSnr:
    """The schedule with its parameters somewhere else."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.copy_(torch.from_numpy(size * generator.standard_normal(parameter.shape)))
    return schedule


# --- the curve


@settings(max_examples=60)
@given(
    st.integers(0, 2**32), st.floats(0, 5), st.integers(1, 6), st.integers(2, 300),
    st.floats(-15, 15), st.floats(0.5, 30),
)  # fmt: skip
def test_monotone_between_exact_ends(
    seed: int, size: float, hidden: int, levels: int, last: float, way: float
) -> None:
    learned = moved(MonotoneLogSnr(last + way, last, hidden), seed, size)
    table = learned.schedule(levels).log_snr
    assert table.dtype == torch.float64
    assert table[0] == math.inf
    assert table[[1, -1]].tolist() == [last + way, last]
    assert bool((table[1:].diff() < 0).all())


def test_rounding_does_not_move_the_ends() -> None:
    for levels in range(2, 41):
        table = moved(MonotoneLogSnr(5.1, -4.9, 17), levels, 1.0).schedule(levels).log_snr
        assert table[[1, -1]].tolist() == [5.1, -4.9]


def test_no_two_of_many_levels_meet() -> None:
    learned = MonotoneLogSnr(6.0, -6.0, 8)
    with torch.no_grad():
        learned.slope.fill_(-60.0)
        learned.sharpness.fill_(60.0)
        learned.height.copy_(torch.linspace(-60, 60, 8))
    table = learned.schedule(100_000).log_snr
    assert float(-table[1:].diff().max()) > 1e-8


def test_an_untrained_schedule_is_nearly_a_line() -> None:
    table = build(lambda: MonotoneLogSnr(6.4, -6.1), 0, "cpu").table(401).detach()
    fall = -table.diff() * 400 / 12.5
    assert 0.99 < float(fall.min()) <= float(fall.max()) < 1.01


def test_the_schedule_is_the_table_without_its_gradient() -> None:
    learned = moved(MonotoneLogSnr(5.0, -5.0, 8), 3, 1.0)
    table, frozen = learned.table(9000), learned.schedule(9000).log_snr
    assert table.requires_grad
    assert not frozen.requires_grad
    assert torch.equal(table.detach(), frozen[1:])


def test_weights_of_the_network_are_those_it_has_by_itself() -> None:
    shape, config = (1, 4, 4), MLPConfig(width=8, depth=1)
    alone = build(lambda: MLP(config, shape), 7, "cpu").state_dict()
    both = build(lambda: ScheduledNetwork(MLP(config, shape), MonotoneLogSnr(5, -5), 9), 7, "cpu")
    for name, value in both.network.state_dict().items():
        assert torch.equal(value, alone[name])
    assert all(not p.any() for p in both.schedule.parameters())


# --- the gradient of the schedule, with a network for which the expectation is a sum

LEVELS = 5
DATA = np.array([-1.0, 0.3, 1.0])
SLOPES = np.array([0.0, 0.4, -0.2, 0.7, 0.5, 0.3])
SHIFTS = np.array([0.0, 0.1, 0.3, -0.2, 0.05, -0.4])


class Affine(nn.Module):
    """slope[t] x + shift[t]."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.from_numpy(SLOPES))
        self.shift = nn.Parameter(torch.from_numpy(SHIFTS))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.slope[t][:, None] * x + self.shift[t][:, None]


def mean_square(table: Array, prediction: Prediction) -> float:
    """E l^2 over levels, three clean values and normal noise, by moments of affine errors."""
    chain = log_snr_schedule(table)
    total = 0.0
    for t in range(2, LEVELS + 1):
        signal, sigma = np.sqrt(chain.alpha_bar[t]), np.sqrt(1 - chain.alpha_bar[t])
        x_t = signal * DATA + sigma * np.array([[0.0], [1.0]])
        clean = predict_x0(prediction, SLOPES[t] * x_t + SHIFTS[t], x_t, chain, np.array([t, t]))
        mu, rate = clean[0] - DATA, clean[1] - clean[0]
        fourth = (mu**4 + 6 * mu**2 * rate**2 + 3 * rate**4).mean()
        drop = float(chain.snr_drop(t - 1, t))
        total += (LEVELS / 2 * drop) ** 2 * float(fourth) / LEVELS
    return total


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("prediction", TRAINABLE)
def test_gradient_of_the_schedule_is_that_of_the_mean_square(
    prediction: Prediction, objective: NetworkObjective
) -> None:
    schedule = moved(MonotoneLogSnr(2.0, -3.0, 3), 5, 0.1).double()
    both = ScheduledNetwork(Affine(), schedule, LEVELS, prediction, objective, share=0.5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    x, noise, t = (
        torch.from_numpy(part.ravel())
        for part in np.meshgrid(DATA, nodes, np.arange(1, LEVELS + 1), indexing="ij")
    )
    chance = np.tile((weights / weights.sum())[None, :, None], (3, 1, LEVELS)) / 3 / LEVELS
    losses = both(x[:, None], t, noise[:, None], weight=torch.from_numpy(chance.ravel()))
    losses.sum().backward()

    def at() -> float:
        with torch.no_grad():
            return 0.5 * mean_square(schedule.table(LEVELS).numpy(), prediction)

    step = 1e-5
    for parameter in schedule.parameters():
        want = torch.zeros_like(parameter)
        for index in range(len(parameter)):
            sides = []
            for change in (step, -step):
                with torch.no_grad():
                    parameter[index] += change
                    sides.append(at())
                    parameter[index] -= change
            want[index] = (sides[0] - sides[1]) / (2 * step)
        torch.testing.assert_close(parameter.grad, want, rtol=1e-6, atol=1e-7)


# --- the network's side

SHAPE, STEPS, BATCH = (1, 4, 4), 12, 24


def example(prediction: Prediction, objective: NetworkObjective) -> ScheduledNetwork:
    config = MLPConfig(width=8, depth=1)
    both = build(
        lambda: ScheduledNetwork(
            MLP(config, SHAPE), MonotoneLogSnr(4.0, -4.0, 16), STEPS, prediction, objective
        ),
        1, "cpu",
    )  # fmt: skip
    moved(both.schedule, 2, 0.2)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in both.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return both


def batch() -> tuple[Tensor, Tensor, Tensor]:
    key = Key.of(6, range(BATCH))
    x, noise = (
        normals(key.seed, key.step, key.sample, stream, 16).view(-1, *SHAPE)
        for stream in (Stream.SAMPLING_NOISE, Stream.TRAINING_NOISE)
    )
    return x.clamp(-1, 1), torch.arange(BATCH) % STEPS + 1, noise


def gradients(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("prediction", TRAINABLE)
def test_the_network_learns_as_under_the_frozen_schedule(
    prediction: Prediction, objective: NetworkObjective
) -> None:
    both, (x, t, noise) = example(prediction, objective), batch()
    factor = torch.linspace(0.5, 2, BATCH)
    got = both(x, t, noise, weight=factor)
    got.mean().backward()
    schedule = both.schedule.schedule(STEPS)
    weighting = "simple" if objective == "simple" else "snr_drop"
    weight = factor if objective == "simple" else STEPS * factor
    diffusion = GaussianDiffusion(schedule, prediction, weighting=weighting)
    found = gradients(both.network)
    assert float(gradients(both.schedule).abs().sum()) > 0
    both.zero_grad()
    want = diffusion.training_losses(both.network, x, t, noise, weight=weight)
    want.mean().backward()  # type: ignore[no-untyped-call]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=2e-5, atol=0)
    scale = float(found.abs().max())
    torch.testing.assert_close(found, gradients(both.network), rtol=1e-4, atol=1e-5 * scale)


def test_terms_of_the_bound_are_those_of_the_evaluation() -> None:
    both, (x, _, _) = example("v", "simple"), batch()
    diffusion = GaussianDiffusion(both.schedule.schedule(STEPS), "v")
    for t in (2, 7, STEPS):
        key = Key.of(3, range(BATCH), step=t)
        noise = normal(
            key.seed, key.step, key.sample, Stream.EVALUATION_NOISE, list(SHAPE), torch.float32
        )
        got = both.bound_terms(x, torch.full((BATCH,), t), noise)
        with torch.no_grad():
            want = STEPS * NATS_PER_BIT * level_bits(diffusion, both.network, x, t, 3)
        assert not got.requires_grad
        assert float(got.mean()) == pytest.approx(want, rel=1e-5)
    assert not both.bound_terms(x, torch.ones(BATCH, dtype=torch.int64), torch.ones_like(x)).any()


def test_level_1_and_a_frozen_schedule_teach_the_schedule_nothing() -> None:
    both, (x, _, noise) = example("eps", "vlb"), batch()
    both(x, torch.ones(BATCH, dtype=torch.int64), noise).mean().backward()
    assert not gradients(both.schedule).any()
    both.zero_grad()
    both.schedule.requires_grad_(False)
    both(x, torch.full((BATCH,), 4), noise).mean().backward()
    assert all(p.grad is None for p in both.schedule.parameters())
    assert gradients(both.network).any()


def test_conditions_reach_the_network() -> None:
    class Labelled(nn.Module):
        def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            return x * (labels + 0 * t).view(-1, 1, 1, 1)

    both, (x, t, noise) = ScheduledNetwork(Labelled(), MonotoneLogSnr(4, -4, 2), STEPS), batch()
    first, second = (both(x, t, noise, labels=torch.full((BATCH,), k)) for k in (1, 2))
    assert not torch.equal(first, second)
    terms = [both.bound_terms(x, t, noise, labels=torch.full((BATCH,), k)) for k in (1, 2)]
    assert not torch.equal(*terms)


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_an_update_under_ddp_is_that_without() -> None:
    both, given = example("eps", "simple"), batch()
    both(*given).mean().backward()
    want = gradients(both)
    both.zero_grad()
    DistributedDataParallel(both)(*given).mean().backward()
    assert torch.equal(gradients(both), want)


def test_a_float16_loss_scale_multiplies_both_gradients() -> None:
    both, given = example("v", "simple"), batch()
    both(*given).mean().backward()
    want = gradients(both)
    both.zero_grad()
    (1024 * both(*given).mean()).backward()
    torch.testing.assert_close(gradients(both), 1024 * want, rtol=1e-5, atol=1e-6)


# --- what is refused


@pytest.mark.parametrize("ends", [(1.0, 1.0), (0.0, 1.0), (math.inf, 0.0), (0.0, math.nan)])
def test_ends(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"log_snr_max, log_snr_min = .*allowed"):
        MonotoneLogSnr(*ends)


def test_hidden() -> None:
    with pytest.raises(ValueError, match="hidden = 0: allowed"):
        MonotoneLogSnr(1.0, 0.0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 1}, "levels = 1: allowed"),
        ({"prediction": "mean"}, "prediction = 'mean': allowed"),
        ({"objective": "hybrid"}, "objective = 'hybrid': allowed"),
        ({"share": 0.0}, "share = 0.0: allowed"),
        ({"share": math.nan}, "share = nan: allowed"),
    ],
)
def test_options(arguments: dict[str, Any], message: str) -> None:
    given = {"levels": 5, **arguments}
    with pytest.raises(ValueError, match=message):
        ScheduledNetwork(Affine(), MonotoneLogSnr(1.0, 0.0, 2), **given)


@pytest.mark.parametrize("levels", [1, 0])
def test_levels(levels: int) -> None:
    with pytest.raises(ValueError, match=f"levels = {levels}: allowed"):
        MonotoneLogSnr(1.0, 0.0, 2).table(levels)
    with pytest.raises(ValueError, match=f"levels = {levels}: allowed"):
        MonotoneLogSnr(1.0, 0.0, 2).schedule(levels)
