"""Record sampler loops once, replay them on other inputs, and compare with running them.

On a GPU the recording is a CUDA graph. On the CPU it is the list of operations that torch traces,
which like a graph keeps no Python: a number that the loop had read would be frozen in it. A script,
so that kernels compile:

    python -m tests.devices.graph cuda
"""

# Modes and streams of torch have no types.
# mypy: disable-error-code="no-untyped-call"

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.corrector import predictor_corrector_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.loop import Guidance, sample_progressive
from ddpm.samplers.multistep import dpm_solver_table, heun_table
from ddpm.samplers.stochastic import dpm_solver_sde_table, stochastic_heun_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

SHAPE = (3, 2, 9, 9)
SCHEDULE = Schedule.log_snr_linear(50)
LEVELS = trailing(50, 8)

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
"""Images at the first level [B, ...], labels [B], seed [], sample indices [B]."""
Loop = Callable[..., Tensor]

SAMPLERS: dict[str, tuple[StepTable, dict[str, Any]]] = {
    "ddpm": (ancestral_table(SCHEDULE, "v", LEVELS, "posterior"), {}),
    "ddim": (ddim_table(SCHEDULE, "v", LEVELS, 0.0), {"clip_denoised": False}),
    "2m": (dpm_solver_table(SCHEDULE, "v", LEVELS), {}),
    "heun": (heun_table(SCHEDULE, "v", LEVELS), {}),
    "sde-2m": (dpm_solver_sde_table(SCHEDULE, "v", LEVELS), {}),
    "sde-heun": (stochastic_heun_table(SCHEDULE, "v", LEVELS), {}),
    "corrector": (predictor_corrector_table(SCHEDULE, "v", LEVELS), {}),
    "learned": (ancestral_table(SCHEDULE, "v", LEVELS, "learned"), {"learned": "log"}),
    "threshold": (ddim_table(SCHEDULE, "v", LEVELS, 0.5), {"threshold_ratio": 0.9}),
}


def network(outputs: int) -> Callable[..., Tensor]:
    """A network without weights whose output has the given share of the input's channels."""

    def predict(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        shift = (label + t / 100).to(x.dtype).view(-1, 1, 1, 1)
        return torch.cat([x * 0.4 + shift * (channel + 1) for channel in range(outputs)], 1)

    return predict


def sampler(name: str, device: torch.device, guided: bool) -> Loop:
    """The loop of a sampler, as a function of `Inputs`."""
    table, options = SAMPLERS[name]
    table = table.to(device)
    model = network(1 if table.learned == "none" else 2)
    none = torch.zeros(SHAPE[0], device=device)
    guidance = Guidance(2.0, {"label": none}) if guided else None

    def loop(x: Tensor, label: Tensor, seed: Tensor, sample: Tensor) -> Tensor:
        key = Key(seed, torch.zeros_like(seed), sample)
        for state in sample_progressive(
            model, x, key, table, {"label": label}, guidance=guidance, **options
        ):
            x = state.x
        return x

    return loop


def inputs(seed: int, device: torch.device) -> Inputs:
    key = Key.of(seed, range(seed % 5, seed % 5 + SHAPE[0]), device=device)
    place = (key.seed, key.step, key.sample)
    x = normal(*place, Stream.INITIAL_NOISE, list(SHAPE[1:]), torch.float32)
    return x, key.sample / 10.0, key.seed, key.sample


def recorded(loop: Loop, example: Inputs) -> Loop:
    """The loop without its Python."""
    if example[0].device.type == "cpu":
        traced: Loop = make_fx(loop)(*example)
        return traced
    return captured(loop, example)


def captured(loop: Loop, example: Inputs) -> Loop:
    """The loop as a CUDA graph."""
    static = tuple(x.clone() for x in example)
    # Kernels are compiled and memory is found before the capture, on a stream of its own.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            loop(*static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = loop(*static)

    def replay(*values: Tensor) -> Tensor:
        for place, value in zip(static, values, strict=True):
            place.copy_(value)
        graph.replay()
        return output.clone()

    return replay


def compare(device: torch.device) -> int:
    """Number of replays compared; raises on the first that differs."""
    compared = 0
    for name in SAMPLERS:
        for guided in (False, True):
            loop = sampler(name, device, guided)
            replay = recorded(loop, inputs(3, device))
            for seed in (3, -7, 2**40):
                values = inputs(seed, device)
                want, got = loop(*values), replay(*values)
                assert got.isfinite().all(), f"{name} {seed}"
                assert torch.equal(got, want), f"{name} {seed}: {(got - want).abs().max()}"
                compared += 1
    return compared


if __name__ == "__main__":
    print(f"{compare(torch.device(sys.argv[1]))} results agree")
