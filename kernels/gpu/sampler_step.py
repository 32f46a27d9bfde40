# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernel of `ddpm.kernels.sampler_step`: read x and pred, write x one step later."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.affine_step import COLUMNS, Step
from ddpm.kernels.gpu import launch
from ddpm.kernels.gpu.exponential import exponential
from ddpm.kernels.gpu.philox import block_normals
from ddpm.kernels.streams import Stream

_SAMPLING_NOISE = tl.constexpr(int(Stream.SAMPLING_NOISE))
_COLUMNS = tl.constexpr(len(COLUMNS))
_A, _B, _C, _SD, _V0, _V1 = (
    tl.constexpr(COLUMNS.index(name)) for name in ("a", "b", "c", "sd", "v0", "v1")
)


@triton.jit
def entry(table_ptr, row, column, known):
    """Entry of a table of coefficients, NaN where the row is not known."""
    return tl.load(table_ptr + (row * _COLUMNS + column), mask=known, other=float("nan"))


@triton.jit
def clean_estimate(x, pred_ptr, uncond_ptr, scale, at, mask, k_x, k_pred):
    """The estimate of x_0, float32; uncond_ptr may be None, and at are offsets into pred."""
    guided = tl.load(pred_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if uncond_ptr is not None:
        uncond = tl.load(uncond_ptr + at, mask=mask, other=0.0).to(tl.float32)
        guided = tl.fma(scale, guided - uncond, uncond)
    return tl.fma(k_x, x, k_pred * guided)


@triton.jit
def _deviation(raw_ptr, at, mask, v0, v1, LEARNED: tl.constexpr):
    """The standard deviation that a network learned, next to the factor sd of the table."""
    raw = tl.load(raw_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if LEARNED == "log":
        return exponential(tl.fma(v1, raw, v0))
    share = 1.0 / (exponential(raw * -1.0) + 1.0)
    return tl.sqrt(tl.fma(v1, share, v0))


@triton.jit
def _sampler_step_kernel(
    out_ptr,  # [B, SIZE]
    clean_ptr,  # [B, SIZE], receives the estimate, or None
    x_ptr,  # [B, SIZE]
    pred_ptr,  # [B, SIZE], or [B, 2, SIZE] where LEARNED
    uncond_ptr,  # like pred, or None
    history_ptr,  # [B, SIZE], or None
    table_ptr,  # float32 [rows, 8]
    levels_ptr,  # int64 [rows]
    row_ptr,  # int64 [] or [B]
    seed_ptr,  # int64 []
    sample_ptr,  # int64 [B]
    scale_ptr,  # float32 [] or [B], or None without uncond
    threshold_ptr,  # float32 [B], or None
    rows,
    clip,  # float
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ROW_STRIDE: tl.constexpr,  # 1 where row is [B], else 0
    SCALE_STRIDE: tl.constexpr,  # 1 where scale is [B], else 0
    CLIP: tl.constexpr,
    DRAW: tl.constexpr,
    LEARNED: tl.constexpr,  # "none", "log" or "sigmoid"
):
    batch_row, start = launch.place(SIZE, BLOCK)
    lane = tl.arange(0, BLOCK)
    mask = lane < SIZE - start
    at = batch_row * SIZE + start + lane
    at_pred = at if LEARNED == "none" else batch_row * (2 * SIZE) + start + lane
    row = tl.load(row_ptr + batch_row * ROW_STRIDE)
    known = (row >= 0) & (row < rows)
    if history_ptr is None:
        known = known & (entry(table_ptr, row, _C, known) == 0.0)
    k_x, k_pred = entry(table_ptr, row, 0, known), entry(table_ptr, row, 1, known)
    scale = 1.0
    if uncond_ptr is not None:
        scale = tl.load(scale_ptr + batch_row * SCALE_STRIDE)

    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    clean = clean_estimate(x, pred_ptr, uncond_ptr, scale, at_pred, mask, k_x, k_pred)
    # NaN passes, so that a broken network shows.
    if threshold_ptr is not None:
        clean = clean * (1.0 / tl.load(threshold_ptr + batch_row))
        clean = tl.clamp(clean, -1.0, 1.0, propagate_nan=tl.PropagateNan.ALL)
    elif CLIP:
        clean = tl.clamp(clean, clip * -1.0, clip, propagate_nan=tl.PropagateNan.ALL)
    if clean_ptr is not None:
        tl.store(clean_ptr + at, clean.to(clean_ptr.dtype.element_ty), mask=mask)
    x_s = tl.fma(entry(table_ptr, row, _B, known), x, entry(table_ptr, row, _A, known) * clean)
    if history_ptr is not None:
        history = tl.load(history_ptr + at, mask=mask, other=0.0).to(tl.float32)
        x_s = tl.fma(entry(table_ptr, row, _C, known), history, x_s)
    if DRAW:
        deviation = entry(table_ptr, row, _SD, known)
        if LEARNED != "none":
            v0, v1 = entry(table_ptr, row, _V0, known), entry(table_ptr, row, _V1, known)
            learned = _deviation(pred_ptr, at_pred + SIZE, mask, v0, v1, LEARNED)
            deviation = deviation * learned
        level = tl.load(levels_ptr + row, mask=known, other=0)
        seed, sample = tl.load(seed_ptr), tl.load(sample_ptr + batch_row)
        wide: tl.constexpr = x_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
        z = block_normals(seed, level, sample, _SAMPLING_NOISE, start, BLOCK, wide)
        x_s = tl.fma(deviation, z, x_s)
    tl.store(out_ptr + at, x_s.to(out_ptr.dtype.element_ty), mask=mask)


def step(given: Step, keep: bool) -> tuple[Tensor, ...]:
    """Launch on checked arguments.

    Args:
        given: see `ddpm.kernels.sampler_step.sampler_step_multistep`.
        keep: whether the estimate of x_0 is wanted.

    Returns:
        x_s and, where keep, also the estimate, both like x.
    """
    x = given.x
    out, clean = torch.empty_like(x), torch.empty_like(x) if keep else None
    if out.numel() > 0:
        batch, size = launch.sizes(x)
        chosen = launch.choose(launch.architecture(x.device), size)
        _sampler_step_kernel[launch.grid(batch, -(-size // chosen.block))](
            out,
            clean,
            x,
            given.pred,
            given.uncond,
            given.history,
            given.table,
            given.levels,
            given.row,
            given.seed,
            given.sample,
            given.guidance_scale,
            given.threshold,
            given.table.shape[0],
            given.clip,
            SIZE=size,
            BLOCK=chosen.block,
            ROW_STRIDE=given.row.ndim,
            SCALE_STRIDE=0 if given.guidance_scale is None else given.guidance_scale.ndim,
            CLIP=given.clip > 0.0,
            DRAW=given.draw,
            LEARNED=given.learned,
            num_warps=chosen.num_warps,
        )
    return (out,) if clean is None else (out, clean)
