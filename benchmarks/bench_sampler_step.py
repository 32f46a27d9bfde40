"""One sampler step, without and with noise, beside the plain torch formula on the same tensors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.bench_q_sample import DEVICES, DTYPES, SHAPES, inputs, synchronised
from ddpm.kernels.philox import normals
from ddpm.kernels.sampler_step import sampler_step
from ddpm.kernels.streams import Stream


def eager(x: Tensor, pred: Tensor, row: Tensor, z: Tensor | None) -> Tensor:
    k_x, k_pred, a, b, sd = row.unbind()
    estimate = (k_x * x.float() + k_pred * pred.float()).clamp(-1, 1)
    mean = a * estimate + b * x.float()
    return (mean if z is None else mean + sd * z).to(x.dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("how", ["eager", "op"])
def test_sampler_step(
    benchmark: Any,
    how: str,
    draw: bool,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    device: str,
) -> None:
    given = inputs(shape, dtype, device)
    x, pred = given["x0"], (given["x0"] * 0.9 + 0.05)
    table = torch.tensor([[1.2, -0.7, 0.4, 0.6, 0.1]], device=device)
    levels, row = torch.tensor([500], device=device), torch.tensor(0, device=device)
    seed, sample = given["seed"], given["sample"]
    size = x[0].numel()
    z = normals(seed, levels[0], sample, Stream.SAMPLING_NOISE, size).view(shape) if draw else None

    def op() -> Tensor:
        return sampler_step(x, pred, table, levels, row, seed, sample, 1.0, draw)

    def plain() -> Tensor:
        return eager(x, pred, table[0], torch.randn_like(x) if draw else None)

    # One unit in the last place of the storage type, and 1e-6 between two generators.
    close: dict[str, Any] = {"rtol": torch.finfo(dtype).eps, "atol": 2e-6}
    torch.testing.assert_close(op(), eager(x, pred, table[0], z), **close)
    calls: dict[str, Callable[[], Tensor]] = {"eager": plain, "op": op}
    benchmark(synchronised(calls[how], device))
