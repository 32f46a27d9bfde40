# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernels of `ddpm.kernels.diffusion_loss`: forward a sum per sample, backward a gradient.

A program sums one chunk of one sample in a fixed order; chunks are added by a second launch. No
atomic additions: the same input gives the same bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.diffusion_loss import CHUNK
from ddpm.kernels.gpu import launch
from ddpm.kernels.gpu.philox import block_normals
from ddpm.kernels.streams import Stream

_TRAINING_NOISE = tl.constexpr(int(Stream.TRAINING_NOISE))


@triton.jit
def _residual(
    pred_ptr,
    x0_ptr,
    noise_ptr,
    t_ptr,
    signal_ptr,
    sigma_ptr,
    seed_ptr,
    step_ptr,
    sample_ptr,
    levels,
    row,
    start,
    lane,
    mask,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
):
    """Give pred - target, float32 [BLOCK]; unspecified where mask is false."""
    base = row * SIZE + start
    pred = tl.load(pred_ptr + base + lane, mask=mask, other=0.0).to(tl.float32)
    if PREDICTION != "eps":
        x0 = tl.load(x0_ptr + base + lane, mask=mask, other=0.0).to(tl.float32)
    if PREDICTION != "x0":
        if noise_ptr is None:
            seed = tl.load(seed_ptr)
            step = tl.load(step_ptr)
            sample = tl.load(sample_ptr + row)
            wide: tl.constexpr = pred_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
            noise = block_normals(seed, step, sample, _TRAINING_NOISE, start, BLOCK, wide)
        else:
            noise = tl.load(noise_ptr + base + lane, mask=mask, other=0.0).to(tl.float32)
    if PREDICTION == "eps":
        target = noise
    elif PREDICTION == "x0":
        target = x0
    else:
        t = tl.load(t_ptr + row)
        signal = launch.at_level(signal_ptr, t, levels)
        sigma = launch.at_level(sigma_ptr, t, levels)
        target = tl.fma(signal, noise, (sigma * -1.0) * x0)
    return pred - target


@triton.jit
def _diffusion_loss_kernel(
    out_ptr,  # float32 [B, chunks]
    pred_ptr,  # [B, SIZE]
    x0_ptr,  # [B, SIZE], or None where the target is eps
    noise_ptr,  # [B, SIZE], or None to draw it
    t_ptr,  # int64 [B]
    signal_ptr,  # float32 [levels]
    sigma_ptr,  # float32 [levels]
    weight_ptr,  # float32 [B]
    seed_ptr,  # int64 []
    step_ptr,  # int64 []
    sample_ptr,  # int64 [B]
    levels,
    SIZE: tl.constexpr,
    LENGTH: tl.constexpr,  # elements of a chunk, a multiple of BLOCK
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
):
    row, first = launch.place(SIZE, LENGTH)
    lane = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for offset in range(0, LENGTH, BLOCK):
        start = first + offset
        mask = lane < SIZE - start
        residual = _residual(
            pred_ptr,
            x0_ptr,
            noise_ptr,
            t_ptr,
            signal_ptr,
            sigma_ptr,
            seed_ptr,
            step_ptr,
            sample_ptr,
            levels,
            row,
            start,
            lane,
            mask,
            SIZE,
            BLOCK,
            PREDICTION,
        )
        residual = tl.where(mask, residual, 0.0)
        total = tl.fma(residual, residual, total)
    weight = tl.load(weight_ptr + row)
    tl.store(out_ptr + tl.program_id(0).to(tl.int64), tl.sum(total, 0) * (weight / SIZE))


@triton.jit
def _diffusion_loss_backward_kernel(
    out_ptr,  # [B, SIZE], gradient of pred
    grad_ptr,  # float32 [B], gradient of the losses
    pred_ptr,  # [B, SIZE]
    x0_ptr,  # [B, SIZE], or None where the target is eps
    noise_ptr,  # [B, SIZE], or None to draw it
    t_ptr,  # int64 [B]
    signal_ptr,  # float32 [levels]
    sigma_ptr,  # float32 [levels]
    weight_ptr,  # float32 [B]
    seed_ptr,  # int64 []
    step_ptr,  # int64 []
    sample_ptr,  # int64 [B]
    levels,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
):
    row, start = launch.place(SIZE, BLOCK)
    lane = tl.arange(0, BLOCK)
    mask = lane < SIZE - start
    residual = _residual(
        pred_ptr,
        x0_ptr,
        noise_ptr,
        t_ptr,
        signal_ptr,
        sigma_ptr,
        seed_ptr,
        step_ptr,
        sample_ptr,
        levels,
        row,
        start,
        lane,
        mask,
        SIZE,
        BLOCK,
        PREDICTION,
    )
    scale = tl.load(grad_ptr + row) * (2.0 * tl.load(weight_ptr + row) / SIZE)
    for_pred = (scale * residual).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * SIZE + start + lane, for_pred, mask=mask)


def diffusion_loss(
    pred: Tensor,
    x0: Tensor | None,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    weight: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.diffusion_loss.diffusion_loss`."""
    batch, size = launch.sizes(pred)
    if pred.numel() == 0:
        return torch.zeros_like(weight)
    chosen = launch.choose(launch.architecture(pred.device), size)
    length = min(CHUNK, -(-size // chosen.block) * chosen.block)
    chunks = -(-size // length)
    out = torch.empty(batch, chunks, dtype=torch.float32, device=pred.device)
    _diffusion_loss_kernel[launch.grid(batch, chunks)](
        out,
        pred,
        x0,
        noise,
        t,
        signal,
        sigma,
        weight,
        seed,
        step,
        sample,
        signal.shape[0],
        SIZE=size,
        LENGTH=length,
        BLOCK=chosen.block,
        PREDICTION=prediction,
        num_warps=chosen.num_warps,
    )
    return out.view(batch) if chunks == 1 else out.sum(1)


def diffusion_loss_backward(
    grad: Tensor,
    pred: Tensor,
    x0: Tensor | None,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    weight: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.diffusion_loss.diffusion_loss`."""
    out = torch.empty_like(pred)
    if out.numel() == 0:
        return out
    batch, size = launch.sizes(pred)
    chosen = launch.choose(launch.architecture(pred.device), size)
    _diffusion_loss_backward_kernel[launch.grid(batch, -(-size // chosen.block))](
        out,
        grad,
        pred,
        x0,
        noise,
        t,
        signal,
        sigma,
        weight,
        seed,
        step,
        sample,
        signal.shape[0],
        SIZE=size,
        BLOCK=chosen.block,
        PREDICTION=prediction,
        num_warps=chosen.num_warps,
    )
    return out
