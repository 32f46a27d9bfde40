# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernels of `ddpm.kernels.diffusion_loss`: forward a sum per sample, backward a gradient.

A program sums one block of one sample in a fixed order, and the last program of a sample adds its
blocks in the order of their places (`ddpm.kernels.gpu.reduce`): the same input gives the same bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.gpu import launch, reduce
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
    STEP_STRIDE: tl.constexpr,  # 1 where step is [B], else 0
):
    """Give pred - target, float32 [BLOCK]; unspecified where mask is false."""
    place = row * SIZE + start + lane
    pred = tl.load(pred_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if PREDICTION == "x0" or PREDICTION == "v":
        x0 = tl.load(x0_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if PREDICTION != "x0":
        if noise_ptr is None:
            seed = tl.load(seed_ptr)
            step = tl.load(step_ptr + row * STEP_STRIDE)
            sample = tl.load(sample_ptr + row)
            wide: tl.constexpr = pred_ptr.dtype.element_ty.primitive_bitwidth == 16 and BLOCK >= 8
            noise = block_normals(seed, step, sample, _TRAINING_NOISE, start, BLOCK, wide)
        else:
            noise = tl.load(noise_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if PREDICTION == "eps":
        residual = pred - noise
    elif PREDICTION == "x0":
        residual = pred - x0
    else:
        t = tl.load(t_ptr + row)
        sigma = launch.at_level(sigma_ptr, t, levels)
        if PREDICTION == "score":
            residual = tl.fma(1.0 / sigma, noise, pred)
        else:
            signal = launch.at_level(signal_ptr, t, levels)
            residual = pred - tl.fma(signal, noise, (sigma * -1.0) * x0)
    return residual


@triton.jit
def _diffusion_loss_kernel(
    out_ptr,  # float32 [B]
    partial_ptr,  # float32 [B, blocks], or None where a sample is one block
    ticket_ptr,  # int32 [B], all 0, or None where a sample is one block
    pred_ptr,  # [B, SIZE]
    x0_ptr,  # [B, SIZE], or None where it is not read
    noise_ptr,  # [B, SIZE], or None to draw it
    t_ptr,  # int64 [B]
    signal_ptr,  # float32 [levels]
    sigma_ptr,  # float32 [levels]
    weight_ptr,  # float32 [B]
    seed_ptr,  # int64 []
    step_ptr,  # int64 [] or [B]
    sample_ptr,  # int64 [B]
    levels,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PADDED: tl.constexpr,  # parts of a sample summed at a time
    PREDICTION: tl.constexpr,
    STEP_STRIDE: tl.constexpr,  # 1 where step is [B], else 0
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
        STEP_STRIDE,
    )
    residual = tl.where(mask, residual, 0.0)
    loss = tl.sum(residual * residual, 0)
    parts: tl.constexpr = (SIZE + BLOCK - 1) // BLOCK
    weight = tl.load(weight_ptr + row) / SIZE
    if parts == 1:
        tl.store(out_ptr + row, loss * weight)
    else:
        tl.store(partial_ptr + tl.program_id(0).to(tl.int64), loss)
        if reduce.arrive_last(ticket_ptr, row, parts):
            loss = reduce.sum_parts(partial_ptr, row, parts, PADDED)
            tl.store(out_ptr + row, loss * weight)


@triton.jit
def _diffusion_loss_backward_kernel(
    out_ptr,  # [B, SIZE], gradient of pred
    grad_ptr,  # float32 [B], gradient of the losses
    pred_ptr,  # [B, SIZE]
    x0_ptr,  # [B, SIZE], or None where it is not read
    noise_ptr,  # [B, SIZE], or None to draw it
    t_ptr,  # int64 [B]
    signal_ptr,  # float32 [levels]
    sigma_ptr,  # float32 [levels]
    weight_ptr,  # float32 [B]
    seed_ptr,  # int64 []
    step_ptr,  # int64 [] or [B]
    sample_ptr,  # int64 [B]
    levels,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PREDICTION: tl.constexpr,
    STEP_STRIDE: tl.constexpr,  # 1 where step is [B], else 0
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
        STEP_STRIDE,
    )
    scale = tl.load(grad_ptr + row) * (2.0 * tl.load(weight_ptr + row) / SIZE)
    for_pred = (scale * residual).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + (row * SIZE + start + lane), for_pred, mask=mask)


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
    blocks = -(-size // chosen.block)
    grid = launch.grid(batch, blocks)
    out = torch.empty_like(weight)
    many = blocks > 1
    partial = torch.empty(grid, dtype=torch.float32, device=pred.device) if many else None
    _diffusion_loss_kernel[grid](
        out,
        partial,
        reduce.tickets(pred.device, batch) if many else None,
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
        PADDED=reduce.padded(blocks),
        PREDICTION=prediction,
        STEP_STRIDE=0 if step is None else step.ndim,
        num_warps=chosen.num_warps,
    )
    return out


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
        STEP_STRIDE=0 if step is None else step.ndim,
        num_warps=chosen.num_warps,
    )
    return out
