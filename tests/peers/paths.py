"""One network driven by the samplers of two libraries, from the same noise, state by state.

Levels here are 0..T; an index of `diffusers` is a level less one, and its clean images have none.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ddpm.bench.peer_calls import DIFFUSERS, missing
from ddpm.diffusion import GaussianDiffusion
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.predictions import Prediction
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import Variance
from ddpm.schedule import Schedule

MARKS = [
    pytest.mark.skipif(bool(missing(DIFFUSERS)), reason=f"diffusers {missing(DIFFUSERS)}"),
    # Its schedulers hand a tensor to numpy.array in a way that numpy 2 regrets.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
]
"""Of every module that needs diffusers."""

STEPS = 1000
KINDS = ("linear", "cosine", "scaled_linear")
THEIR_NAMES: dict[Prediction, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
PREDICTIONS = list(THEIR_NAMES)
SHAPE = (2, 2, 3, 3)
SEED = 5

FLOAT64 = 2e-12
"""Between two float64 paths by one formula; 7e-13 is measured, over a thousand levels. Theirs
subtracts alpha_bar from 1, which costs four digits at level 1."""

OURS_FLOAT32 = 5e-6
"""Between our float32 path and the float64 path by the same rows; 2.1e-6 is measured."""

FLOAT32 = 2e-5
"""Between float32 paths over tens of levels, the lowest of which is not below 20. What is measured,
1.6e-5, is their distance from the float64 path."""

FLOAT32_TO_THE_END = 1e-3
"""The same down to level 1, where their 1 - alpha_bar is off by up to 5e-4 of itself, and from
level T of "cosine", where x0_hat is 2e4 times a difference; 5e-4 is measured."""

Network = Callable[[Tensor, int], Tensor]


class Wide(Tensor):
    """A float64 tensor that stays one where a scheduler casts its samples to float32."""

    def to(self, *_: Any, **__: Any) -> "Wide":
        """Itself."""
        return self


@dataclass(frozen=True)
class Problem:
    """A chain, what its network predicts, and the schedulers of diffusers for it."""

    kind: str
    prediction: Prediction
    schedule: Schedule
    network: Network

    def scheduler(self, name: str, **options: Any) -> Any:
        """A scheduler of diffusers on the same betas, which it rounds to float32."""
        import diffusers

        return getattr(diffusers, name)(
            STEPS, trained_betas=betas(self.kind).numpy(),
            prediction_type=THEIR_NAMES[self.prediction], **options,
        )  # fmt: skip

    def in_float64(self, scheduler: Any) -> Any:
        """Give a scheduler whose timesteps are set our tables, and leave its formulas alone."""
        scheduler.alphas_cumprod = self.schedule.alpha_bar[1:].clone()
        if hasattr(scheduler, "sigmas"):
            levels = [*(scheduler.timesteps.long() + 1).tolist(), 0]
            scheduler.sigmas = torch.exp(self.schedule.log_snr / -2)[levels]
        return scheduler


@cache
def problem(kind: str, prediction: Prediction, channels: int = 2) -> Problem:
    """The problem of a schedule and a prediction; see `network` for the channels."""
    schedule = Schedule.from_betas(betas(kind))
    return Problem(kind, prediction, schedule, network(schedule, prediction, channels))


def betas(kind: str) -> Tensor:
    """Betas by the definitions in the documentation of diffusers, in float64."""
    if kind == "linear":
        return torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64).square()
    curve = [math.cos((i / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(STEPS + 1)]
    ratios = [1 - after / before for before, after in pairwise(curve)]
    return torch.tensor(ratios, dtype=torch.float64).clamp(max=0.999)


def network(schedule: Schedule, prediction: Prediction, channels: int) -> Network:
    """A smooth nonlinear function of (x, t), wrong enough that estimates leave [-1, 1].

    Args:
        schedule: Its levels scale what goes in and out, so that a long path stays bounded.
        prediction: "eps", "x0" or "v".
        channels: Of the output; those beyond the second are raw values of a learned variance.

    It computes in float64 and rounds once, so that float32 paths do not depend on how a processor
    adds: at level 1000 of "linear" x0_hat is 157 times a difference with its output.
    """
    alpha, sigma = schedule.alpha_bar.sqrt(), schedule.one_minus_alpha_bar.sqrt()
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(channels, 2, 3, 3, generator=generator, dtype=torch.float64) / 4

    def call(state: Tensor, t: int) -> Tensor:
        x, signal, noise = state.double(), float(alpha[t]), float(sigma[t])
        mixed = conv2d(signal * x, weight, padding=1)
        clean = 1.3 * torch.tanh(mixed[:, :2] + math.cos(3 * t / schedule.steps))
        wrong = 0.1 * torch.sin(2 * x + t)
        if prediction == "eps":
            clean = (x - signal * clean) / noise
        elif prediction == "v":
            clean = (signal * x - clean) / noise
        return torch.cat([clean + wrong, mixed[:, 2:].tanh()], dim=1).type(state.dtype)

    return call


def start() -> Tensor:
    """x_T, float32."""
    return normal(*_place(0), Stream.INITIAL_NOISE, list(SHAPE[1:]), torch.float32)


def noise_of(t: int) -> Tensor:
    """The noise that our samplers draw on the way down from level t, float32."""
    return normal(*_place(t), Stream.SAMPLING_NOISE, list(SHAPE[1:]), torch.float32)


def ours(
    given: Problem,
    table: StepTable,
    clip: bool,
    variance: Variance = "posterior",
    threshold_ratio: float | None = None,
) -> list[Tensor]:
    """States of our loop after every step, float32, by the fused operations."""
    diffusion = GaussianDiffusion(given.schedule, given.prediction, variance)
    states = diffusion.sample_progressive(
        lambda x, t: given.network(x, int(t[0])), start(), Key.of(SEED, range(SHAPE[0])), table,
        clip_denoised=clip, threshold_ratio=threshold_ratio,
    )  # fmt: skip
    return [state.x for state in states]


def by_rows(given: Problem, table: StepTable, clip: bool) -> list[Tensor]:
    """The same in float64, by the rows of the table before they are rounded."""
    x, history, states = start().double(), torch.zeros(SHAPE, dtype=torch.float64), []
    for row, t in zip(table.exact.tolist(), table.levels.tolist(), strict=True):
        k_x, k_pred, a, b, c, sd, *_ = row
        clean = k_x * x + k_pred * given.network(x, t)
        clean = clean.clamp(-1, 1) if clip else clean
        x, history = a * clean + b * x + c * history + sd * noise_of(t).double(), clean
        states.append(x)
    return states


def theirs(
    given: Problem, scheduler: Any, x: Tensor, *, quiet: bool = True, **options: Any
) -> list[Tensor]:
    """States of a loop as the pipelines of diffusers write it.

    Args:
        given: Whose network is called.
        scheduler: Its timesteps have been set.
        x: Where the loop starts, in the scheduler's own scale.
        quiet: Whether the last step is handed zeros for noise, as it draws none in ours.
        options: Arguments of every step.
    """
    states, last = [], int(scheduler.timesteps[-1])
    for index in scheduler.timesteps:
        seen, t = scheduler.scale_model_input(x, index), int(index) + 1
        noise = noise_of(t) * (not quiet or int(index) != last)
        with _drawing(scheduler, noise.type(x.dtype)):
            x = scheduler.step(given.network(seen, t), index, x, **options).prev_sample
        states.append(x)
    return states


def levels_of(scheduler: Any) -> list[int]:
    """The levels that a scheduler visits, and 0."""
    return [*(scheduler.timesteps.long() + 1).tolist(), 0]


def gap(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """Largest difference of two paths, relative to the largest number of each state or 1."""
    assert len(got) == len(want)
    return max(
        float((one.double() - two.double()).abs().max() / max(1.0, float(two.abs().max())))
        for one, two in zip(got, want, strict=True)
    )


def _place(step: int) -> tuple[Tensor, Tensor, Tensor]:
    key = Key.of(SEED, range(SHAPE[0]), step)
    return key.seed, key.step, key.sample


def _drawing(scheduler: Any, noise: Tensor) -> Any:
    """Hand this noise to a scheduler, whether it draws any or not."""
    module = sys.modules[type(scheduler).__module__]
    return patch.object(module, "randn_tensor", lambda *_, **__: noise, create=True)
