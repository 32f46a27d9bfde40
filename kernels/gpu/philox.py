# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""The generator of `ddpm.kernels.philox` as device functions: same integers, same polynomials.

Every addition to a product is an explicit `tl.fma`, so that the normals of two kernels are the same
bits whatever a compiler would have fused. In the interpreter `tl.fma` rounds twice, as torch on
the CPU does, and the numbers of both are equal bit for bit.
"""

import triton
import triton.language as tl

from ddpm.kernels import philox as host

_ROUNDS = tl.constexpr(host.ROUNDS)
_M0 = tl.constexpr(host.MULTIPLIERS[0])
_M1 = tl.constexpr(host.MULTIPLIERS[1])
_W0 = tl.constexpr(host.KEY_BUMPS[0])
_W1 = tl.constexpr(host.KEY_BUMPS[1])
# In powers of 1 - m, where the host has m - 1: the same bits, but +0.0 where u is 1.
_LOG = tl.constexpr(tuple(-c * (-1) ** k for k, c in enumerate(host.LOG_COEFFICIENTS)))
_COS = tl.constexpr(host.COS_COEFFICIENTS)
_SIN = tl.constexpr(host.SIN_COEFFICIENTS)
_SQRT_HALF_BITS = tl.constexpr(host.SQRT_HALF_BITS)
_EXPONENT_MASK = tl.constexpr(host.EXPONENT_MASK)
_EXPONENT_HIGH = tl.constexpr(host.EXPONENT_HIGH)
_EXPONENT_LOW = tl.constexpr(host.EXPONENT_LOW)
_SIGN = tl.constexpr(0x80000000)
# The root of NumPy, in the interpreter, is correctly rounded. That of a GPU may be off by 2**-23 of
# it, which is 8e-7 at the reach of the tails: half a step of Newton's, with the slope of the root
# at 36 for that of all, leaves 1.8e-7 of it and needs no division.
_APPROXIMATE = tl.constexpr(not triton.knobs.runtime.interpret)
_TWELFTH = tl.constexpr(1.0 / 12.0)


@triton.jit
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 of uint32 counter words c0..c3 under the uint32 key words k0, k1."""
    for _ in tl.static_range(_ROUNDS):
        product0 = c0.to(tl.uint64) * _M0
        product1 = c2.to(tl.uint64) * _M1
        c0 = (product1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c2 = (product0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c1 = product1.to(tl.uint32)
        c3 = product0.to(tl.uint32)
        k0 = tl.add(k0, _W0, sanitize_overflow=False)
        k1 = tl.add(k1, _W1, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit
def words(seed, step, sample, STREAM: tl.constexpr, quad):
    """Four uint32 tensors, the lanes of the counters quad.

    seed, step, sample are int64 scalars; quad is a uint32 tensor of counters i // 4.
    """
    c1 = sample.to(tl.uint32)
    c2 = step.to(tl.uint32)
    c3 = (((sample >> 32) << 8) | STREAM).to(tl.uint32)
    return philox4x32(quad, c1, c2, c3, seed.to(tl.uint32), (seed >> 32).to(tl.uint32))


@triton.jit
def block_normals(seed, step, sample, STREAM: tl.constexpr, start, BLOCK: tl.constexpr, WIDE):
    """Standard normals [BLOCK], float32, for elements start, start + 1, .. of one sample.

    start is an int64 scalar, a multiple of 4. A thread owns the four elements of one counter, or
    where WIDE the eight of two neighbours: whichever fills the 16-byte accesses around the draw.
    """
    first = (start // 4).to(tl.uint32)
    if WIDE:
        quad = tl.arange(0, BLOCK // 8).to(tl.uint32) * 2 + first
        a0, a1, a2, a3 = _four_normals(seed, step, sample, STREAM, quad)
        b0, b1, b2, b3 = _four_normals(seed, step, sample, STREAM, quad + 1)
        even = tl.interleave(tl.interleave(a0, b0), tl.interleave(a2, b2))
        odd = tl.interleave(tl.interleave(a1, b1), tl.interleave(a3, b3))
    else:
        quad = tl.arange(0, BLOCK // 4).to(tl.uint32) + first
        z0, z1, z2, z3 = _four_normals(seed, step, sample, STREAM, quad)
        even = tl.interleave(z0, z2)
        odd = tl.interleave(z1, z3)
    return tl.interleave(even, odd)


@triton.jit
def _four_normals(seed, step, sample, STREAM: tl.constexpr, quad):
    """The normals of the four lanes of the counters quad."""
    w0, w1, w2, w3 = words(seed, step, sample, STREAM, quad)
    z0, z1 = box_muller(w0, w1)
    z2, z3 = box_muller(w2, w3)
    return z0, z1, z2, z3


@triton.jit
def box_muller(radius_word, angle_word):
    """Two standard normals from two uint32 words."""
    radius = _radius(tl.fma(radius_word.to(tl.float32), 2.0**-32, 2.0**-33))
    # The radius is never -0.0, so that the top bit of the angle becomes its sign in one operation.
    bits = radius.to(tl.uint32, bitcast=True) | (angle_word & _SIGN)
    radius = bits.to(tl.float32, bitcast=True)
    h = (angle_word << 1).to(tl.int32, bitcast=True).to(tl.float32) * 2.0**-31
    y = h * h
    c = tl.fma(h * -1.0, h, 1.0)
    sine = tl.fma(_polynomial(y, _SIN, 3), c * h, h)
    cosine = tl.fma(_polynomial(y, _COS, 3) * y, c, c)
    return radius * cosine, radius * sine


@triton.jit
def _radius(u):
    """Give sqrt(-2 ln u) for float32 u in [2**-33, 1]."""
    bits = u.to(tl.int32, bitcast=True)
    exponent = (bits - _SQRT_HALF_BITS) & _EXPONENT_MASK
    f = 1.0 - (bits - exponent).to(tl.float32, bitcast=True)
    scale = exponent.to(tl.float32)
    log = tl.fma(scale, _EXPONENT_LOW, _polynomial(f, _LOG, 7) * f)
    square = tl.fma(scale, _EXPONENT_HIGH, log)
    root = tl.sqrt(square)
    if _APPROXIMATE:
        root = tl.fma(tl.fma(root * -1.0, root, square), _TWELFTH, root)
    return root


@triton.jit
def _polynomial(x, COEFFICIENTS: tl.constexpr, DEGREE: tl.constexpr):
    """Evaluate by Horner's rule, one fused multiplication and addition per degree."""
    value = tl.full(x.shape, COEFFICIENTS[DEGREE], tl.float32)
    for k in tl.static_range(DEGREE):
        value = tl.fma(value, x, COEFFICIENTS[DEGREE - 1 - k])
    return value
