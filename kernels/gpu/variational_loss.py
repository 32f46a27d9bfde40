# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""Triton kernels of `ddpm.kernels.variational_loss`: two means a sample, and their gradient.

A sample is at one level, so that a program either is at level 1 or is not: the decoder's term, in
float64 and for fewer elements at a time, is a branch that all its threads take together.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.gpu import launch, reduce
from ddpm.kernels.gpu.variational_terms import (
    column,
    decoder_gradients,
    decoder_sums,
    divergence_gradients,
    divergence_sums,
    place_of_noise,
)
from ddpm.kernels.squared_errors import CHUNK

# The block over that of the decoder's term, whose numbers are twice as wide and more.
_SHARE = 8
_LEAST = 64


@triton.jit
def _variational_loss_kernel(
    loss_ptr,  # float32 [B]
    simple_ptr,  # float32 [B]
    bound_ptr,  # float32 [B]
    part_simple_ptr,  # float32 [B, chunks], or None where a sample is one chunk
    part_bound_ptr,  # float32 [B, chunks], or None where a sample is one chunk
    ticket_ptr,  # int32 [B], all 0, or None where a sample is one chunk
    output_ptr,  # [B, 2, SIZE]: the prediction, then raw
    x0_ptr,  # [B, SIZE]
    noise_ptr,  # [B, SIZE], or None to draw it
    t_ptr,  # int64 [B]
    table_ptr,  # float32 [levels, 6]: signal, sigma, root, d0, d1, half
    weight_ptr,  # float32 [B]
    bound_weight_ptr,  # float32 [B]
    seed_ptr,  # int64 []
    step_ptr,  # int64 [] or [B]
    sample_ptr,  # int64 [B]
    levels,
    SIZE: tl.constexpr,
    LENGTH: tl.constexpr,  # elements of a chunk, a multiple of BLOCK
    PADDED: tl.constexpr,  # chunks of a sample summed at a time
    BLOCK: tl.constexpr,
    FINE: tl.constexpr,  # elements at a time at level 1
    PREDICTION: tl.constexpr,
    LEARNED: tl.constexpr,
    STEP_STRIDE: tl.constexpr,  # 1 where step is [B], else 0
):
    row, first = launch.place(SIZE, LENGTH)
    t = tl.load(t_ptr + row)
    signal = column(table_ptr, t, levels, 0)
    sigma = column(table_ptr, t, levels, 1)
    root = column(table_ptr, t, levels, 2)
    d0 = column(table_ptr, t, levels, 3)
    d1 = column(table_ptr, t, levels, 4)
    half = column(table_ptr, t, levels, 5)
    seed, step, sample = place_of_noise(seed_ptr, step_ptr, sample_ptr, row, STEP_STRIDE)
    if t == 1:
        simple, bound = decoder_sums(
            output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, first,
            root, d0, d1, half, SIZE, LENGTH, FINE, PREDICTION, LEARNED,
        )  # fmt: skip
    else:
        simple, bound = divergence_sums(
            output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, first,
            root, d0, d1, SIZE, LENGTH, BLOCK, PREDICTION, LEARNED,
        )  # fmt: skip
    chunks: tl.constexpr = (SIZE + LENGTH - 1) // LENGTH
    last = True
    if chunks > 1:
        part = tl.program_id(0).to(tl.int64)
        tl.store(part_simple_ptr + part, simple)
        tl.store(part_bound_ptr + part, bound)
        last = reduce.arrive_last(ticket_ptr, row, chunks)
    if last:
        if chunks > 1:
            simple = reduce.sum_parts(part_simple_ptr, row, chunks, PADDED)
            bound = reduce.sum_parts(part_bound_ptr, row, chunks, PADDED)
        simple = simple / SIZE
        bound = bound / SIZE
        weighted = tl.load(weight_ptr + row) * simple
        tl.store(simple_ptr + row, simple)
        tl.store(bound_ptr + row, bound)
        tl.store(loss_ptr + row, tl.fma(tl.load(bound_weight_ptr + row), bound, weighted))


