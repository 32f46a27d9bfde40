"""The Triton generator in the interpreter: the same integers and the same normals, bit for bit."""

# Gradients in torch and kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.kernels import philox as host
from ddpm.kernels.gpu import philox
from tests.kernels.test_philox import EDGES, SEEDS, VECTORS


@triton.jit
def _vector_kernel(out_ptr, counter_ptr, key_ptr):
    c0 = tl.load(counter_ptr).to(tl.uint32)
    c1 = tl.load(counter_ptr + 1).to(tl.uint32)
    c2 = tl.load(counter_ptr + 2).to(tl.uint32)
    c3 = tl.load(counter_ptr + 3).to(tl.uint32)
    k0 = tl.load(key_ptr).to(tl.uint32)
    k1 = tl.load(key_ptr + 1).to(tl.uint32)
    c0, c1, c2, c3 = philox.philox4x32(c0, c1, c2, c3, k0, k1)
    tl.store(out_ptr, c0.to(tl.int64))
    tl.store(out_ptr + 1, c1.to(tl.int64))
    tl.store(out_ptr + 2, c2.to(tl.int64))
    tl.store(out_ptr + 3, c3.to(tl.int64))


@triton.jit
def _words_kernel(
    out_ptr, seed_ptr, step_ptr, sample_ptr, STREAM: tl.constexpr, QUADS: tl.constexpr
):
    quad = tl.arange(0, QUADS)
    place = tl.load(seed_ptr), tl.load(step_ptr), tl.load(sample_ptr)
    w0, w1, w2, w3 = philox.words(place[0], place[1], place[2], STREAM, quad.to(tl.uint32))
    tl.store(out_ptr + quad * 4, w0.to(tl.int64))
    tl.store(out_ptr + quad * 4 + 1, w1.to(tl.int64))
    tl.store(out_ptr + quad * 4 + 2, w2.to(tl.int64))
    tl.store(out_ptr + quad * 4 + 3, w3.to(tl.int64))


@triton.jit
def _box_muller_kernel(out_ptr, radius_ptr, angle_ptr, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    radius = tl.load(radius_ptr + lane).to(tl.uint32)
    angle = tl.load(angle_ptr + lane).to(tl.uint32)
    even, odd = philox.box_muller(radius, angle)
    tl.store(out_ptr + 2 * lane, even)
    tl.store(out_ptr + 2 * lane + 1, odd)


@pytest.mark.parametrize(("counter", "key", "want"), VECTORS)
def test_published_vectors(
    counter: tuple[int, ...], key: tuple[int, ...], want: tuple[int, ...]
) -> None:
    out = torch.full((4,), -1)
    _vector_kernel[(1,)](out, torch.tensor(counter), torch.tensor(key))
    assert tuple(out.tolist()) == want


@given(SEEDS, st.integers(0, 2**32 - 1), st.integers(0, 2**56 - 1), st.integers(0, 255))
@settings(max_examples=20)
def test_words_of_torch(seed: int, step: int, sample: int, stream: int) -> None:
    place = (torch.tensor(seed), torch.tensor(step), torch.tensor([sample]))
    out = torch.full((1, 64), -1)
    _words_kernel[(1,)](out, *place, STREAM=stream, QUADS=16)
    assert torch.equal(out, host.words(*place, stream, 64))


@pytest.mark.parametrize("bits", [0, 8, 24, 32])
def test_normals_of_torch(bits: int) -> None:
    size = 2**12
    if bits:
        rng = np.random.default_rng(bits)
        radius, angle = rng.integers(0, 2**bits, size), rng.integers(0, 2**32, size)
    else:
        radius, angle = (np.resize(grid, size) for grid in np.meshgrid(EDGES, EDGES))
    words = torch.from_numpy(radius), torch.from_numpy(angle)
    out = torch.full((size, 2), torch.nan)
    _box_muller_kernel[(1,)](out, *words, SIZE=size)
    want = host.box_muller(words[0], words[1].clone(), torch.empty(size, 2))
    assert torch.equal(out, want)
    assert torch.equal(out.signbit(), want.signbit())
