"""Inputs of the ops, and the assertions that their tests share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.tolerances import tolerance

Array = NDArray[np.float64]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Empty, single, around the quad of one counter, around a block of the interpreter, and odd.
SIZES = (0, 1, 3, 4, 5, 7, 63, 64, 65, 127, 255, 256, 257, 301)


def dtypes() -> st.SearchStrategy[torch.dtype]:
    return st.sampled_from(DTYPES)


def shapes(min_batch: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(st.integers(min_batch, 3), st.sampled_from(SIZES)) | st.tuples(
        st.integers(min_batch, 3), st.just(1), st.integers(0, 3), st.integers(0, 9)
    )


@dataclass(frozen=True)
class Batch:
    """Clean data with levels and the place of its noise."""

    x0: Tensor
    noise: Tensor
    pred: Tensor
    t: Tensor
    signal: Tensor
    sigma: Tensor
    weight: Tensor
    seed: Tensor
    step: Tensor
    sample: Tensor

    @property
    def place(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.seed, self.step, self.sample

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.t, self.signal, self.sigma


def make_batch(
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    steps: int = 10,
    pred_dtype: torch.dtype | None = None,
) -> Batch:
    """Fill a batch from a seed; alpha_bar falls from 1 to exactly 0."""
    rng = np.random.default_rng(abs(seed))

    def draw(kind: torch.dtype) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).to(kind)

    alpha_bar = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    batch = shape[0]
    first = int(rng.integers(0, 2**56 - batch))
    return Batch(
        x0=draw(dtype),
        noise=draw(dtype),
        pred=draw(pred_dtype or dtype),
        t=torch.from_numpy(rng.integers(0, steps + 1, batch)),
        signal=alpha_bar.sqrt().float(),
        sigma=(1 - alpha_bar).sqrt().float(),
        weight=torch.from_numpy(rng.uniform(0.1, 2, batch)).float(),
        seed=torch.tensor(seed),
        step=torch.tensor(int(rng.integers(0, 2**32))),
        sample=torch.arange(first, first + batch),
    )


def exact(x: Tensor) -> Array:
    """Values in float64."""
    values: Array = x.detach().double().numpy()
    return values


def column(values: Tensor, x: Tensor) -> Array:
    """A number per sample, ready to broadcast against x in float64."""
    return exact(values).reshape(-1, *(1,) * (x.ndim - 1))


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill new memory with NaN, so that an element a kernel forgets is seen."""
    empty, empty_like = torch.empty, torch.empty_like

    def filled(*size: Any, **options: Any) -> Tensor:
        return _fill(empty(*size, **options))

    def filled_like(x: Tensor, **options: Any) -> Tensor:
        return _fill(empty_like(x, **options))

    with mock.patch("torch.empty", filled), mock.patch("torch.empty_like", filled_like):
        yield


def _fill(x: Tensor) -> Tensor:
    return x.fill_(torch.nan) if x.is_floating_point() else x


def assert_close(got: Tensor, want: Array, backend: str, scale: float = 1.0) -> None:
    """Compare with float64 truth within the tolerance of the storage type, times scale."""
    assert got.isfinite().all(), got
    allowed = tolerance(str(got.dtype).removeprefix("torch."), backend)
    # The smallest subnormal of float16, 6e-8, is below every absolute bound.
    np.testing.assert_allclose(
        exact(got), want, rtol=scale * allowed.rtol, atol=scale * allowed.atol
    )


def assert_same(got: Tensor, want: Tensor) -> None:
    """Equal bits, except that the interpreter cuts bfloat16 off where torch rounds to nearest."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype == torch.bfloat16:
        assert got.isfinite().all()
        ulps = got.view(torch.int16).int() - want.view(torch.int16).int()
        # Truncation can only come closer to zero, by one unit.
        assert ((ulps == 0) | (ulps == -1)).all(), (got, want)
    else:
        assert torch.equal(got, want), (got, want)
