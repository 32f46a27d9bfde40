"""One step of a sampler: guidance, x_0 estimate, clipping, mean and noise, one pass over memory.

All formulas of a step, whatever the pair of levels, the prediction, eta, the variance or the order
of the solver, are eight numbers per row of a table:

    g      = pred, or uncond + guidance_scale (pred - uncond),
    x0_hat = clip(k_x x + k_pred g),
    x_s    = a x0_hat + b x + c history + deviation z,
    deviation = sd, or sd exp(v0 + v1 raw), or sd sqrt(v0 + v1 sigmoid(raw)).
"""

from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import affine_tiles, batching, eager
from ddpm.kernels.affine_step import Step, check_no_gradient, check_step
from ddpm.kernels.samples import per_sample


def sampler_step(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    levels: Tensor,
    row: Tensor,
    seed: Tensor,
    sample: Tensor,
    clip: float = 0.0,
    draw: bool = True,
    *,
    uncond: Tensor | None = None,
    guidance_scale: Tensor | None = None,
    threshold: Tensor | None = None,
    learned: str = "none",
) -> Tensor:
    """Go from x at level t to x at level s < t.  T-eq2, T-2.5-x0, T-2.5-eps, G-44, T-fn24.

    Args:
        x: float32, float16 or bfloat16 [B, C, ...], contiguous; [B, ...] unless learned.
        pred: output of the network, any of these dtypes, contiguous. Shaped like x, or, where
            learned, [B, 2 C, ...]: the prediction and then raw.
        table: float32 [K, 8], a row (k_x, k_pred, a, b, c, sd, v0, v1) per step; c = 0 here.
        levels: int64 [K], the level t of each row; names the noise of the step.
        row: int64 [] or [B] in 0..K - 1; never read by the host on a GPU, where a row that is
            outside, or has c != 0, yields NaN.
        seed: int64 [], any value.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        clip: the x_0 estimate is clamped to [-clip, clip]; 0 leaves it alone. NaN stays NaN.
        draw: add noise with z from stream SAMPLING_NOISE; False reads neither seed nor sample.
        uncond: output of the network without the condition, like pred; with guidance_scale.
        guidance_scale: float32 [] or [B]; 1 is the conditional output alone, 0 the other alone.
        threshold: float32 [B], positive, in place of clip: the estimate is clamped to
            [-threshold, threshold] and divided by it; see `ddpm.kernels.dynamic_threshold`.
        learned: "none"; "log", deviation sd exp(v0 + v1 raw); or "sigmoid", deviation
            sd sqrt(v0 + v1 sigmoid(raw)), with raw taken from pred.

    Returns:
        Like x: computed in float32, rounded once. Differentiable in x, pred and uncond unless
        learned or given a threshold.

    Raises:
        ValueError: a dtype, shape, device, row, clip or name is not allowed, or an argument
            requires a gradient that is not defined.
    """
    rest = (table, levels, row, seed, sample, clip, draw, uncond, guidance_scale, threshold)
    check_no_gradient(Step(x, pred, None, *rest, learned))
    call = _at_once if eager.at_once(x) else _dispatched
    result: Tensor = call(x, pred, *rest, learned)
    return result


def sampler_step_multistep(
    x: Tensor,
    pred: Tensor,
    history: Tensor | None,
    table: Tensor,
    levels: Tensor,
    row: Tensor,
    seed: Tensor,
    sample: Tensor,
    clip: float = 0.0,
    draw: bool = True,
    *,
    uncond: Tensor | None = None,
    guidance_scale: Tensor | None = None,
    threshold: Tensor | None = None,
    learned: str = "none",
) -> tuple[Tensor, Tensor]:
    """Take a step that also uses, and also returns, an estimate of x_0.

    Args:
        x: as in `sampler_step`, and so all others.
        pred: output of the network.
        history: shaped like x, any storage dtype, contiguous: the estimate that the step before
            returned, or the first half of this one. None where the row has c = 0.
        table: its column c weighs history.
        levels: the level of each row.
        row: the row of the step.
        seed: key of the noise.
        sample: global sample indices.
        clip: bound of the estimate.
        draw: whether noise is added.
        uncond: output without the condition.
        guidance_scale: weight of pred against uncond.
        threshold: bounds of the estimate, by sample.
        learned: form of the deviation.

    Returns:
        x_s and the estimate of x_0 after clipping, both like x and both differentiable in x, pred,
        uncond and history on the conditions of `sampler_step`.

    Raises:
        ValueError: as `sampler_step`.
    """
    rest = (table, levels, row, seed, sample, clip, draw, uncond, guidance_scale, threshold)
    check_no_gradient(Step(x, pred, history, *rest, learned))
    call = _at_once_multistep if eager.at_once(x) else _dispatched_multistep
    result: tuple[Tensor, Tensor] = call(x, pred, history, *rest, learned)
    return result


def _step(x: Tensor, pred: Tensor, *rest: Any) -> Tensor:
    given = Step(x, pred, None, *rest)
    check_step(given)
    return affine_tiles.step(given, keep=False)[0]


