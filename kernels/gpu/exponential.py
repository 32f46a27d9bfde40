# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""`ddpm.kernels.exponential` as a device function: the same polynomial."""

import triton
import triton.language as tl

from ddpm.kernels import exponential as host

_LOG2_E = tl.constexpr(host.LOG2_E)
_ROUNDER = tl.constexpr(host.ROUNDER)
_LN2_HIGH = tl.constexpr(host.LN2_HIGH)
_LN2_LOW = tl.constexpr(host.LN2_LOW)
_COEFFICIENTS = tl.constexpr(host.COEFFICIENTS)
_DEGREE = tl.constexpr(len(host.COEFFICIENTS) - 1)
_LOWEST = tl.constexpr(host.LOWEST)
_HIGHEST = tl.constexpr(host.HIGHEST)
_ONE_BITS = tl.constexpr(host.ONE_BITS)


@triton.jit
def exponential(x):
    """exp(x) for float32 x clamped to [-87, 88]; NaN stays NaN."""
    x = tl.clamp(x, _LOWEST, _HIGHEST, propagate_nan=tl.PropagateNan.ALL)
    shifted = tl.fma(x, _LOG2_E, _ROUNDER)
    n = shifted - _ROUNDER
    r = tl.fma(n, _LN2_LOW, tl.fma(n, _LN2_HIGH, x))
    value = tl.full(r.shape, _COEFFICIENTS[_DEGREE], tl.float32)
    for k in tl.static_range(_DEGREE):
        value = tl.fma(value, r, _COEFFICIENTS[_DEGREE - 1 - k])
    value = tl.fma(value * r, r, r) + 1.0
    # NaN stays in the factor on the left, whatever its bits make of the power of two.
    scale = (shifted.to(tl.int32, bitcast=True) << 23) + _ONE_BITS
    return value * scale.to(tl.float32, bitcast=True)
