"""The training loss, forward and backward, beside the plain torch formula on the same tensors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.bench_q_sample import DEVICES, DTYPES, SHAPES, inputs, synchronised
from ddpm.kernels.diffusion_loss import PREDICTIONS, diffusion_loss
from ddpm.kernels.philox import normals
from ddpm.kernels.streams import Stream


def eager(
    pred: Tensor, noise: Tensor, given: dict[str, Tensor], weight: Tensor, prediction: str
) -> Tensor:
    shape = (-1, *(1,) * (pred.ndim - 1))
    x0 = given["x0"].float()
    signal, sigma = (given[name][given["t"]].view(shape) for name in ("signal", "sigma"))
    target = {"eps": noise, "x0": x0}.get(prediction)
    if target is None:
        target = signal * noise - sigma * x0
    return weight * (pred.float() - target).square().flatten(1).mean(1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("how", ["eager", "op given", "op drawn"])
def test_diffusion_loss(
    benchmark: Any,
    how: str,
    prediction: str,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    device: str,
) -> None:
    given = inputs(shape, dtype, device)
    place = (given["seed"], given["step"], given["sample"])
    noise = normals(*place, Stream.TRAINING_NOISE, given["x0"][0].numel()).view(shape)
    pred = (given["x0"] * 0.9 + 0.05).requires_grad_()
    weight = torch.rand(shape[0], device=device)
    tables = (given["t"], given["signal"], given["sigma"], weight)

    def op(eps: Tensor | None) -> Tensor:
        return diffusion_loss(pred, given["x0"], eps, *tables, *place, prediction)

    def both(loss: Callable[[], Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(loss().sum(), pred)
        return gradient

    losses: dict[str, Callable[[], Tensor]] = {
        "eager": lambda: eager(pred, noise, given, weight, prediction),
        "op given": lambda: op(noise),
        "op drawn": lambda: op(None),
    }
    # Sums in another order, and one unit in the last place of a rounded gradient.
    want, slope = losses["eager"](), both(losses["eager"])
    torch.testing.assert_close(losses[how](), want, rtol=1e-5, atol=1e-6)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(both(losses[how]), slope, rtol=2 * eps, atol=1e-7)
    benchmark(synchronised(lambda: both(losses[how]), device))
