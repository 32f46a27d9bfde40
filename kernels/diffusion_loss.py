"""The training loss of one sample: weight times the mean squared error of the prediction.

The target is eps, x_0, v = signal[t] eps - sigma[t] x_0 or the score -eps / sigma[t]. Where the
noise is not given it is drawn again from the counters that `ddpm.kernels.q_sample.q_sample_drawn`
used, forward and backward, so that it never exists in memory.
"""

from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import batching, checks, eager, squared_errors
from ddpm.kernels.squared_errors import Loss, check_loss, is_plain


def diffusion_loss(
    pred: Tensor,
    x0: Tensor | None,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    weight: Tensor,
    seed: Tensor | None = None,
    step: Tensor | None = None,
    sample: Tensor | None = None,
    prediction: str = "eps",
) -> Tensor:
    """Weighted mean squared error of each sample.  K-79.

    Args:
        pred: float32, float16 or bfloat16 [B, ...], output of the network, contiguous.
        x0: clean data, shape of pred, any of these dtypes, contiguous; read for prediction x0 and
            v only, and may be None for the others.
        noise: shape of pred, or None to draw it; not read for prediction x0.
        t: int64 [B], levels in 0..T, for prediction score in 1..T; on a GPU a level outside
            yields NaN. Read for v and score only.
        signal: float32 [T + 1], sqrt(alpha_bar); read for v only.
        sigma: float32 [T + 1], sqrt(1 - alpha_bar); read for v and score only.
        weight: float32 [B], the weight of each sample's level.
        seed: int64 [], any value; with step and sample required where noise is drawn.
        step: int64 [] or [B], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        prediction: "eps", "x0", "v" or "score", what pred estimates.

    Returns:
        float32 [B], weight[b] times the mean over the sample of (pred - target)**2; 0 for
        samples without elements. Differentiable in pred.

    Raises:
        ValueError: a dtype, shape, device, level or prediction is not allowed, an argument that is
            needed is None, or another argument than pred requires a gradient.
    """
    given = Loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    plain = eager.at_once(pred)
    if not (plain and is_plain(given)):
        checks.check_no_grad(x0=x0, noise=noise, signal=signal, sigma=sigma, weight=weight)
        if plain:
            check_loss(given)
    result: Tensor = _at_once(given) if plain else _dispatched(*given)
    return result


@torch.library.custom_op("ddpm::diffusion_loss", mutates_args=(), device_types="cpu")
def _diffusion_loss(
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
    given = Loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    check_loss(given)
    return squared_errors.losses(given)


@_diffusion_loss.register_kernel("cuda")
def _(*inputs: Any) -> Tensor:
    from ddpm.kernels.gpu import diffusion_loss as gpu

    check_loss(Loss(*inputs))
    return gpu.diffusion_loss(*inputs)


@_diffusion_loss.register_fake
def _(*inputs: Any) -> Tensor:
    check_loss(Loss(*inputs))
    return torch.empty_like(Loss(*inputs).weight)


@torch.library.custom_op("ddpm::diffusion_loss_backward", mutates_args=(), device_types="cpu")
def _diffusion_loss_backward(
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
    given = Loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    check_loss(given)
    checks.check_incoming(grad, pred)
    return squared_errors.gradient(grad, given)


@_diffusion_loss_backward.register_kernel("cuda")
def _(grad: Tensor, *inputs: Any) -> Tensor:
    from ddpm.kernels.gpu import diffusion_loss as gpu

    check_loss(Loss(*inputs))
    checks.check_incoming(grad, inputs[0])
    return gpu.diffusion_loss_backward(grad, *inputs)


@_diffusion_loss_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> Tensor:
    check_loss(Loss(*inputs))
    checks.check_incoming(grad, inputs[0])
    return torch.empty_like(inputs[0])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    _, x0, noise, _, signal, sigma, weight, *_, prediction = inputs
    checks.check_no_grad(x0=x0, noise=noise, signal=signal, sigma=sigma, weight=weight)
    ctx.prediction = prediction
    ctx.save_for_backward(*inputs[:-1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    return _dispatched_gradient(grad.contiguous(), *saved, ctx.prediction), *(None,) * len(saved)


class _Recorded(torch.autograd.Function):
    """The loss as autograd records it in plain eager mode.

    Every argument more costs it time, so that all but pred come in one.
    """

    @staticmethod
    def forward(ctx: Any, pred: Tensor, given: Loss) -> Tensor:
        ctx.given, ctx.whole = given, squared_errors.whole_errors(given)
        # The numbers must not change until the gradient is taken; torch sees to that.
        ctx.save_for_backward(pred, given.x0, given.noise, given.t, given.weight)
        return squared_errors.losses(given, ctx.whole)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        pred, x0, noise, t, weight = ctx.saved_tensors
        given = ctx.given
        if torch.is_grad_enabled():
            # For a derivative of the gradient, which the op refuses.
            *_, seed, step, sample, prediction = given
            tables = (given.signal, given.sigma)
            rest = (pred, x0, noise, t, *tables, weight, seed, step, sample, prediction)
            return _dispatched_gradient(grad.contiguous(), *rest), None
        return squared_errors.gradient(grad, given, ctx.whole), None


_record = eager.recorder(_Recorded)


def _at_once(given: Loss) -> Any:
    if torch.is_grad_enabled() and given.pred.requires_grad:
        return _record(given.pred, given)
    return squared_errors.losses(given)


_dispatched_gradient = batching.register(_diffusion_loss_backward)
_dispatched = batching.register(_diffusion_loss, _setup, _backward)
