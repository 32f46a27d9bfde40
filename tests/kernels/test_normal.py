"""Noise on the device: the numbers of the generator, whatever the shape, dtype or batch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend

from ddpm.kernels.gpu import normal as gpu
from ddpm.kernels.normal import normal
from ddpm.kernels.philox import normals
from ddpm.kernels.streams import Stream
from ddpm.reference import philox
from tests.kernels.batches import assert_close, assert_same, dtypes, make_batch, poisoned, shapes
from tests.kernels.test_philox import SEEDS


@given(shapes(), dtypes(), SEEDS, st.sampled_from(Stream))
def test_numbers_of_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int, stream: Stream
) -> None:
    batch = make_batch(shape[:1], seed=seed)
    got = normal(*batch.place, stream, list(shape[1:]), dtype)
    assert got.dtype == dtype
    size = math.prod(shape[1:])
    want = philox.normals(seed, stream, int(batch.step), batch.sample.numpy(), size)
    assert_close(got, want.reshape(shape), "cpu")


@given(shapes(), dtypes(), SEEDS, st.booleans())
@settings(max_examples=40)
def test_triton_is_torch(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int, many_steps: bool
) -> None:
    batch = make_batch(shape[:1], seed=seed)
    step = (batch.sample * 7919) % 2**32 if many_steps else batch.step
    arguments = (batch.seed, step, batch.sample, 200, list(shape[1:]), dtype)
    with poisoned():
        got = gpu.normal(*arguments)
    assert_same(got, normal(*arguments))


@pytest.mark.parametrize("shape", [(3, 40_000), (100_000, 1), (700, 200), (0, 3), (3, 0)])
def test_blocks_leave_no_trace(shape: tuple[int, int]) -> None:
    # Of 2**15 elements: less than a sample, many samples with a rest, and nothing.
    samples = torch.arange(shape[0]) + 2**33
    for step in (torch.tensor(5), samples % 97):
        want = normals(torch.tensor(1), step, samples, 3, shape[1]).bfloat16()
        got = normal(torch.tensor(1), step, samples, 3, [shape[1]], torch.bfloat16)
        assert_same(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype: torch.dtype) -> None:
    batch = make_batch((3,))
    torch.library.opcheck(torch.ops.ddpm.normal.default, (*batch.place, 4, [2, 5], dtype))


def test_compiles_once_for_all_places() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def draw(seed: torch.Tensor, step: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        return normal(seed, step, sample, Stream.INITIAL_NOISE, [2, 3]) + 1

    compiled = torch.compile(draw, fullgraph=True, backend=counter)
    for change in range(3):
        place = (torch.tensor(change), torch.tensor(change + 5), torch.arange(3) + change)
        assert torch.equal(compiled(*place), draw(*place))
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": torch.float64}, "dtype is torch.float64; allowed: torch.float32"),
        ({"shape": [2, -1]}, r"shape is \[2, -1\]; allowed"),
        ({"stream": -1}, "stream is -1; allowed: 0..255"),
        ({"sample": torch.zeros(1, 1, dtype=torch.int64)}, "sample has shape"),
        ({"step": torch.tensor([1, 2, 3])}, "step has shape"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], message: str) -> None:
    batch = make_batch((2,))
    good = {"seed": batch.seed, "step": batch.step, "sample": batch.sample}
    with pytest.raises(ValueError, match=message):
        normal(**{**good, "stream": 1, "shape": [2], **change})  # type: ignore[arg-type]