def _step_multistep(*arguments: Any) -> tuple[Tensor, Tensor]:
    given = Step(*arguments)
    check_step(given)
    x_s, x0 = affine_tiles.step(given, keep=True)
    return x_s, x0


@torch.library.custom_op("ddpm::sampler_step", mutates_args=(), device_types="cpu")
def _sampler_step(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    levels: Tensor,
    row: Tensor,
    seed: Tensor,
    sample: Tensor,
    clip: float,
    draw: bool,
    uncond: Tensor | None,
    guidance_scale: Tensor | None,
    threshold: Tensor | None,
    learned: str,
) -> Tensor:
    return _step(
        x, pred, table, levels, row, seed, sample, clip, draw,
        uncond, guidance_scale, threshold, learned,
    )  # fmt: skip


@_sampler_step.register_kernel("cuda")
def _(x: Tensor, pred: Tensor, *rest: Any) -> Tensor:
    from ddpm.kernels.gpu import sampler_step as gpu

    given = Step(x, pred, None, *rest)
    check_step(given)
    return gpu.step(given, keep=False)[0]


@_sampler_step.register_fake
def _(x: Tensor, pred: Tensor, *rest: Any) -> Tensor:
    check_step(Step(x, pred, None, *rest))
    return torch.empty_like(x)


@torch.library.custom_op("ddpm::sampler_step_multistep", mutates_args=(), device_types="cpu")
def _multistep(
    x: Tensor,
    pred: Tensor,
    history: Tensor | None,
    table: Tensor,
    levels: Tensor,
    row: Tensor,
    seed: Tensor,
    sample: Tensor,
    clip: float,
    draw: bool,
    uncond: Tensor | None,
    guidance_scale: Tensor | None,
    threshold: Tensor | None,
    learned: str,
) -> tuple[Tensor, Tensor]:
    return _step_multistep(
        x, pred, history, table, levels, row, seed, sample, clip, draw,
        uncond, guidance_scale, threshold, learned,
    )  # fmt: skip


@_multistep.register_kernel("cuda")
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    from ddpm.kernels.gpu import sampler_step as gpu

    given = Step(*arguments)
    check_step(given)
    x_s, x0 = gpu.step(given, keep=True)
    return x_s, x0


@_multistep.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    given = Step(*arguments)
    check_step(given)
    return torch.empty_like(given.x), torch.empty_like(given.x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, pred, *rest = inputs
    _save(ctx, Step(x, pred, None, *rest))


def _setup_multistep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    del output
    _save(ctx, Step(*inputs))


def _save(ctx: Any, given: Step) -> None:
    check_no_gradient(given)
    ctx.clip = given.clip
    ctx.history_dtype = None if given.history is None else given.history.dtype
    ctx.save_for_backward(
        given.x, given.pred, given.uncond, given.guidance_scale, given.table, given.row
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    for_x, for_pred, for_uncond, _ = _gradients(ctx, grad, None)
    return for_x, for_pred, *[None] * 7, for_uncond, None, None, None


def _backward_multistep(ctx: Any, grad: Tensor, grad_x0: Tensor) -> tuple[Tensor | None, ...]:
    for_x, for_pred, for_uncond, for_history = _gradients(ctx, grad, grad_x0)
    return for_x, for_pred, for_history, *[None] * 7, for_uncond, None, None, None


def _gradients(ctx: Any, grad: Tensor, grad_x0: Tensor | None) -> tuple[Tensor | None, ...]:
    """Give the gradients of x, pred, uncond and history; a clipped estimate passes none on."""
    x, pred, uncond, guidance_scale, table, row = ctx.saved_tensors
    columns = table[row.expand(x.shape[0])].unbind(1)
    k_x, k_pred, a, b, c = (per_sample(column, x) for column in columns[:5])
    wide, guided = grad.float(), pred.float()
    through = a * wide if grad_x0 is None else a * wide + grad_x0.float()
    if uncond is not None:
        scale = per_sample(guidance_scale.expand(x.shape[0]), x)
        guided = uncond.float() + scale * (guided - uncond.float())
    if ctx.clip > 0.0:
        estimate = k_pred * guided + k_x * x.float()
        through = torch.where(estimate.abs() > ctx.clip, torch.zeros_like(through), through)
    for_x = (k_x * through + b * wide).to(x.dtype)
    for_history = None if ctx.history_dtype is None else (c * wide).to(ctx.history_dtype)
    if uncond is None:
        return for_x, (k_pred * through).to(pred.dtype), None, for_history
    for_pred = (scale * k_pred * through).to(pred.dtype)
    for_uncond = ((1.0 - scale) * k_pred * through).to(uncond.dtype)
    return for_x, for_pred, for_uncond, for_history


_dispatched = batching.register(_sampler_step, _setup, _backward)
_dispatched_multistep = batching.register(_multistep, _setup_multistep, _backward_multistep)
_at_once = eager.differentiable("sampler_step", _step, _setup, _backward)
_at_once_multistep = eager.differentiable(
    "sampler_step_multistep", _step_multistep, _setup_multistep, _backward_multistep
)
