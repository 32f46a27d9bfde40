# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernel of `ddpm.kernels.normal`: write standard normals, read nothing."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.gpu import launch
from ddpm.kernels.gpu.philox import block_normals


@triton.jit
def _normal_kernel(
    out_ptr,  # [B, SIZE]
    seed_ptr,  # int64 []
    step_ptr,  # int64 [] or [B]
    sample_ptr,  # int64 [B]
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    STREAM: tl.constexpr,
    STEP_STRIDE: tl.constexpr,  # 1 where step is [B], else 0
):
    row, start = launch.place(SIZE, BLOCK)
    lane = tl.arange(0, BLOCK)
    mask = lane < SIZE - start
    seed = tl.load(seed_ptr)
    step = tl.load(step_ptr + row * STEP_STRIDE)
    sample = tl.load(sample_ptr + row)
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    wide: tl.constexpr = dtype.primitive_bitwidth == 16 and BLOCK >= 8
    z = block_normals(seed, step, sample, STREAM, start, BLOCK, wide)
    tl.store(out_ptr + (row * SIZE + start + lane), z.to(dtype), mask=mask)


def normal(
    seed: Tensor,
    step: Tensor,
    sample: Tensor,
    stream: int,
    shape: list[int],
    dtype: torch.dtype,
) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.normal.normal`."""
    out = torch.empty(sample.shape[0], *shape, dtype=dtype, device=sample.device)
    if out.numel() == 0:
        return out
    batch, size = launch.sizes(out)
    times = 2 if out.element_size() == 2 else 1
    chosen = launch.choose(launch.architecture(out.device), size, times)
    _normal_kernel[launch.grid(batch, -(-size // chosen.block))](
        out,
        seed,
        step,
        sample,
        SIZE=size,
        BLOCK=chosen.block,
        STREAM=stream,
        STEP_STRIDE=step.ndim,
        num_warps=chosen.num_warps,
    )
    return out
