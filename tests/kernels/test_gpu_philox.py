"""The Triton generator in the interpreter: the same integers and the same normals, bit for bit."""

# Gradients in torch and kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddpm.kernels import philox as host
from ddpm.kernels.gpu import philox
from tests.kernels.compiled import ptx
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


Floats = NDArray[np.float32]
# What the instruction set promises of sqrt.approx.f32, and what v_sqrt_f32 keeps too.
ROOT_ERROR = 2.0**-23


def fused(a: Floats, b: Floats | float, c: Floats | float) -> Floats:
    """Give a b + c with one rounding, up to the rounding of float64, 1e-9 of it."""
    product = a.astype(np.float64) * np.asarray(b, np.float32)
    return np.asarray((product + np.asarray(c, np.float32)).astype(np.float32))


def fit(x: Floats, coefficients: tuple[float, ...]) -> Floats:
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = fused(value, x, coefficient)
    return value


def squared_radius(u: Floats) -> Floats:
    """-2 ln u as a card computes it, with every addition to a product fused."""
    bits = u.view(np.int32)
    exponent = (bits - np.int32(host.SQRT_HALF_BITS)) & np.int32(host.EXPONENT_MASK)
    f = (bits - exponent).view(np.float32) - np.float32(1)
    scale = exponent.astype(np.float32)
    log = fused(scale, host.EXPONENT_LOW, fit(f, host.LOG_COEFFICIENTS) * f)
    return fused(scale, host.EXPONENT_HIGH, log)


def worst_radius(u: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The radius, and the largest error of a card's over all roots that it may return."""
    square = squared_radius(u)
    root = np.sqrt(square.astype(np.float64))
    exact = np.sqrt(-2 * np.log(u.astype(np.float64)))
    worst = np.zeros_like(exact)
    guess = np.nextafter((root * (1 - ROOT_ERROR)).astype(np.float32), np.float32(0))
    for _ in range(7):
        refined = fused(fused(-guess, guess, square), philox._TWELFTH.value, guess)
        allowed = np.abs(guess - root) <= ROOT_ERROR * root
        worst = np.maximum(worst, np.where(allowed, np.abs(refined - exact), 0))
        guess = np.nextafter(guess, np.float32(np.inf))
    assert (guess > root * (1 + ROOT_ERROR)).all()
    return exact, worst


def worst_cosine(h: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both |cos| and |sin| of h quarter turns, and the errors of a card's."""
    y = h * h
    c = fused(-h, h, 1.0)
    sine = fused(fit(y, host.SIN_COEFFICIENTS), c * h, h)
    cosine = fused(fit(y, host.COS_COEFFICIENTS) * y, c, c)
    angle = h.astype(np.float64) * (np.pi / 2)
    exact = np.concatenate([np.cos(angle), np.abs(np.sin(angle))])
    return exact, np.abs(np.concatenate([cosine, np.abs(sine)]) - exact)


def test_normals_of_a_card_stay_within_the_bound() -> None:
    # All words of the tails, where the error is largest, and a stride through the others. Every
    # word has been taken once: the bound is then 0.99e-6.
    low = np.arange(2**18, dtype=np.uint32)
    words = np.concatenate([low, np.arange(2**18, 2**32, 40_009, dtype=np.uint32)])
    u = words.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    radius, of_radius = worst_radius(u)
    signed = np.linspace(0, 2**31 - 1, 2**19).astype(np.int32).astype(np.float32)
    factor, of_factor = worst_cosine(signed * np.float32(2.0**-31))
    edges = np.linspace(0, 7, 57)
    worst = [of_radius[(radius >= a) & (radius <= b)].max(initial=0) for a, b in pairwise(edges)]
    cuts = np.linspace(0, 1, 41)
    trig = [of_factor[(factor >= a) & (factor <= b)].max(initial=0) for a, b in pairwise(cuts)]
    bound = 0.0
    for r, radius_error in zip(edges[1:], worst, strict=True):
        for f, factor_error in zip(cuts[1:], trig, strict=True):
            reach = min(r, 6.7641)
            rounding = float(np.spacing(np.float32(reach * f))) / 2
            bound = max(bound, f * radius_error + reach * factor_error + rounding)
    assert bound <= 1e-6, bound


def test_the_root_of_a_card_is_corrected() -> None:
    # The interpreter's root needs no correction, so only compiled code shows it.
    call = (
        "normal.normal(torch.tensor(1), torch.tensor(2), torch.arange(2), 3, [64], torch.float32)"
    )
    text = ptx("normal", call)
    roots = re.findall(r"sqrt\.approx\.ftz\.f32\s+(%r\d+), (%r\d+);", text)
    assert roots
    for root, square in roots:
        (negative,) = re.findall(rf"neg\.f32\s+(%r\d+), {root};", text)
        (error,) = re.findall(rf"fma\.rn\.f32\s+(%r\d+), {negative}, {root}, {square};", text)
        # 0x3DAAAAAB is 1/12 in float32.
        assert re.search(rf"fma\.rn\.f32\s+%r\d+, {error}, 0f3DAAAAAB, {root};", text)
