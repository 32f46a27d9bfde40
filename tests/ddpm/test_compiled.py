"""torch.compile of training steps and sampler loops: one graph, whatever t, step, seed or sample.

A graph break is an error under fullgraph; a recompilation would be a second frame of the counter.
"""

# The tests of an op call torch functions that have no types.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from ddpm.diffusion import GaussianDiffusion
from ddpm.kernels.dynamic_threshold import dynamic_threshold
from ddpm.kernels.sampler_step import sampler_step, sampler_step_multistep
from ddpm.keys import Key
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.multistep import dpm_solver_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

SHAPE = (3, 2, 4, 4)
STEPS = 20
SCHEDULE = Schedule.log_snr_linear(STEPS)
LEVELS = trailing(STEPS, 5)


@pytest.fixture
def counter() -> Iterator[CompileCounterWithBackend]:
    """Counts graphs, with nothing compiled before."""
    torch._dynamo.reset()
    counters.clear()
    yield CompileCounterWithBackend("aot_eager")
    assert not counters["graph_break"]
    torch._dynamo.reset()


class Network(nn.Module):
    """A convolution, with the level as its bias."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(SHAPE[1], outputs, 3, padding=1)
        for number, parameter in enumerate(self.parameters()):
            nn.init.constant_(parameter, 0.05 * (number + 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.body(x)
        return output + t.to(x.dtype).view(-1, 1, 1, 1) / STEPS


DIFFUSIONS = {
    "simple": GaussianDiffusion(SCHEDULE, "v"),
    "weighted": GaussianDiffusion(SCHEDULE, "eps", weighting="min_snr"),
    "hybrid": GaussianDiffusion(SCHEDULE, "eps", "learned"),
    "bound": GaussianDiffusion(SCHEDULE, "x0", "learned_sigmoid", objective="vlb"),
}


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters())))


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_a_training_step_compiles_once(counter: CompileCounterWithBackend, name: str) -> None:
    diffusion = DIFFUSIONS[name]
    network = Network(2 if diffusion.learned == "none" else 4)

    def loss(x0: Tensor, t: Tensor, seed: Tensor, step: Tensor, sample: Tensor) -> Tensor:
        key = Key(seed, step, sample)
        return diffusion.training_losses(network, x0, t, key=key).mean()

    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for number in range(4):
        # Grey levels of an image of 256 of them, which the bound needs at level 1.
        x0 = torch.randint(256, SHAPE, generator=torch.Generator().manual_seed(number)) / 127.5 - 1
        t = torch.tensor([1, 2 + number, STEPS - number])
        key = Key.of(number - 2, range(number * 3, number * 3 + 3), number * 7)
        inputs = (x0, t, key.seed, key.step, key.sample)
        got, want = compiled(*inputs), loss(*inputs)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
        for one, other in zip(gradients(got, network), gradients(want, network), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert counter.frame_count == 1


Carry = tuple[Tensor, Tensor]
Body = Callable[[StepTable, Carry, Tensor, Tensor, Tensor, Tensor], Carry]
NETWORK = Network(2).requires_grad_(False)


def plain(
    table: StepTable, carry: Carry, t: Tensor, row: Tensor, seed: Tensor, sample: Tensor
) -> Carry:
    x, history = carry
    pred = NETWORK(x, t)
    place = (table.coefficients, table.levels, row, seed, sample)
    return sampler_step(x, pred, *place, 1.0, table.noisy), history


def guided(
    table: StepTable, carry: Carry, t: Tensor, row: Tensor, seed: Tensor, sample: Tensor
) -> Carry:
    x, history = carry
    pred, uncond = NETWORK(torch.cat([x, x]), torch.cat([t, t])).chunk(2)
    scale = torch.full((), 3.0)
    threshold = dynamic_threshold(
        x, pred, table.coefficients, row, 0.9, uncond=uncond, guidance_scale=scale
    )
    place = (table.coefficients, table.levels, row, seed, sample)
    x = sampler_step(
        x, pred, *place, 0.0, table.noisy,
        uncond=uncond, guidance_scale=scale, threshold=threshold,
    )  # fmt: skip
    return x, history


def multistep(
    table: StepTable, carry: Carry, t: Tensor, row: Tensor, seed: Tensor, sample: Tensor
) -> Carry:
    x, history = carry
    place = (table.coefficients, table.levels, row, seed, sample)
    return sampler_step_multistep(x, NETWORK(x, t), history, *place, 1.0, table.noisy)


SAMPLERS: dict[str, tuple[StepTable, Body]] = {
    "ddpm": (ancestral_table(SCHEDULE, "v", LEVELS, "posterior"), plain),
    "ddim": (ddim_table(SCHEDULE, "v", LEVELS, 0.0), plain),
    "guided": (ddim_table(SCHEDULE, "v", LEVELS, 0.5), guided),
    "2m": (dpm_solver_table(SCHEDULE, "v", LEVELS), multistep),
}


@pytest.mark.parametrize(("table", "body"), SAMPLERS.values(), ids=SAMPLERS)
def test_the_body_of_a_sampler_compiles_once(
    counter: CompileCounterWithBackend, table: StepTable, body: Body
) -> None:
    def step(x: Tensor, history: Tensor, *place: Tensor) -> Carry:
        t, row, seed, sample = place
        return body(table, (x, history), t, row, seed, sample)

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for seed in (-3, 2**40):
        key = Key.of(seed, range(seed % 7, seed % 7 + SHAPE[0]))
        got = want = (torch.linspace(-2, 2, 96).view(SHAPE), torch.zeros(SHAPE))
        for row in range(len(LEVELS) - 1):
            t = table.levels[row].expand(SHAPE[0]).clone()
            place = (t, torch.tensor(row), key.seed, key.sample)
            got, want = compiled(*got, *place), step(*want, *place)
            for one, other in zip(got, want, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert counter.frame_count == 1


@pytest.mark.parametrize(("table", "body"), SAMPLERS.values(), ids=SAMPLERS)
def test_a_whole_loop_is_one_graph(
    counter: CompileCounterWithBackend, table: StepTable, body: Body
) -> None:
    def loop(x: Tensor, seed: Tensor, sample: Tensor) -> Tensor:
        carry = (x, torch.zeros_like(x))
        for i, row in enumerate(torch.arange(len(LEVELS) - 1)):
            carry = body(table, carry, table.levels[i].expand(len(x)), row, seed, sample)
        return carry[0]

    compiled = torch.compile(loop, fullgraph=True, backend=counter)
    for seed in (-3, 2**40):
        key = Key.of(seed, range(seed % 7, seed % 7 + SHAPE[0]))
        x = torch.linspace(-2, 2, 96).view(SHAPE) + seed % 3
        got, want = (call(x, key.seed, key.sample) for call in (compiled, loop))
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    assert counter.frame_count == 1
