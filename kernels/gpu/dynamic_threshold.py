# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernel of `ddpm.kernels.dynamic_threshold`: one program selects in one sample.

The bits of a number that is not negative sort like the number, so the number of a rank is found
digit by digit: count the digits among the numbers that share the digits found so far. Counts are
integers, so the result does not depend on any order. Only the first pass over a sample goes to
memory, unless the sample exceeds the caches. AMD counts with masks of 64 lanes in its few scalar
registers, which hold those of 4 bits and not those of 8.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.dynamic_threshold import position
from ddpm.kernels.gpu import launch
from ddpm.kernels.gpu.sampler_step import clean_estimate, entry

_MAGNITUDE = tl.constexpr(0x7FFFFFFF)
_INFINITY_BITS = tl.constexpr(0x7F800000)

# Threads of a program. Each handles 16 bytes at a time.
_THREADS = 512


@triton.jit
def _magnitude(x_ptr, pred_ptr, uncond_ptr, at, at_pred, inside, scale, k_x, k_pred):
    """The bits of |x0_hat| as int32."""
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    clean = clean_estimate(x, pred_ptr, uncond_ptr, scale, at_pred, inside, k_x, k_pred)
    return clean.to(tl.int32, bitcast=True) & _MAGNITUDE


@triton.jit
def _dynamic_threshold_kernel(
    out_ptr,  # float32 [B]
    x_ptr,  # [B, SIZE]
    pred_ptr,  # [B, PRED_SIZE], of which the first SIZE count
    uncond_ptr,  # like pred, or None
    table_ptr,  # float32 [rows, 8]
    row_ptr,  # int64 [] or [B]
    scale_ptr,  # float32 [] or [B], or None without uncond
    rows,
    below,  # int, rank of the number below the quantile
    share,  # float, of the way from there to the next number
    max_value,  # float
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PRED_SIZE: tl.constexpr,
    ROW_STRIDE: tl.constexpr,  # 1 where row is [B], else 0
    SCALE_STRIDE: tl.constexpr,  # 1 where scale is [B], else 0
    BITS: tl.constexpr,  # found in a pass
):
    sample = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    at, at_pred = sample * SIZE + lane, sample * PRED_SIZE + lane
    row = tl.load(row_ptr + sample * ROW_STRIDE)
    known = (row >= 0) & (row < rows)
    k_x, k_pred = entry(table_ptr, row, 0, known), entry(table_ptr, row, 1, known)
    scale = 1.0
    if uncond_ptr is not None:
        scale = tl.load(scale_ptr + sample * SCALE_STRIDE)

    BINS: tl.constexpr = 2**BITS
    PASSES: tl.constexpr = (30 + BITS) // BITS
    bins = tl.arange(0, BINS)
    found = tl.zeros((), tl.int32)
    mask = tl.zeros((), tl.int32)
    rank = tl.zeros((), tl.int64) + below
    equal = tl.zeros((), tl.int64)
    highest = tl.zeros((BLOCK,), tl.int32)
    for step in range(PASSES):
        shift = BITS * (PASSES - 1 - step)
        counts = tl.zeros((BINS,), tl.int64)
        for start in range(0, SIZE, BLOCK):
            inside = lane < SIZE - start
            bits = _magnitude(
                x_ptr, pred_ptr, uncond_ptr, at + start, at_pred + start, inside, scale, k_x, k_pred
            )
            highest = tl.maximum(highest, tl.where(inside, bits, 0))
            alike = inside & ((bits & mask) == found)
            counts += tl.histogram((bits >> shift) & (BINS - 1), BINS, mask=alike).to(tl.int64)
        digit = tl.sum((tl.cumsum(counts) <= rank).to(tl.int32))
        rank -= tl.sum(tl.where(bins < digit, counts, 0))
        equal = tl.sum(tl.where(bins == digit, counts, 0))
        found |= digit << shift
        mask |= (BINS - 1) << shift

    following = found
    if (share > 0.0) & (rank + 1 >= equal):
        least = tl.full((BLOCK,), _MAGNITUDE, tl.int32)
        for start in range(0, SIZE, BLOCK):
            inside = lane < SIZE - start
            bits = _magnitude(
                x_ptr, pred_ptr, uncond_ptr, at + start, at_pred + start, inside, scale, k_x, k_pred
            )
            least = tl.minimum(least, tl.where(inside & (bits > found), bits, _MAGNITUDE))
        following = tl.min(least)
    low = found.to(tl.float32, bitcast=True)
    value = tl.fma(following.to(tl.float32, bitcast=True) - low, share, low)
    # A NaN anywhere shows, as in every quantile of numbers that cannot be sorted.
    top = tl.max(highest)
    value = tl.where(top > _INFINITY_BITS, top.to(tl.float32, bitcast=True), value)
    value = tl.clamp(value, 1.0, max_value, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out_ptr + sample, value)


def dynamic_threshold(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    row: Tensor,
    ratio: float,
    max_value: float,
    uncond: Tensor | None,
    guidance_scale: Tensor | None,
    learned: str,
) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.dynamic_threshold.dynamic_threshold`."""
    del learned
    batch, size = launch.sizes(x)
    out = torch.empty(batch, dtype=torch.float32, device=x.device)
    if batch == 0:
        return out
    per_thread = 16 // x.element_size()
    block = min(_THREADS * per_thread, triton.next_power_of_2(size))
    lanes, bits = (64, 4) if launch.architecture(x.device).startswith("hip") else (32, 8)
    below, share = position(ratio, size)
    _dynamic_threshold_kernel[launch.grid(batch, 1)](
        out,
        x,
        pred,
        uncond,
        table,
        row,
        guidance_scale,
        table.shape[0],
        below,
        share,
        max_value,
        SIZE=size,
        BLOCK=block,
        PRED_SIZE=launch.sizes(pred)[1],
        ROW_STRIDE=row.ndim,
        SCALE_STRIDE=0 if guidance_scale is None else guidance_scale.ndim,
        BITS=bits,
        num_warps=max(1, block // (lanes * per_thread)),
    )
    return out
