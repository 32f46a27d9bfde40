# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernel of `ddpm.kernels.q_sample`: read x_0 (and eps), write x_t."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.gpu import launch
from ddpm.kernels.gpu.philox import block_normals
from ddpm.kernels.streams import Stream

_TRAINING_NOISE = tl.constexpr(int(Stream.TRAINING_NOISE))


@triton.jit
def _q_sample_kernel(
    out_ptr,  # [B, SIZE]
    x0_ptr,  # [B, SIZE]
    noise_ptr,  # [B, SIZE], or None where DRAWN
    t_ptr,  # int64 [B]
    signal_ptr,  # float32 [levels]
    sigma_ptr,  # float32 [levels]
    seed_ptr,  # int64 [], or None unless DRAWN
    step_ptr,  # int64 [], or None unless DRAWN
    sample_ptr,  # int64 [B], or None unless DRAWN
    levels,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    DRAWN: tl.constexpr,
):
    row, start = launch.place(SIZE, BLOCK)
    lane = tl.arange(0, BLOCK)
    mask = lane < SIZE - start
    base = row * SIZE + start
    t = tl.load(t_ptr + row)
    signal = launch.at_level(signal_ptr, t, levels)
    sigma = launch.at_level(sigma_ptr, t, levels)
    x0 = tl.load(x0_ptr + base + lane, mask=mask, other=0.0).to(tl.float32)
    if DRAWN:
        seed = tl.load(seed_ptr)
        step = tl.load(step_ptr)
        sample = tl.load(sample_ptr + row)
        wide: tl.constexpr = x0_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
        noise = block_normals(seed, step, sample, _TRAINING_NOISE, start, BLOCK, wide)
    else:
        noise = tl.load(noise_ptr + base + lane, mask=mask, other=0.0).to(tl.float32)
    x_t = tl.fma(sigma, noise, signal * x0)
    tl.store(out_ptr + base + lane, x_t.to(out_ptr.dtype.element_ty), mask=mask)


def q_sample(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.q_sample.q_sample`."""
    return _launch(x0, noise, t, signal, sigma, None, None, None)


def q_sample_drawn(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.q_sample.q_sample_drawn`."""
    return _launch(x0, None, t, signal, sigma, seed, step, sample)


def _launch(
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
) -> Tensor:
    out = torch.empty_like(x0)
    if out.numel() == 0:
        return out
    batch, size = launch.sizes(x0)
    chosen = launch.choose(launch.architecture(x0.device), size)
    _q_sample_kernel[launch.grid(batch, -(-size // chosen.block))](
        out,
        x0,
        noise,
        t,
        signal,
        sigma,
        seed,
        step,
        sample,
        signal.shape[0],
        SIZE=size,
        BLOCK=chosen.block,
        DRAWN=noise is None,
        num_warps=chosen.num_warps,
    )
    return out
