"""Noising together with its velocity, the target v of a network, one pass over memory."""

from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import batching, checks, eager
from ddpm.kernels.q_sample import check_drawn, check_given, drawing, mix, scaled


def q_sample_v(
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None = None,
    step: Tensor | None = None,
    sample: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Noise clean data to level t and give the velocity there.  T-eq1, V-eq1, L-2.12.

    Args:
        x0: float32, float16 or bfloat16 [B, ...], clean data, contiguous.
        noise: like x0, standard normal, or None to draw it from stream TRAINING_NOISE.
        t: int64 [B], levels in 0..T; on a GPU a level outside yields NaN.
        signal: float32 [T + 1], sqrt(alpha_bar).
        sigma: float32 [T + 1], sqrt(1 - alpha_bar).
        seed: int64 [], any value; with step and sample required where noise is drawn.
        step: int64 [] or [B], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.

    Returns:
        x_t = signal[t] x_0 + sigma[t] eps and v = signal[t] eps - sigma[t] x_0, both like x0:
        computed in float32, rounded once. Differentiable in x0 and in noise that is given.

    Raises:
        ValueError: a dtype, shape, device or level is not allowed, an argument that is needed is
            None, or a table requires a gradient.
    """
    checks.check_no_grad(signal=signal, sigma=sigma)
    call = _at_once if eager.at_once(x0) else _dispatched
    result: tuple[Tensor, Tensor] = call(x0, noise, t, signal, sigma, seed, step, sample)
    return result


def check_both(
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
) -> None:
    """Check everything that is known before a launch."""
    if noise is None:
        place = checks.check_drawable(seed, step, sample)
        check_drawn(x0, t, signal, sigma, *place)
    else:
        check_given(x0, noise, t, signal, sigma)


def _implementation(
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
) -> tuple[Tensor, Tensor]:
    check_both(x0, noise, t, signal, sigma, seed, step, sample)
    v = torch.empty_like(x0)
    if noise is not None:
        return mix(x0, noise, t, signal, sigma, v), v
    draw = drawing(x0, *checks.check_drawable(seed, step, sample))
    return mix(x0, draw, t, signal, sigma, v), v


@torch.library.custom_op("ddpm::q_sample_v", mutates_args=(), device_types="cpu")
def _q_sample_v(
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
) -> tuple[Tensor, Tensor]:
    return _implementation(x0, noise, t, signal, sigma, seed, step, sample)


@_q_sample_v.register_kernel("cuda")
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    from ddpm.kernels.gpu import q_sample as gpu

    check_both(*arguments)
    return gpu.q_sample_v(*arguments)


@_q_sample_v.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    check_both(*arguments)
    return torch.empty_like(arguments[0]), torch.empty_like(arguments[0])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    del output
    _, _, t, signal, sigma, *_ = inputs
    checks.check_no_grad(signal=signal, sigma=sigma)
    ctx.save_for_backward(t, signal, sigma)


def _backward(ctx: Any, grad: Tensor, grad_v: Tensor) -> tuple[Tensor | None, ...]:
    """Apply the transposed rotation: the map of (x_0, eps) to (x_t, v) is linear."""
    t, signal, sigma = ctx.saved_tensors
    for_x0 = for_noise = None
    if ctx.needs_input_grad[0]:
        for_x0 = (scaled(grad.float(), signal, t) - scaled(grad_v.float(), sigma, t)).to(grad.dtype)
    if ctx.needs_input_grad[1]:
        for_noise = scaled(grad.float(), sigma, t) + scaled(grad_v.float(), signal, t)
        for_noise = for_noise.to(grad.dtype)
    return for_x0, for_noise, None, None, None, None, None, None


_dispatched = batching.register(_q_sample_v, _setup, _backward)
_at_once = eager.differentiable("q_sample_v", _implementation, _setup, _backward)
