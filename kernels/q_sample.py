"""Noising: x_t = signal[t] x_0 + sigma[t] eps, one pass over memory.

Two ops: `ddpm::q_sample` takes the noise, `ddpm::q_sample_drawn` draws it from the stream
TRAINING_NOISE, so that it never exists in memory.
"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import batching, checks, compiled, eager
from ddpm.kernels.philox import normals
from ddpm.kernels.samples import PART, coefficients, cut, parts, per_sample
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
    call = _given_at_once if eager.at_once(x0) else _given
    result: Tensor = call(x0, noise, t, signal, sigma)
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
        step: int64 [] or [B], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.

    Returns:
        Like x0: equal to `q_sample` with the float32 normals of stream TRAINING_NOISE, which are
        not rounded to the dtype of x0. Differentiable in x0.

    Raises:
        ValueError: a dtype, shape, device or level is not allowed, or a table requires a gradient.
    """
    checks.check_no_grad(signal=signal, sigma=sigma)
    call = _drawn_at_once if eager.at_once(x0) else _drawn
    result: Tensor = call(x0, t, signal, sigma, seed, step, sample)
    return result


def check_given(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> None:
    """Check everything that is known before a launch."""
    if (
        checks.are_alike(x0, noise)
        and noise.dtype is x0.dtype
        and checks.are_levels(t, signal, sigma, x0.shape[0])
    ):
        return
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


def drawing(
    x: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Callable[[slice | None], Tensor]:
    """Give a function that draws the training noise of some samples of x, float32."""

    def draw(rows: slice | None) -> Tensor:
        shape = cut(x, rows).shape
        steps = cut(step, rows) if step.ndim else step
        samples = cut(sample, rows)
        size = shape[1:].numel()
        return normals(seed, steps, samples, Stream.TRAINING_NOISE, size).view(shape)

    return draw


def mix(
    x0: Tensor,
    noise: Tensor | Callable[[slice | None], Tensor],
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    v: Tensor | None = None,
) -> Tensor:
    """Give signal[t] x0 + sigma[t] noise like x0, tile by tile.

    Args:
        x0: checked arguments on the CPU, as are all others.
        noise: like x0, or what draws it for some samples.
        t: levels.
        signal: sqrt(alpha_bar).
        sigma: sqrt(1 - alpha_bar).
        v: like x0, receives signal[t] noise - sigma[t] x0; None where it is not wanted.

    Raises:
        ValueError: a level is outside the tables.
    """
    if compiled.fit(x0, noise if isinstance(noise, Tensor) else None):
        return _mix_compiled(x0, noise, t, signal, sigma, v)
    checks.check_range("t", t, signal.shape[0])
    if x0.numel() <= PART:
        z = noise if isinstance(noise, Tensor) else noise(None)
        return _mix_part(x0, z, t, signal, sigma, v)
    out = torch.empty_like(x0)
    for rows in parts(x0):
        z = noise[rows] if isinstance(noise, Tensor) else noise(rows)
        velocity = None if v is None else v[rows]
        out[rows] = _mix_part(x0[rows], z, t[rows], signal, sigma, velocity)
    return out


def _mix_compiled(
    x0: Tensor,
    noise: Tensor | Callable[[slice | None], Tensor],
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    v: Tensor | None,
) -> Tensor:
    """Do what `mix` does by a compiled loop, at once where the noise need not be drawn."""
    noising = _noising()
    out = torch.empty_like(x0)
    given = isinstance(noise, Tensor)
    for rows in (None,) if given or x0.numel() <= PART else parts(x0):
        z = noise if isinstance(noise, Tensor) else noise(rows)
        velocity = None if v is None else cut(v, rows)
        if not noising.mix(cut(x0, rows), z, cut(t, rows), signal, sigma, cut(out, rows), velocity):
            checks.check_range("t", t, signal.shape[0])
    return out


@cache
def _noising() -> ModuleType:
    from ddpm.kernels.cpu import noising

    return noising


def _mix_part(
    x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, v: Tensor | None
) -> Tensor:
    """Do what `mix` does for some samples, in float32 and rounded once."""
    a, b = coefficients(signal[t], x0), coefficients(sigma[t], x0)
    x, z = x0.float(), noise.float()
    if v is not None:
        v.copy_((z * a).sub_(x * b))
    mixed = (x * a).add_(z * b)
    return mixed if mixed.dtype is x0.dtype else mixed.to(x0.dtype)


def _mix_given(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    check_given(x0, noise, t, signal, sigma)
    return mix(x0, noise, t, signal, sigma)


def _mix_drawn(
    x0: Tensor, t: Tensor, signal: Tensor, sigma: Tensor, seed: Tensor, step: Tensor, sample: Tensor
) -> Tensor:
    check_drawn(x0, t, signal, sigma, seed, step, sample)
    return mix(x0, drawing(x0, seed, step, sample), t, signal, sigma)


@torch.library.custom_op("ddpm::q_sample", mutates_args=(), device_types="cpu")
def _q_sample(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    return _mix_given(x0, noise, t, signal, sigma)


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
    return _mix_drawn(x0, t, signal, sigma, seed, step, sample)


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
    for_x0 = scaled(grad, signal, t) if ctx.needs_input_grad[0] else None
    for_noise = scaled(grad, sigma, t) if ctx.needs_input_grad[1] else None
    return for_x0, for_noise, None, None, None


def _setup_drawn(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    del output
    _, t, signal, sigma, *_ = inputs
    checks.check_no_grad(signal=signal, sigma=sigma)
    ctx.save_for_backward(t, signal)


def _backward_drawn(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    t, signal = ctx.saved_tensors
    return scaled(grad, signal, t), None, None, None, None, None, None


def scaled(grad: Tensor, table: Tensor, t: Tensor) -> Tensor:
    """Give table[t] grad in float32, rounded to the dtype of grad."""
    return (per_sample(table[t], grad) * grad.float()).to(grad.dtype)


_given = batching.register(_q_sample, _setup_given, _backward_given)
_drawn = batching.register(_q_sample_drawn, _setup_drawn, _backward_drawn)
_given_at_once = eager.differentiable("q_sample", _mix_given, _setup_given, _backward_given)
_drawn_at_once = eager.differentiable("q_sample_drawn", _mix_drawn, _setup_drawn, _backward_drawn)
