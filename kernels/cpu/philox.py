# Compiled functions have no Python types: numba gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The generator of `ddpm.kernels.philox`, compiled by numba: the same bits, many times faster.

The counters of a sample are one loop without branches, of which LLVM makes vector code.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from numba import float32, int32, int64, types, uint32, uint64
from torch import Tensor

from ddpm.kernels import philox as host
from ddpm.kernels.checks import MAX_SAMPLE, MAX_STEP
from ddpm.kernels.cpu.compiling import as_bits, as_float, compile_loop, inlined

_Fill = Callable[..., bool]

_INTEGERS = (*host.MULTIPLIERS, *host.KEY_BUMPS, host.SQRT_HALF_BITS, host.EXPONENT_MASK)
_EXPONENT = (host.EXPONENT_HIGH, host.EXPONENT_LOW)
_FITS = (host.LOG_COEFFICIENTS, host.COS_COEFFICIENTS, host.SIN_COEFFICIENTS, _EXPONENT)


def words(seed: Tensor, step: Tensor, sample: Tensor, stream: int, out: Tensor) -> bool:
    """Fill contiguous int64 [B, 4 n]; see `ddpm.kernels.philox.words` for the other arguments.

    Returns:
        False where a step or sample is outside its range; then nothing is written.
    """
    fill = _compiled(torch.int64)
    return fill(int(seed), step.reshape(-1).numpy(), sample.numpy(), stream, out.numpy())


def normals(seed: Tensor, step: Tensor, sample: Tensor, stream: int, out: Tensor) -> bool:
    """Fill contiguous float32 [B, 4 n]; otherwise as `words`."""
    fill = _compiled(torch.float32)
    return fill(int(seed), step.reshape(-1).numpy(), sample.numpy(), stream, out.numpy())


@cache
def _compiled(dtype: torch.dtype) -> _Fill:
    """Compile for words, int64, or for normals, float32; once in a process."""
    name, number, fits = ("words", int64, None)
    if dtype == torch.float32:
        name, number, fits = ("normals", float32, _FITS)
    constants = (host.ROUNDS, _INTEGERS, MAX_STEP, MAX_SAMPLE, fits)
    vector = int64[::1]
    signature = types.boolean(int64, vector, vector, int64, number[:, ::1])
    return compile_loop(name, _define(*constants), signature, constants)


def _define(rounds, integers, max_step, max_sample, fits):
    """Define the function to compile, for words where fits is None; all are compiled in."""

    def fill(seed, steps, samples, stream, out):
        """Fill the lanes of all counters of all samples, if each has a place."""
        for row in range(samples.shape[0]):
            if not 0 <= samples[row] < max_sample:
                return False
        for row in range(steps.shape[0]):
            if not 0 <= steps[row] < max_step:
                return False
        key = (uint32(seed), uint32(seed >> int64(32)))
        quads = uint64(out.shape[1] // 4)
        for row in range(out.shape[0]):
            sample = samples[row]
            c1, c2 = uint32(sample), uint32(steps[min(row, steps.shape[0] - 1)])
            c3 = uint32((sample >> int64(32)) << int64(8) | stream)
            lanes = out[row]
            for quad in range(quads):
                w0, w1, w2, w3 = _philox4x32(uint32(quad), c1, c2, c3, key, rounds, integers)
                lane = uint64(4) * uint64(quad)
                if fits is None:
                    lanes[lane], lanes[lane + uint64(1)] = w0, w1
                    lanes[lane + uint64(2)], lanes[lane + uint64(3)] = w2, w3
                else:
                    z0, z1 = _box_muller(w0, w1, integers, fits)
                    z2, z3 = _box_muller(w2, w3, integers, fits)
                    lanes[lane], lanes[lane + uint64(1)] = z0, z1
                    lanes[lane + uint64(2)], lanes[lane + uint64(3)] = z2, z3
        return True

    return fill


@inlined
def _philox4x32(c0, c1, c2, c3, key, rounds, integers):
    k0, k1 = key
    for _ in range(rounds):
        product0 = uint64(c0) * uint64(integers[0])
        product1 = uint64(c2) * uint64(integers[1])
        c0 = uint32(uint32(product1 >> uint64(32)) ^ c1 ^ k0)
        c2 = uint32(uint32(product0 >> uint64(32)) ^ c3 ^ k1)
        c1 = uint32(product1)
        c3 = uint32(product0)
        k0 = uint32(k0 + uint32(integers[2]))
        k1 = uint32(k1 + uint32(integers[3]))
    return c0, c1, c2, c3


@inlined
def _box_muller(radius_word, angle_word, integers, fits):
    radius = _radius(float32(radius_word) * float32(2.0**-32) + float32(2.0**-33), integers, fits)
    magnitude = uint32(as_bits(radius)) & uint32(0x7FFFFFFF)
    radius = as_float(int32(magnitude | (angle_word & uint32(0x80000000))))
    h = float32(int32(uint32(angle_word << uint32(1)))) * float32(2.0**-31)
    y = h * h
    c = float32(1.0) - y
    cos, sin = fits[1], fits[2]
    sine = _horner(float32(sin[3]), y, sin[2], sin[1], sin[0]) * (c * h) + h
    cosine = _horner(float32(cos[3]), y, cos[2], cos[1], cos[0]) * y * c + c
    return radius * cosine, radius * sine


@inlined
def _radius(u, integers, fits):
    bits = as_bits(u)
    exponent = int32(int32(bits - int32(integers[4])) & int32(integers[5]))
    f = as_float(int32(bits - exponent)) - float32(1.0)
    log, (high, low) = fits[0], fits[3]
    value = _horner(float32(log[7]), f, log[6], log[5], log[4])
    value = _horner(value, f, log[3], log[2], log[1])
    value = (value * f + float32(log[0])) * f
    scale = float32(exponent)
    return math.sqrt(value + scale * float32(low) + scale * float32(high))


@inlined
def _horner(value, x, a2, a1, a0):
    """Add three degrees to a polynomial in x."""
    return ((value * x + float32(a2)) * x + float32(a1)) * x + float32(a0)
