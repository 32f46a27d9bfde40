"""Noising: x_t = signal[t] x_0 + sigma[t] eps, one pass over memory.

Two ops: `ddpm::q_sample` takes the noise, `ddpm::q_sample_drawn` draws it from the stream
TRAINING_NOISE, so that it never exists in memory.
"""

from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import checks
from ddpm.kernels.philox import normals
from ddpm.kernels.streams import Stream


def q_sample(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    """Noise clean data to level t with the given noise.  T-eq1, V-eq1.

    Args:
        x0: float32, float16 or bfloat16 [B, ...], clean data, contiguous.
        noise: like x0, standard normal.
        t: int64 [B], levels in 0..T; on a GPU a level outside yields NaN.
        signal: float32 [T + 1], sqrt(alpha_bar).
        sigma: float32 [T + 1], sqrt(1 - alpha_bar).

    Returns:
        Like x0: computed in float32, rounded once. Differentiable in x0 and noise.

    Raises:
        ValueError: a dtype, shape, device or level is not allowed, or a table requires a gradient.
    """
    checks.check_no_grad(signal=signal, sigma=sigma)
    result: Tensor = _q_sample(x0, noise, t, signal, sigma)
    return result


def q_sample_drawn(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Tensor:
    """Noise clean data to level t with noise drawn where it is used.  T-eq1, V-eq1.

    Args:
        x0: float32, float16 or bfloat16 [B, ...], clean data, contiguous.
        t: int64 [B], levels in 0..T; on a GPU a level outside yields NaN.
        signal: float32 [T + 1], sqrt(alpha_bar).
        sigma: float32 [T + 1], sqrt(1 - alpha_bar).
        seed: int64 [], any value.
        step: int64 [], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.

    Returns:
        Like x0: equal to `q_sample` with the float32 normals of stream TRAINING_NOISE, which are
        not rounded to the dtype of x0. Differentiable in x0.

    Raises:
        ValueError: a dtype, shape, device or level is not allowed, or a table requires a gradient.
    """
    checks.check_no_grad(signal=signal, sigma=sigma)
    result: Tensor = _q_sample_drawn(x0, t, signal, sigma, seed, step, sample)
    return result


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Append dimensions to a vector [B] so that it broadcasts against [B, ...]."""
    return value.view(-1, *(1,) * (like.ndim - 1))


def check_given(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> None:
    """Check everything that is known before a launch."""
    checks.check_storage("x0", x0)
    checks.check_dtype("noise", noise, (x0.dtype,))
    checks.check_shape("noise", noise, x0.shape)
    checks.check_contiguous("noise", noise)
    checks.check_tables(t, signal, sigma, x0.shape[0])
    checks.check_same_device(x0.device, noise=noise, t=t, signal=signal, sigma=sigma)


def check_drawn(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> None:
    """Check everything that is known before a launch."""
    checks.check_storage("x0", x0)
    checks.check_tables(t, signal, sigma, x0.shape[0])
    checks.check_place(seed, step, sample, x0.shape[0])
    checks.check_same_device(
        x0.device, t=t, signal=signal, sigma=sigma, seed=seed, step=step, sample=sample
    )


def _mix(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    """Give signal[t] x0 + sigma[t] noise in float32, rounded to the dtype of x0."""
    checks.check_range("t", t, signal.shape[0])
    mixed = per_sample(sigma[t], x0) * noise.float()
    return mixed.add_(per_sample(signal[t], x0) * x0.float()).to(x0.dtype)


@torch.library.custom_op("ddpm::q_sample", mutates_args=(), device_types="cpu")
def _q_sample(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    check_given(x0, noise, t, signal, sigma)
    return _mix(x0, noise, t, signal, sigma)


@_q_sample.register_kernel("cuda")
def _(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    from ddpm.kernels.gpu import q_sample as gpu

    check_given(x0, noise, t, signal, sigma)
    return gpu.q_sample(x0, noise, t, signal, sigma)


@_q_sample.register_fake
def _(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    check_given(x0, noise, t, signal, sigma)
    return torch.empty_like(x0)


@torch.library.custom_op("ddpm::q_sample_drawn", mutates_args=(), device_types="cpu")
def _q_sample_drawn(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Tensor:
    check_drawn(x0, t, signal, sigma, seed, step, sample)
    size = x0.numel() // max(1, x0.shape[0])
    noise = normals(seed, step, sample, Stream.TRAINING_NOISE, size).view_as(x0)
    return _mix(x0, noise, t, signal, sigma)


@_q_sample_drawn.register_kernel("cuda")
def _(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Tensor:
    from ddpm.kernels.gpu import q_sample as gpu

    check_drawn(x0, t, signal, sigma, seed, step, sample)
    return gpu.q_sample_drawn(x0, t, signal, sigma, seed, step, sample)


@_q_sample_drawn.register_fake
def _(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Tensor:
    check_drawn(x0, t, signal, sigma, seed, step, sample)
    return torch.empty_like(x0)


def _setup_given(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    del output
    _, _, t, signal, sigma = inputs
    checks.check_no_grad(signal=signal, sigma=sigma)
    ctx.save_for_backward(t, signal, sigma)


def _backward_given(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    t, signal, sigma = ctx.saved_tensors
    for_x0 = _scaled(grad, signal, t) if ctx.needs_input_grad[0] else None
    for_noise = _scaled(grad, sigma, t) if ctx.needs_input_grad[1] else None
    return for_x0, for_noise, None, None, None


def _setup_drawn(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    del output
    _, t, signal, sigma, *_ = inputs
    checks.check_no_grad(signal=signal, sigma=sigma)
    ctx.save_for_backward(t, signal)


def _backward_drawn(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    t, signal = ctx.saved_tensors
    return _scaled(grad, signal, t), None, None, None, None, None, None


def _scaled(grad: Tensor, table: Tensor, t: Tensor) -> Tensor:
    """Give table[t] grad in float32, rounded to the dtype of grad."""
    return (per_sample(table[t], grad) * grad.float()).to(grad.dtype)


_q_sample.register_autograd(_backward_given, setup_context=_setup_given)
_q_sample_drawn.register_autograd(_backward_drawn, setup_context=_setup_drawn)
