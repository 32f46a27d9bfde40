"""The training loss of one sample: weight times the mean squared error of the prediction.

The target is eps, x_0, v = signal[t] eps - sigma[t] x_0 or the score -eps / sigma[t]. Where the
noise is not given it is drawn again from the counters that `ddpm.kernels.q_sample.q_sample_drawn`
used, forward and backward, so that it never exists in memory.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpm.kernels import batching, checks, eager
from ddpm.kernels.q_sample import drawing
from ddpm.kernels.samples import coefficients, cut, parts

PREDICTIONS = ("eps", "x0", "v", "score")
# Elements of a sample summed at once: fewer than those from which torch shares a sum among threads,
# so that the order of summation depends on the size of a sample only.
CHUNK = 16384


class Loss(NamedTuple):
    """Arguments of `diffusion_loss`, in the order of its op."""

    pred: Tensor
    x0: Tensor | None
    noise: Tensor | None
    t: Tensor
    signal: Tensor
    sigma: Tensor
    weight: Tensor
    seed: Tensor | None
    step: Tensor | None
    sample: Tensor | None
    prediction: str


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
    checks.check_no_grad(x0=x0, noise=noise, signal=signal, sigma=sigma, weight=weight)
    result: Tensor = _at_once(given) if eager.at_once(pred) else _dispatched(*given)
    return result


def check_loss(given: Loss) -> None:
    """Check everything that is known before a launch."""
    if _is_plain(given):
        return
    if given.prediction not in PREDICTIONS:
        raise ValueError(f"prediction is {given.prediction!r}; allowed: {', '.join(PREDICTIONS)}")
    pred, x0, noise = given.pred, given.x0, given.noise
    checks.check_storage("pred", pred)
    for name, x in (("x0", x0), ("noise", noise)):
        if x is not None:
            checks.check_storage(name, x)
            checks.check_shape(name, x, pred.shape)
    if x0 is None and given.prediction in ("x0", "v"):
        raise ValueError(f"x0 is None; allowed for prediction {given.prediction!r}: a tensor")
    checks.check_tables(given.t, given.signal, given.sigma, pred.shape[0])
    checks.check_vector("weight", given.weight, pred.shape[0])
    if noise is None and given.prediction != "x0":
        place = checks.check_drawable(given.seed, given.step, given.sample)
        checks.check_place(*place, pred.shape[0])
    checks.check_same_device(
        pred.device,
        x0=x0,
        noise=noise,
        t=given.t,
        signal=given.signal,
        sigma=given.sigma,
        weight=given.weight,
        seed=given.seed,
        step=given.step,
        sample=given.sample,
    )


def check_gradient(grad: Tensor, given: Loss) -> None:
    """Check everything that is known before a launch, the gradient of the losses included."""
    check_loss(given)
    checks.check_vector("grad", grad, given.pred.shape[0])
    checks.check_same_device(given.pred.device, grad=grad)


def _is_plain(given: Loss) -> bool:
    """Whether these are good arguments of the most frequent kind: the quick way to know."""
    pred, noise, weight = given.pred, given.noise, given.weight
    return (
        given.prediction == "eps"
        and noise is not None
        and checks.are_alike(pred, noise)
        and (given.x0 is None or checks.are_alike(pred, given.x0))
        and given.seed is given.step is given.sample is None
        and checks.are_levels(given.t, given.signal, given.sigma, pred)
        and weight.dtype is torch.float32
        and weight.shape == pred.shape[:1]
        and weight.is_contiguous()
        and weight.device == pred.device
    )


def _at_once(given: Loss) -> Tensor:
    """Give the losses by differentiable operations of torch, with the bits of the op."""
    check_loss(given)
    return _sums(given.pred, _target(given, None)) * _shares(given)


def _forward(given: Loss) -> Tensor:
    """Give the losses, made of as many samples at a time as stay in a cache."""
    check_loss(given)
    sums = [_sums(cut(given.pred, rows), _target(given, rows)) for rows in parts(given.pred)]
    return torch.cat(sums).mul_(_shares(given)) if sums else torch.zeros_like(given.weight)


def _gradient(grad: Tensor, given: Loss) -> Tensor:
    """Give the gradient of pred, with grad [B] that of the losses."""
    check_loss(given)
    checks.check_incoming(grad, given.pred)
    out = torch.empty_like(given.pred)
    for rows in parts(out):
        target = _target(given, rows)
        scale = coefficients(cut(grad * _shares(given), rows), target)
        # The factor 2 of the derivative is in the operation.
        pred = cut(given.pred, rows).float()
        cut(out, rows).copy_(torch.ops.aten.mse_loss_backward(scale, pred, target, 0))
    return out


def _target(given: Loss, rows: slice | None) -> Tensor:
    """Give what the predictions of some samples are compared with, float32."""
    t, prediction = cut(given.t, rows), given.prediction
    checks.check_range("t", t, given.signal.shape[0])
    if prediction == "x0":
        assert given.x0 is not None
        return cut(given.x0, rows).float()
    if given.noise is None:
        place = checks.check_drawable(given.seed, given.step, given.sample)
        noise = drawing(given.pred, *place)(rows)
    else:
        noise = cut(given.noise, rows).float()
    if prediction == "eps":
        return noise
    sigma = coefficients(given.sigma[t], noise)
    if prediction == "score":
        return noise * (-1.0 / sigma)
    assert given.x0 is not None
    x0 = cut(given.x0, rows).float()
    return (noise * coefficients(given.signal[t], noise)).sub_(x0 * sigma)


def _sums(pred: Tensor, target: Tensor) -> Tensor:
    """Sum (pred - target)**2 over each sample."""
    squares: Tensor = torch.ops.aten.mse_loss.default(pred.float(), target, 0)
    if squares.numel() <= CHUNK * squares.shape[0]:
        return squares.sum(tuple(range(1, squares.ndim))) if squares.ndim > 1 else squares
    rows = squares.flatten(1)
    total = rows[:, :CHUNK].sum(1)
    for first in range(CHUNK, rows.shape[1], CHUNK):
        total = total + rows[:, first : first + CHUNK].sum(1)
    return total


def _shares(given: Loss) -> Tensor:
    """Give weight over the number of elements, the factor of each sample's sum."""
    return given.weight / max(1, given.pred.numel() // max(1, given.pred.shape[0]))


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
    inputs = (pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    return _forward(Loss(*inputs))


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
    inputs = (pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    return _gradient(grad, Loss(*inputs))


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


_dispatched_gradient = batching.register(_diffusion_loss_backward)
_dispatched = batching.register(_diffusion_loss, _setup, _backward)
