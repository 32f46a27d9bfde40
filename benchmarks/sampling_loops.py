"""Whole sampling loops of two libraries around one network, and a clock inside the network.

Ours as a user calls it, and DDIMPipeline of `diffusers`: 50 steps of DDIM with eta = 0 at the same
levels, from noise that each draws, to images in [0, 1]. Neither clips the estimate of the clean
image, since with a clip the two do not compute the same: see `tests/peers/test_ddim.py`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ddpm.bench.assemble import OURS
from ddpm.bench.peer_calls import DIFFUSERS
from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.schedule import Schedule

LEVELS, SIDE, CHANNELS, WIDTHS, SEED = 1000, 16, 3, (32, 64), 1

EQUAL = 1e-4
"""Largest difference of the last states, relative to their largest number: the tables of the other
library are float32 products."""

Loop = Callable[[], Tensor]


@dataclass(frozen=True)
class Times:
    """Seconds of a loop, and those of them inside the network.

    Attributes:
        wall: By the clock on the wall.
        processor: Those that the process had a processor, of all its threads together.
        network_wall: Share of `wall` inside the network.
        network_processor: Share of `processor` inside the network.
    """

    wall: float
    processor: float
    network_wall: float
    network_processor: float


class Meter:
    """Adds up the time between a network's input and its output.

    Args:
        network: Gets two hooks, whose own cost everybody pays alike.
    """

    def __init__(self, network: nn.Module) -> None:
        self._began, self._inside = (0.0, 0.0), [0.0, 0.0]
        network.register_forward_pre_hook(self._enter)
        network.register_forward_hook(self._leave)

    def time(self, loop: Loop) -> Times:
        """Run a loop once."""
        self._inside = [0.0, 0.0]
        wall, processor = now()
        loop()
        ended_wall, ended_processor = now()
        return Times(ended_wall - wall, ended_processor - processor, *self._inside)

    def _enter(self, *_: Any) -> None:
        self._began = now()

    def _leave(self, *_: Any) -> None:
        for clock, (began, ended) in enumerate(zip(self._began, now(), strict=True)):
            self._inside[clock] += ended - began


def now() -> tuple[float, float]:
    """Seconds on the wall and of the process, after all work that was submitted."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def network() -> nn.Module:
    """A small `diffusers.UNet2DModel`, the same weights each time."""
    from diffusers import UNet2DModel

    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        model: nn.Module = UNet2DModel(
            sample_size=SIDE, in_channels=CHANNELS, out_channels=CHANNELS, layers_per_block=1,
            block_out_channels=WIDTHS, down_block_types=("DownBlock2D",) * len(WIDTHS),
            up_block_types=("UpBlock2D",) * len(WIDTHS), norm_num_groups=8,
        )  # fmt: skip
    return model.eval()


@cache
def diffusion() -> GaussianDiffusion:
    """The process that both sample from."""
    return GaussianDiffusion(Schedule.linear(LEVELS), "eps")


def ours(model: nn.Module, batch: int, steps: int) -> Loop:
    """Our loop, as a user of the library calls it."""
    return lambda: (last_of_ours(model, batch, steps) / 2 + 0.5).clamp(0, 1)


def last_of_ours(model: nn.Module, batch: int, steps: int) -> Tensor:
    """The images that our loop ends with; `diffusers` counts levels from 0, and we from 1."""
    return diffusion().ddim_sample_loop(
        lambda x, t: model(x, t - 1), (batch, CHANNELS, SIDE, SIDE),
        seed=SEED, steps=steps, clip_denoised=False,
    )  # fmt: skip


def pipeline(model: nn.Module) -> Any:
    """DDIMPipeline with the spacing that is right where the steps divide the levels."""
    from diffusers import DDIMPipeline, DDIMScheduler

    scheduler = DDIMScheduler(LEVELS, timestep_spacing="trailing", clip_sample=False)
    made = DDIMPipeline(model, scheduler)
    made.set_progress_bar_config(disable=True)
    return made


def loops(model: nn.Module, batch: int, steps: int) -> dict[str, Loop]:
    """The loops by the name of their library."""
    theirs = partial(
        pipeline(model), batch_size=batch, num_inference_steps=steps, output_type="pt"
    )  # fmt: skip
    return {OURS: ours(model, batch, steps), DIFFUSERS: lambda: theirs().images}


def difference(model: nn.Module, batch: int, steps: int) -> float:
    """How far the last states lie apart from the same noise, before they are cut to [0, 1].

    Returns:
        The largest difference over the largest number.
    """
    shape = batch, CHANNELS, SIDE, SIDE
    start = diffusion().initial_noise(shape, Key.of(SEED, range(batch)))
    mine = last_of_ours(model, batch, steps)
    made = pipeline(model)
    with starting_from(start), last_state(made.scheduler) as states:
        made(batch_size=batch, num_inference_steps=steps, output_type="pt")
    return float((states[-1] - mine).abs().max() / mine.abs().max())


@contextmanager
def starting_from(noise: Tensor) -> Iterator[None]:
    """Hand this noise to pipelines of DDIM."""
    from diffusers.pipelines.ddim import pipeline_ddim

    with patch.object(pipeline_ddim, "randn_tensor", lambda *_, **__: noise):
        yield


@contextmanager
def last_state(scheduler: Any) -> Iterator[list[Tensor]]:
    """Keep what a scheduler returned last."""
    kept: list[Tensor] = []
    step = scheduler.step

    def watched(*arguments: Any, **options: Any) -> Any:
        output = step(*arguments, **options)
        kept[:] = [output.prev_sample]
        return output

    with patch.object(scheduler, "step", watched):
        yield kept