@triton.jit
def _variational_loss_backward_kernel(
    out_ptr,  # [B, 2, SIZE], gradients of the prediction and of raw
    grad_ptr,  # float32 [B], gradient of the losses
    output_ptr,  # [B, 2, SIZE]
    x0_ptr,  # [B, SIZE]
    noise_ptr,  # [B, SIZE], or None to draw it
    t_ptr,  # int64 [B]
    table_ptr,  # float32 [levels, 6]
    weight_ptr,  # float32 [B]
    bound_weight_ptr,  # float32 [B]
    seed_ptr,  # int64 []
    step_ptr,  # int64 [] or [B]
    sample_ptr,  # int64 [B]
    levels,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    FINE: tl.constexpr,  # elements at a time at level 1
    PREDICTION: tl.constexpr,
    LEARNED: tl.constexpr,
    STEP_STRIDE: tl.constexpr,
    DETACH: tl.constexpr,
):
    row, first = launch.place(SIZE, BLOCK)
    t = tl.load(t_ptr + row)
    signal = column(table_ptr, t, levels, 0)
    sigma = column(table_ptr, t, levels, 1)
    root = column(table_ptr, t, levels, 2)
    d0 = column(table_ptr, t, levels, 3)
    d1 = column(table_ptr, t, levels, 4)
    half = column(table_ptr, t, levels, 5)
    seed, step, sample = place_of_noise(seed_ptr, step_ptr, sample_ptr, row, STEP_STRIDE)
    grad = tl.load(grad_ptr + row)
    minus_simple = (grad * tl.load(weight_ptr + row)) * (-2.0 / SIZE)
    each = (grad * tl.load(bound_weight_ptr + row)) * (1.0 / SIZE)
    if t == 1:
        decoder_gradients(
            out_ptr, output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, first,
            root, d0, d1, half, minus_simple, each,
            SIZE, BLOCK, FINE, PREDICTION, LEARNED, DETACH,
        )  # fmt: skip
    else:
        divergence_gradients(
            out_ptr, output_ptr, x0_ptr, noise_ptr, signal, sigma, seed, step, sample, row, first,
            root, d0, d1, minus_simple, each,
            SIZE, BLOCK, PREDICTION, LEARNED, DETACH,
        )  # fmt: skip


def variational_loss(
    output: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    table: Tensor,
    weight: Tensor,
    bound_weight: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
    learned: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch on checked arguments; see `ddpm.kernels.variational_loss.variational_loss`."""
    batch, size = launch.sizes(x0)
    if x0.numel() == 0:
        return torch.zeros_like(weight), torch.zeros_like(weight), torch.zeros_like(weight)
    chosen = launch.choose(launch.architecture(x0.device), size)
    length = min(CHUNK, -(-size // chosen.block) * chosen.block)
    chunks = -(-size // length)
    grid = launch.grid(batch, chunks)
    loss, simple, bound = (torch.empty_like(weight) for _ in range(3))
    many = chunks > 1
    parts = [torch.empty(grid, device=x0.device) if many else None for _ in range(2)]
    _variational_loss_kernel[grid](
        loss,
        simple,
        bound,
        *parts,
        reduce.tickets(x0.device, batch) if many else None,
        output,
        x0,
        noise,
        t,
        table,
        weight,
        bound_weight,
        seed,
        step,
        sample,
        table.shape[0],
        SIZE=size,
        LENGTH=length,
        PADDED=reduce.padded(chunks),
        BLOCK=chosen.block,
        FINE=fine(chosen.block),
        PREDICTION=prediction,
        LEARNED=learned,
        STEP_STRIDE=0 if step is None else step.ndim,
        num_warps=chosen.num_warps,
    )
    return loss, simple, bound


def variational_loss_backward(
    grad: Tensor,
    output: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    table: Tensor,
    weight: Tensor,
    bound_weight: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
    learned: str,
    detach_mean: bool,
) -> Tensor:
    """Launch on checked arguments; see `ddpm.kernels.variational_loss.variational_loss`."""
    out = torch.empty_like(output)
    if out.numel() == 0:
        return out
    batch, size = launch.sizes(x0)
    chosen = launch.choose(launch.architecture(x0.device), size)
    _variational_loss_backward_kernel[launch.grid(batch, -(-size // chosen.block))](
        out,
        grad,
        output,
        x0,
        noise,
        t,
        table,
        weight,
        bound_weight,
        seed,
        step,
        sample,
        table.shape[0],
        SIZE=size,
        BLOCK=chosen.block,
        FINE=fine(chosen.block),
        PREDICTION=prediction,
        LEARNED=learned,
        STEP_STRIDE=0 if step is None else step.ndim,
        DETACH=detach_mean,
        num_warps=chosen.num_warps,
    )
    return out


def fine(block: int) -> int:
    """Elements at a time at level 1, of those of a block."""
    return min(block, max(_LEAST, block // _SHARE))
