"""What the static laboratory compiles: every op in every variant, with what it has to move.

A case calls a launcher, so that its kernels are those that a card would get.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod

import torch
from torch import Tensor

from ddpm.kernels.affine_step import COLUMNS, Step
from ddpm.kernels.gpu import (
    diffusion_loss,
    dynamic_threshold,
    normal,
    q_sample,
    sampler_step,
    variational_loss,
)
from ddpm.kernels.streams import Stream

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Launch = Callable[[], object]
"""Calls a launcher on tensors that exist."""

LEVELS = 1001
_ROWS = 50


@dataclass(frozen=True)
class Inputs:
    """Tensors of a batch; their values do not matter."""

    dtype: torch.dtype
    shape: tuple[int, ...] = (3, 64, 64)
    """Of a sample, a multiple of the largest block in size."""
    batch: int = 2

    def data(self, times: int = 1) -> Tensor:
        """A tensor of the storage dtype with so many times the channels."""
        channels, *rest = self.shape
        return torch.zeros(self.batch, times * channels, *rest, dtype=self.dtype)

    @property
    def elements(self) -> int:
        """Elements of the clean data."""
        return self.batch * prod(self.shape)

    def numbers(self, *shape: int) -> Tensor:
        """A float32 tensor."""
        return torch.ones(shape)

    def indices(self, *shape: int) -> Tensor:
        """An int64 tensor."""
        return torch.ones(shape, dtype=torch.int64)

    def per_sample(self) -> Tensor:
        """Number of each sample, or its level, int64 [B]."""
        return self.indices(self.batch)


@dataclass(frozen=True)
class Case:
    """One variant of an op."""

    name: str
    """As in "sampler_step[guided]"."""
    prepare: Callable[[Inputs], Launch]
    """Makes the tensors and gives what calls the launcher on them."""
    floor: int
    """Tensors of the size of the clean data that have to be read or written once."""
    rare: str = ""
    """What a branch of the kernel does that the usual program, or the usual level, does not take;
    the figures are those of the usual one then."""
    passes: Mapping[str, int] = field(default_factory=dict)
    """How often the data are read, by architecture, where that is more than once: again and again
    from the caches."""


def _noise(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Give seed, step and sample."""
    return inputs.indices(), inputs.indices(), inputs.per_sample()


