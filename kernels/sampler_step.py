"""One step of a sampler: x_0 estimate, clipping, mean and noise, one pass over memory.

All formulas of a step, whatever the pair of levels, the prediction, eta or the kind of variance,
are five numbers per row of a table:

    x0_hat = k_x x + k_pred pred,   x_s = a clip(x0_hat) + b x + sd z.
"""

from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import checks
from ddpm.kernels.philox import normals
from ddpm.kernels.q_sample import per_sample
from ddpm.kernels.streams import Stream

COLUMNS = ("k_x", "k_pred", "a", "b", "sd")


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
) -> Tensor:
    """Go from x at level t to x at level s < t.  T-eq2, T-2.5-x0, T-2.5-eps.

    Args:
        x: float32, float16 or bfloat16 [B, ...], contiguous.
        pred: output of the network, shape of x, any of these dtypes, contiguous.
        table: float32 [K, 5], a row (k_x, k_pred, a, b, sd) per step.
        levels: int64 [K], the level t of each row; names the noise of the step.
        row: int64 [] or [B] in 0..K - 1; never read by the host on a GPU, where a row outside
            yields NaN.
        seed: int64 [], any value.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        clip: the x_0 estimate is clamped to [-clip, clip]; 0 leaves it alone. NaN stays NaN.
        draw: add sd z with z from stream SAMPLING_NOISE; False reads neither seed nor sample.

    Returns:
        Like x: computed in float32, rounded once. Differentiable in x and pred.

    Raises:
        ValueError: a dtype, shape, device, row or clip is not allowed, or table requires a
            gradient.
    """
    checks.check_no_grad(table=table)
    result: Tensor = _sampler_step(x, pred, table, levels, row, seed, sample, clip, draw)
    return result


def check_step(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    levels: Tensor,
    row: Tensor,
    seed: Tensor,
    sample: Tensor,
    clip: float,
) -> None:
    """Check everything that is known before a launch."""
    checks.check_storage("x", x)
    checks.check_storage("pred", pred)
    checks.check_shape("pred", pred, x.shape)
    checks.check_dtype("table", table, (torch.float32,))
    if table.ndim != 2 or table.shape[0] == 0 or table.shape[1] != len(COLUMNS):
        raise ValueError(f"table has shape {tuple(table.shape)}; allowed: [K, 5] with K >= 1")
    checks.check_contiguous("table", table)
    checks.check_index("levels", levels, (table.shape[0],))
    checks.check_place(seed, row, sample, x.shape[0], step_name="row")
    checks.check_same_device(
        x.device, pred=pred, table=table, levels=levels, row=row, seed=seed, sample=sample
    )
    if not 0.0 <= clip < float("inf"):
        raise ValueError(f"clip is {clip}; allowed: 0 (no clipping) or a positive finite number")


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
) -> Tensor:
    check_step(x, pred, table, levels, row, seed, sample, clip)
    checks.check_range("row", row, table.shape[0])
    k_x, k_pred, a, b, sd = _coefficients(table, row, x)
    wide = x.float()
    estimate = k_pred * pred.float()
    estimate.add_(k_x * wide)
    if clip > 0.0:
        estimate.clamp_(-clip, clip)
    estimate.mul_(a).add_(b * wide)
    if draw:
        size = x.numel() // max(1, x.shape[0])
        z = normals(seed, levels[row], sample, Stream.SAMPLING_NOISE, size).view_as(x)
        estimate.add_(z.mul_(sd))
    return estimate.to(x.dtype)


@_sampler_step.register_kernel("cuda")
def _(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    levels: Tensor,
    row: Tensor,
    seed: Tensor,
    sample: Tensor,
    clip: float,
    draw: bool,
) -> Tensor:
    from ddpm.kernels.gpu import sampler_step as gpu

    check_step(x, pred, table, levels, row, seed, sample, clip)
    return gpu.sampler_step(x, pred, table, levels, row, seed, sample, clip, draw)


@_sampler_step.register_fake
def _(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    levels: Tensor,
    row: Tensor,
    seed: Tensor,
    sample: Tensor,
    clip: float,
    draw: bool,
) -> Tensor:
    del draw
    check_step(x, pred, table, levels, row, seed, sample, clip)
    return torch.empty_like(x)


def _coefficients(table: Tensor, row: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Give the five numbers of each sample's row, ready to broadcast against x."""
    columns = table[row.expand(x.shape[0])].unbind(1)
    return tuple(per_sample(column, x) for column in columns)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, pred, table, _, row, _, _, clip, _ = inputs
    checks.check_no_grad(table=table)
    ctx.clip = clip
    ctx.save_for_backward(x, pred, table, row)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Pass the gradient through the mean; where the estimate is clipped only b x remains."""
    x, pred, table, row = ctx.saved_tensors
    k_x, k_pred, a, b, _ = _coefficients(table, row, x)
    wide = grad.float()
    through = a * wide
    if ctx.clip > 0.0:
        estimate = k_pred * pred.float() + k_x * x.float()
        through = torch.where(estimate.abs() > ctx.clip, torch.zeros_like(through), through)
    for_x = (k_x * through + b * wide).to(x.dtype)
    return for_x, (k_pred * through).to(pred.dtype), None, None, None, None, None, None, None


_sampler_step.register_autograd(_backward, setup_context=_setup)
