# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernel of `ddpm.kernels.q_sample`: read x_0 (and eps), write x_t (and v)."""

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
    v_ptr,  # [B, SIZE], receives v, or None
    x0_ptr,  # [B, SIZE]
    noise_ptr,  # [B, SIZE], or None where DRAWN
    t_ptr,  # int64 [B]
    signal_ptr,  # float32 [levels]
    sigma_ptr,  # float32 [levels]
    seed_ptr,  # int64 [], or None unless DRAWN
    step_ptr,  # int64 [] or [B], or None unless DRAWN
    sample_ptr,  # int64 [B], or None unless DRAWN
    levels,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    DRAWN: tl.constexpr,
    STEP_STRIDE: tl.constexpr,  # 1 where step is [B], else 0
):
    row, start = launch.place(SIZE, BLOCK)
    lane = tl.arange(0, BLOCK)
    mask = lane < SIZE - start
    place = row * SIZE + start + lane
    t = tl.load(t_ptr + row)
    signal = launch.at_level(signal_ptr, t, levels)
    sigma = launch.at_level(sigma_ptr, t, levels)
    x0 = tl.load(x0_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if DRAWN:
        seed = tl.load(seed_ptr)
        step = tl.load(step_ptr + row * STEP_STRIDE)
        sample = tl.load(sample_ptr + row)
        wide: tl.constexpr = x0_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
        noise = block_normals(seed, step, sample, _TRAINING_NOISE, start, BLOCK, wide)
    else:
        noise = tl.load(noise_ptr + place, mask=mask, other=0.0).to(tl.float32)
    x_t = tl.fma(sigma, noise, signal * x0)
    tl.store(out_ptr + place, x_t.to(out_ptr.dtype.element_ty), mask=mask)
    if v_ptr is not None:
        v = tl.fma(signal, noise, (sigma * -1.0) * x0)
        tl.store(v_ptr + place, v.to(v_ptr.dtype.element_ty), mask=mask)


def q_sample(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.q_sample.q_sample`."""
    out = torch.empty_like(x0)
    _launch(out, None, x0, noise, t, signal, sigma, None, None, None)
    return out


def q_sample_drawn(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.q_sample.q_sample_drawn`."""
    out = torch.empty_like(x0)
    _launch(out, None, x0, None, t, signal, sigma, seed, step, sample)
    return out


def q_sample_v(
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Launch on checked arguments; see `ddpm.kernels.q_sample_v.q_sample_v`."""
    out, v = torch.empty_like(x0), torch.empty_like(x0)
    _launch(out, v, x0, noise, t, signal, sigma, seed, step, sample)
    return out, v


def _launch(
    out: Tensor,
    v: Tensor | None,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
) -> None:
    if out.numel() == 0:
        return
    batch, size = launch.sizes(x0)
    # Sixteen-bit data leaves registers for twice the elements, and little time for each.
    times = 2 if noise is None and x0.element_size() == 2 else 1
    chosen = launch.choose(launch.architecture(x0.device), size, times)
    _q_sample_kernel[launch.grid(batch, -(-size // chosen.block))](
        out,
        v,
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
        STEP_STRIDE=0 if step is None else step.ndim,
        num_warps=chosen.num_warps,
    )