def _table(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Give t, signal and sigma."""
    return inputs.per_sample(), inputs.numbers(LEVELS), inputs.numbers(LEVELS)


def _q_sample(inputs: Inputs) -> Launch:
    return partial(q_sample.q_sample, inputs.data(), inputs.data(), *_table(inputs))


def _q_sample_drawn(inputs: Inputs) -> Launch:
    return partial(q_sample.q_sample_drawn, inputs.data(), *_table(inputs), *_noise(inputs))


def _q_sample_v(inputs: Inputs, drawn: bool = False) -> Launch:
    noise = None if drawn else inputs.data()
    place = _noise(inputs) if drawn else (None, None, None)
    return partial(q_sample.q_sample_v, inputs.data(), noise, *_table(inputs), *place)


def _normal(inputs: Inputs) -> Launch:
    stream = int(Stream.INITIAL_NOISE)
    return partial(normal.normal, *_noise(inputs), stream, list(inputs.shape), inputs.dtype)


def _loss(inputs: Inputs, prediction: str, backward: bool = False) -> Launch:
    x0 = inputs.data() if prediction in ("x0", "v") else None
    weight = inputs.numbers(inputs.batch)
    drawn = (None, None, None) if prediction == "x0" else _noise(inputs)
    given = (inputs.data(), x0, None, *_table(inputs), weight, *drawn, prediction)
    if backward:
        return partial(diffusion_loss.diffusion_loss_backward, weight, *given)
    return partial(diffusion_loss.diffusion_loss, *given)


def _bound(inputs: Inputs, prediction: str, learned: str, backward: bool = False) -> Launch:
    weight, t, table = inputs.numbers(inputs.batch), inputs.per_sample(), inputs.numbers(LEVELS, 6)
    given = (inputs.data(2), inputs.data(), None, t, table, weight, weight, *_noise(inputs))
    if backward:
        call = variational_loss.variational_loss_backward
        return partial(call, weight, *given, prediction, learned, True)
    return partial(variational_loss.variational_loss, *given, prediction, learned)


def _step(
    inputs: Inputs,
    draw: bool = True,
    guided: bool = False,
    learned: str = "none",
    thresholded: bool = False,
    multistep: bool = False,
) -> Launch:
    times = 1 if learned == "none" else 2
    given = Step(
        x=inputs.data(),
        pred=inputs.data(times),
        history=inputs.data() if multistep else None,
        table=inputs.numbers(_ROWS, len(COLUMNS)),
        levels=inputs.indices(_ROWS),
        row=inputs.indices(),
        seed=inputs.indices(),
        sample=inputs.per_sample(),
        clip=0.0 if thresholded else 1.0,
        draw=draw,
        uncond=inputs.data(times) if guided else None,
        guidance_scale=inputs.numbers() if guided else None,
        threshold=inputs.numbers(inputs.batch) if thresholded else None,
        learned=learned,
    )
    return partial(sampler_step.step, given, multistep)


def _threshold(inputs: Inputs) -> Launch:
    table, row = inputs.numbers(_ROWS, len(COLUMNS)), inputs.indices()
    given = (inputs.data(), inputs.data(), table, row, 0.995, 10.0, None, None, "none")
    return partial(dynamic_threshold.dynamic_threshold, *given)


_NEXT = "the number above the quantile is looked for in a pass of its own where none equals it"
# Digits of 8 bits, or of 4 on AMD, of the 31 bits of a number.
_DIGITS = {"sm_80": 4, "sm_90": 4, "sm_100": 4, "gfx942": 8}
_DECODER = "level 1 has the decoder's term, in float64"
_LAST = "the last program of a sample adds the parts of all"


def cases() -> tuple[Case, ...]:
    """Give every op in every variant."""
    return (
        Case("q_sample", _q_sample, 3),
        Case("q_sample_drawn", _q_sample_drawn, 2),
        Case("q_sample_v", _q_sample_v, 4),
        Case("q_sample_v[drawn]", partial(_q_sample_v, drawn=True), 3),
        Case("normal", _normal, 1),
        *_losses(),
        *_bounds(),
        *_steps(),
        Case("dynamic_threshold", _threshold, 2, _NEXT, passes=_DIGITS),
    )


def _losses() -> tuple[Case, ...]:
    kept = {"eps": 1, "x0": 2, "v": 2, "score": 1}
    forward = tuple(
        Case(f"diffusion_loss[{name}]", partial(_loss, prediction=name), floor, _LAST)
        for name, floor in kept.items()
    )
    backward = tuple(
        Case(
            f"diffusion_loss_backward[{name}]",
            partial(_loss, prediction=name, backward=True),
            floor + 1,
        )
        for name, floor in kept.items()
    )
    return *forward, *backward


def _bounds() -> tuple[Case, ...]:
    variants = {("eps", "log"): 2, ("v", "sigmoid"): 3}
    found = []
    for (prediction, learned), floor in variants.items():
        name = f"[{prediction}, {learned}]"
        call = partial(_bound, prediction=prediction, learned=learned)
        found.append(Case(f"variational_loss{name}", call, floor, _DECODER))
        backward = partial(call, backward=True)
        found.append(Case(f"variational_loss_backward{name}", backward, floor + 2, _DECODER))
    return tuple(found)


def _steps() -> tuple[Case, ...]:
    variants: dict[str, tuple[int, dict[str, object]]] = {
        "": (3, {}),
        "[not drawn]": (3, {"draw": False}),
        "[guided]": (4, {"guided": True}),
        "[log]": (4, {"learned": "log"}),
        "[sigmoid]": (4, {"learned": "sigmoid"}),
        "[guided, log]": (5, {"guided": True, "learned": "log"}),
        "[thresholded]": (3, {"thresholded": True}),
        "_multistep": (5, {"multistep": True, "draw": False}),
        "_multistep[drawn]": (5, {"multistep": True}),
    }
    return tuple(
        Case(f"sampler_step{name}", partial(_step, **options), floor)  # type: ignore[arg-type]
        for name, (floor, options) in variants.items()
    )
