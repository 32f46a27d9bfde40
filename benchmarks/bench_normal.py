"""Standard normals of a place beside torch.randn, which draws them in sequence.

"torch" is the generator where numba is not installed, "block" one that fills a buffer of the caller
as ops do that work in blocks. The first draw, which waits for numba, is not timed.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.devices import DEVICES, synchronised
from ddpm.kernels import philox
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream

SHAPES = [(1, 3, 32, 32), (64, 3, 32, 32), (64, 3, 64, 64)]
DTYPES = [torch.float32, torch.bfloat16]


def by_torch(draw: Callable[[], Tensor]) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(philox, "_compiled", lambda: None)
        return draw()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("how", ["randn", "op", "torch", "block"])
def test_normal(
    benchmark: Any,
    how: str,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    threads: int,
    device: str,
) -> None:
    if how == "block" and (dtype != torch.float32 or device != "cpu"):
        pytest.skip("blocks are float32 on the CPU")
    if how == "torch" and device != "cpu":
        pytest.skip("on a GPU the op draws")
    size = shape[1] * shape[2] * shape[3]
    seed, step = (torch.tensor(value, device=device) for value in (1, 2))
    sample = torch.arange(shape[0], device=device)
    place = (seed, step, sample, Stream.TRAINING_NOISE)
    buffer = torch.empty(shape[0], size)

    def op() -> Tensor:
        return normal(*place, list(shape[1:]), dtype)

    calls: dict[str, Callable[[], Tensor]] = {
        "randn": lambda: torch.randn(shape, dtype=dtype, device=device),
        "op": op,
        "torch": lambda: by_torch(op),
        "block": lambda: philox.normals(*place, size, out=buffer),
    }
    if how != "randn":
        torch.testing.assert_close(calls[how]().view(shape), op(), rtol=0, atol=0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        benchmark(synchronised(calls[how], device))
    finally:
        torch.set_num_threads(before)
