"""The sampling loop: a network, a table of steps, and what happens to the estimate on the way.

The host knows every number that it needs before the first step, so that the loop never waits for
the device and can be captured as a CUDA graph (once the table has been moved to the device).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddpm.allocator import keep_memory
from ddpm.kernels.dynamic_threshold import dynamic_threshold
from ddpm.kernels.sampler_step import sampler_step, sampler_step_multistep
from ddpm.keys import Key
from ddpm.samplers.tables import StepTable
from ddpm.samplers.variances import Learned

Model = Callable[..., Tensor]
"""Any callable of (x [B, ...], t int64 [B], **conditions). Its output has the shape of x, or twice
the channels where the variance is learned: first the prediction, then the variance's raw values.
What is no tensor but has one first, as the outputs of `diffusers` do, counts as that tensor."""


@dataclass(frozen=True, eq=False)
class Guidance:
    """Classifier-free guidance, output = uncond + guidance_scale (conditional - uncond).

    Attributes:
        guidance_scale: 1 leaves the conditional output, 0 the unconditional one; a number, or
            float32 [B] with one for each image.
        uncond: Conditions that replace those of the same name in the unconditional call.
        joint: Whether one call takes both halves as a batch of 2 B, the conditional half first;
            otherwise two calls take B each.
    """

    guidance_scale: float | Tensor
    uncond: Mapping[str, Any]
    joint: bool = True


@dataclass(frozen=True)
class State:
    """A sampler between two steps: the images x at level t, after `step` of `steps` steps."""

    x: Tensor
    t: int
    step: int
    steps: int


Edit = Callable[[Tensor, int], Tensor]
"""What is done with the images x at level s after every step: a function of (x, s) to new images of
the same shape, as inpainting does. It sees s = 0 last, and must not read a tensor on the host."""


Outputs = tuple[Tensor, Tensor | None]
"""What the network returned in one step; the unconditional output only under guidance."""


@torch.no_grad()
def sample_progressive(
    model: Model,
    x: Tensor,
    key: Key,
    table: StepTable,
    conditions: Mapping[str, Any],
    *,
    clip_denoised: bool = True,
    threshold_ratio: float | None = None,
    guidance: Guidance | None = None,
    learned: Learned = "none",
    edit: Edit | None = None,
) -> Iterator[State]:
    """Yield the state after every step of a sampler, without waiting for the device.

    Args:
        model: The network.
        x: Images at the first level of the table, [B, ...].
        key: Its seed and sample indices draw the noise of every step.
        table: The sampler.
        conditions: Passed to the network.
        clip_denoised: Whether estimates of the clean image are clipped to [-1, 1].
        threshold_ratio: In (0, 1], or None. The estimate of each image is clipped to this quantile
            of its magnitudes, and divided by it, where that is above 1; to [-1, 1] elsewhere.
            Takes the place of clip_denoised.
        guidance: Classifier-free guidance, or None.
        learned: Form of the second half of the network's output, "none" where it has none. A table
            of fixed variances leaves that half alone.
        edit: What is done with the images after every step, or None. A sampler whose steps take
            several rows is edited after each of them.

    Raises:
        ValueError: the table needs a learned variance of a form that the network does not return,
            or the guidance does not fit the conditions.
    """
    if table.learned not in ("none", learned):
        raise ValueError(
            f"table.learned = {table.learned!r}: allowed for a network whose variance has the form "
            f"{learned!r} is that or 'none'"
        )
    keep_memory(x.device)
    table, call = table.to(x.device), caller(model, guidance, conditions, len(x))
    # In a table of fixed variances v0 = v1 = 0, whose factor exp(v0 + v1 raw) is one.
    form: Learned = "log" if table.learned == "none" and learned != "none" else table.learned
    scale = None if guidance is None else _scale(guidance.guidance_scale, x.device)
    clip = 1.0 if clip_denoised else 0.0
    steps, reads, history = len(table.reads_history), (*table.reads_history, False), None
    rows = torch.arange(steps, device=x.device)
    for i, (row, t) in enumerate(zip(rows, table.levels, strict=True)):
        pred, uncond = call(x, t)
        threshold = None
        if threshold_ratio is not None:
            threshold = dynamic_threshold(
                x, pred, table.coefficients, row, threshold_ratio,
                uncond=uncond, guidance_scale=scale, learned=form,
            )  # fmt: skip
        place = (table.coefficients, table.draws, row, key.seed, key.sample, clip, table.noisy)
        if reads[i] or reads[i + 1]:
            x, history = sampler_step_multistep(
                x, pred, history if reads[i] else None, *place,
                uncond=uncond, guidance_scale=scale, threshold=threshold, learned=form,
            )  # fmt: skip
        else:
            x = sampler_step(
                x, pred, *place,
                uncond=uncond, guidance_scale=scale, threshold=threshold, learned=form,
            )  # fmt: skip
        if edit is not None:
            x = edit(x, table.path[i + 1]).contiguous()
        yield State(x, table.path[i + 1], i + 1, steps)


def tensor_of(output: Any) -> Tensor:
    """What a network returned, contiguous: a tensor, or the first of several."""
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found.contiguous()


def _scale(guidance_scale: float | Tensor, device: torch.device) -> Tensor:
    if isinstance(guidance_scale, Tensor):
        return guidance_scale.to(device)
    # Filled on the device: a copy from the host would wait, and not be captured.
    return torch.full((), guidance_scale, dtype=torch.float32, device=device)


def caller(
    model: Model, guidance: Guidance | None, conditions: Mapping[str, Any], batch: int
) -> Callable[[Tensor, Tensor], Outputs]:
    """The network with its conditions, as a function of (x [B, ...], t int64 [])."""
    if guidance is None:
        return lambda x, t: (tensor_of(model(x, t.expand(batch), **conditions)), None)
    unknown = guidance.uncond.keys() - conditions.keys()
    if unknown:
        raise ValueError(
            f"uncond has {', '.join(sorted(unknown))}: allowed are names of conditions, "
            f"{', '.join(conditions) or 'of which there are none'}"
        )
    second = {**conditions, **guidance.uncond}
    if not guidance.joint:
        return lambda x, t: (
            tensor_of(model(x, t.expand(batch), **conditions)),
            tensor_of(model(x, t.expand(batch), **second)),
        )
    both = {name: _joined(name, conditions[name], second[name], batch) for name in conditions}

    def call(x: Tensor, t: Tensor) -> Outputs:
        output = tensor_of(model(torch.cat([x, x]), t.expand(2 * batch), **both))
        return output[:batch], output[batch:]

    return call


def _joined(name: str, conditional: Any, unconditional: Any, batch: int) -> Any:
    """One condition for both halves of the batch; what is the same for all images stays as it is.

    Raises:
        ValueError: the two are not tensors with one entry an image.
    """
    tensors = isinstance(conditional, Tensor) and isinstance(unconditional, Tensor)
    if conditional is unconditional and (not tensors or conditional.ndim == 0):
        return conditional
    if not tensors or conditional.shape[:1] != (batch,) or unconditional.shape[:1] != (batch,):
        shapes = [tuple(getattr(value, "shape", ())) for value in (conditional, unconditional)]
        raise ValueError(
            f"condition {name} has shapes {shapes[0]} and, without guidance, {shapes[1]}: allowed "
            f"for one call of both are tensors [{batch}, ...]"
        )
    return torch.cat([conditional, unconditional])
