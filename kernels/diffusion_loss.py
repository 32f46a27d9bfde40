"""The training loss of one sample: weight times the mean squared error of the prediction.

The target is eps, x_0 or v = signal[t] eps - sigma[t] x_0. Where the noise is not given it is drawn
again from the counters that `ddpm.kernels.q_sample.q_sample_drawn` used, forward and backward, so
that it never exists in memory.
"""

from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import checks
from ddpm.kernels.philox import normals
from ddpm.kernels.q_sample import per_sample
from ddpm.kernels.streams import Stream

PREDICTIONS = ("eps", "x0", "v")
# Elements summed by one program; the number of chunks depends on the size of a sample only.
CHUNK = 16384


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
            v only, and may be None for eps.
        noise: shape of pred, or None to draw it; not read for prediction x0.
        t: int64 [B], levels in 0..T; on a GPU a level outside yields NaN. Read for v only.
        signal: float32 [T + 1], sqrt(alpha_bar); read for v only.
        sigma: float32 [T + 1], sqrt(1 - alpha_bar); read for v only.
        weight: float32 [B], the weight of each sample's level.
        seed: int64 [], any value; with step and sample required where noise is drawn.
        step: int64 [], in 0..2**32 - 1.
        sample: int64 [B], global sample indices in 0..2**56 - 1.
        prediction: "eps", "x0" or "v", what pred estimates.

    Returns:
        float32 [B], weight[b] times the mean over the sample of (pred - target)**2; 0 for
        samples without elements. Differentiable in pred.

    Raises:
        ValueError: a dtype, shape, device, level or prediction is not allowed, an argument that is
            needed is None, or another argument than pred requires a gradient.
    """
    checks.check_no_grad(x0=x0, noise=noise, signal=signal, sigma=sigma, weight=weight)
    result: Tensor = _diffusion_loss(
        pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction
    )
    return result


def check_loss(
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
) -> None:
    """Check everything that is known before a launch."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction is {prediction!r}; allowed: {', '.join(PREDICTIONS)}")
    checks.check_storage("pred", pred)
    for name, x in (("x0", x0), ("noise", noise)):
        if x is not None:
            checks.check_storage(name, x)
            checks.check_shape(name, x, pred.shape)
    if x0 is None and prediction != "eps":
        raise ValueError(f"x0 is None; allowed for prediction {prediction!r}: a tensor")
    checks.check_tables(t, signal, sigma, pred.shape[0])
    checks.check_vector("weight", weight, pred.shape[0])
    if noise is None and prediction != "x0":
        if seed is None or step is None or sample is None:
            missing = "seed" if seed is None else "step" if step is None else "sample"
            raise ValueError(f"{missing} is None; allowed where noise is None: a tensor")
        checks.check_place(seed, step, sample, pred.shape[0])
    checks.check_same_device(
        pred.device,
        x0=x0,
        noise=noise,
        t=t,
        signal=signal,
        sigma=sigma,
        weight=weight,
        seed=seed,
        step=step,
        sample=sample,
    )


def _residual(
    pred: Tensor,
    x0: Tensor | None,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    seed: Tensor | None,
    step: Tensor | None,
    sample: Tensor | None,
    prediction: str,
) -> Tensor:
    """Give pred - target in float32."""
    checks.check_range("t", t, signal.shape[0])
    wide = pred.float()
    if prediction == "x0":
        assert x0 is not None
        return wide - x0.float()
    if noise is None:
        assert seed is not None
        assert step is not None
        assert sample is not None
        size = pred.numel() // max(1, pred.shape[0])
        noise = normals(seed, step, sample, Stream.TRAINING_NOISE, size).view_as(pred)
    if prediction == "eps":
        return wide - noise.float()
    assert x0 is not None
    target = per_sample(sigma[t], pred) * x0.float()
    torch.sub(per_sample(signal[t], pred) * noise.float(), target, out=target)
    return torch.sub(wide, target, out=target)


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
    check_loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    residual = _residual(pred, x0, noise, t, signal, sigma, seed, step, sample, prediction)
    if pred.numel() == 0:
        return torch.zeros_like(weight)
    squares = residual.view(pred.shape[0], -1).square_()
    size = squares.shape[1]
    # Chunks keep the order of summation the same whatever the batch and the number of threads.
    partial = torch.stack([chunk.sum(1) for chunk in torch.split(squares, CHUNK, 1)], 1)
    return partial.sum(1).mul_(weight / size)


@_diffusion_loss.register_kernel("cuda")
def _(
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
    from ddpm.kernels.gpu import diffusion_loss as gpu

    check_loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    return gpu.diffusion_loss(
        pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction
    )


@_diffusion_loss.register_fake
def _(
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
    check_loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    return torch.empty_like(weight)


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
    check_loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    checks.check_vector("grad", grad, pred.shape[0])
    residual = _residual(pred, x0, noise, t, signal, sigma, seed, step, sample, prediction)
    size = pred.numel() // max(1, pred.shape[0])
    scale = grad * (2.0 * weight / max(1, size))
    return residual.mul_(per_sample(scale, pred)).to(pred.dtype)


@_diffusion_loss_backward.register_kernel("cuda")
def _(
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
    from ddpm.kernels.gpu import diffusion_loss as gpu

    check_loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    checks.check_vector("grad", grad, pred.shape[0])
    return gpu.diffusion_loss_backward(
        grad, pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction
    )


@_diffusion_loss_backward.register_fake
def _(
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
    check_loss(pred, x0, noise, t, signal, sigma, weight, seed, step, sample, prediction)
    checks.check_vector("grad", grad, pred.shape[0])
    return torch.empty_like(pred)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    _, x0, noise, _, signal, sigma, weight, *_, prediction = inputs
    checks.check_no_grad(x0=x0, noise=noise, signal=signal, sigma=sigma, weight=weight)
    ctx.prediction = prediction
    ctx.save_for_backward(*inputs[:-1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    for_pred = _diffusion_loss_backward(grad.contiguous(), *saved, ctx.prediction)
    return (for_pred, *(None,) * len(saved))


_diffusion_loss.register_autograd(_backward, setup_context=_setup)
