# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernel of `ddpm.kernels.sampler_step`: read x and pred, write x one step later."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.gpu import launch
from ddpm.kernels.gpu.philox import block_normals
from ddpm.kernels.streams import Stream

_SAMPLING_NOISE = tl.constexpr(int(Stream.SAMPLING_NOISE))


@triton.jit
def _sampler_step_kernel(
    out_ptr,  # [B, SIZE]
    x_ptr,  # [B, SIZE]
    pred_ptr,  # [B, SIZE]
    table_ptr,  # float32 [rows, 5]: k_x, k_pred, a, b, sd
    levels_ptr,  # int64 [rows]
    row_ptr,  # int64 [] or [B]
    seed_ptr,  # int64 []
    sample_ptr,  # int64 [B]
    rows,
    clip,  # float
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ROW_STRIDE: tl.constexpr,  # 1 where row is [B], else 0
    CLIP: tl.constexpr,
    DRAW: tl.constexpr,
):
    batch_row, start = launch.place(SIZE, BLOCK)
    lane = tl.arange(0, BLOCK)
    mask = lane < SIZE - start
    base = batch_row * SIZE + start
    row = tl.load(row_ptr + batch_row * ROW_STRIDE)
    known = (row >= 0) & (row < rows)
    entry = table_ptr + row * 5
    k_x = tl.load(entry, mask=known, other=float("nan"))
    k_pred = tl.load(entry + 1, mask=known, other=float("nan"))
    a = tl.load(entry + 2, mask=known, other=float("nan"))
    b = tl.load(entry + 3, mask=known, other=float("nan"))

    x = tl.load(x_ptr + base + lane, mask=mask, other=0.0).to(tl.float32)
    pred = tl.load(pred_ptr + base + lane, mask=mask, other=0.0).to(tl.float32)
    estimate = tl.fma(k_x, x, k_pred * pred)
    if CLIP:
        # NaN passes, so that a broken network shows.
        estimate = tl.clamp(estimate, clip * -1.0, clip, propagate_nan=tl.PropagateNan.ALL)
    x_s = tl.fma(b, x, a * estimate)
    if DRAW:
        sd = tl.load(entry + 4, mask=known, other=float("nan"))
        level = tl.load(levels_ptr + row, mask=known, other=0)
        seed = tl.load(seed_ptr)
        sample = tl.load(sample_ptr + batch_row)
        wide: tl.constexpr = x_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
        z = block_normals(seed, level, sample, _SAMPLING_NOISE, start, BLOCK, wide)
        x_s = tl.fma(sd, z, x_s)
    tl.store(out_ptr + base + lane, x_s.to(out_ptr.dtype.element_ty), mask=mask)


def sampler_step(
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
    """Launch on checked arguments; see `ddpm.kernels.sampler_step.sampler_step`."""
    out = torch.empty_like(x)
    if out.numel() == 0:
        return out
    batch, size = launch.sizes(x)
    chosen = launch.choose(launch.architecture(x.device), size)
    _sampler_step_kernel[launch.grid(batch, -(-size // chosen.block))](
        out,
        x,
        pred,
        table,
        levels,
        row,
        seed,
        sample,
        table.shape[0],
        clip,
        SIZE=size,
        BLOCK=chosen.block,
        ROW_STRIDE=row.ndim,
        CLIP=clip > 0.0,
        DRAW=draw,
        num_warps=chosen.num_warps,
    )
    return out
