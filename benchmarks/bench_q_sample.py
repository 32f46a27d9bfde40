"""Noising, noise given and drawn, beside the plain torch formula on the same tensors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm.kernels.philox import normals
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.streams import Stream

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SHAPES = [(128, 1, 8, 8), (64, 3, 32, 32)]
DTYPES = [torch.float32, torch.bfloat16]
STEPS = 1000


def synchronised(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """Wait for the device, so that work is timed and not its submission."""

    def timed() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return timed


def inputs(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    alpha_bar = torch.linspace(1, 1e-4, STEPS + 1, dtype=torch.float64)
    made = {
        "x0": torch.randn(shape, generator=generator).to(dtype),
        "t": torch.randint(STEPS + 1, shape[:1], generator=generator),
        "signal": alpha_bar.sqrt().float(),
        "sigma": (1 - alpha_bar).sqrt().float(),
        "seed": torch.tensor(1),
        "step": torch.tensor(2),
        "sample": torch.arange(shape[0]),
    }
    return {name: value.to(device) for name, value in made.items()}


def eager(x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    shape = (-1, *(1,) * (x0.ndim - 1))
    mixed = signal[t].view(shape) * x0.float() + sigma[t].view(shape) * noise.float()
    return mixed.to(x0.dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("how", ["eager given", "op given", "eager drawn", "op drawn"])
def test_q_sample(
    benchmark: Any, how: str, dtype: torch.dtype, shape: tuple[int, ...], device: str
) -> None:
    given = inputs(shape, dtype, device)
    x0, tables = given["x0"], (given["t"], given["signal"], given["sigma"])
    place = (given["seed"], given["step"], given["sample"])
    z = normals(*place, Stream.TRAINING_NOISE, x0[0].numel()).view_as(x0)
    noise = z.to(dtype)
    # One unit in the last place of values up to 4, and 1e-6 between two generators.
    close: dict[str, Any] = {"rtol": torch.finfo(dtype).eps, "atol": 2e-6}
    torch.testing.assert_close(q_sample(x0, noise, *tables), eager(x0, noise, *tables), **close)
    drawn = q_sample_drawn(x0, *tables, *place)
    torch.testing.assert_close(drawn, eager(x0, z, *tables), **close)
    calls: dict[str, Callable[[], Tensor]] = {
        "eager given": lambda: eager(x0, noise, *tables),
        "op given": lambda: q_sample(x0, noise, *tables),
        "eager drawn": lambda: eager(x0, torch.randn_like(x0), *tables),
        "op drawn": lambda: q_sample_drawn(x0, *tables, *place),
    }
    benchmark(synchronised(calls[how], device))
