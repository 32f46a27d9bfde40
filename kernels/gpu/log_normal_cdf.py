# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""`ddpm.kernels.log_normal_cdf` as device functions, float64."""

import triton
import triton.language as tl

from ddpm.kernels import log_normal_cdf as host

_COEFFICIENTS = tl.constexpr(host.MILLS_COEFFICIENTS)
_DEGREE = tl.constexpr(len(host.MILLS_COEFFICIENTS) - 1)
_LOG_ROOT_TWO_PI = tl.constexpr(host.LOG_ROOT_TWO_PI)
_INVERSE_ROOT_TWO_PI = tl.constexpr(host.INVERSE_ROOT_TWO_PI)
_NARROW = tl.constexpr(host.NARROW)
_LINEAR = tl.constexpr(host.LINEAR)
_VANISHING = tl.constexpr(host.VANISHING)


@triton.jit
def log_interval(centre, half, below, above):
    """-log P(centre - half < z < centre + half), its derivatives by centre and by half, float64.

    centre and half are float64 [BLOCK], half > 0; below and above, bool [BLOCK], open the interval
    on a side.
    """
    upright = above | ((below == 0) & (centre >= 0.0))
    middle = tl.where(upright, centre, centre * -1.0)
    closed = (below | above) == 0
    exponent = tl.where(closed, 2.0 * half * middle, -_VANISHING)
    fall = tl.exp(exponent * -1.0)
    near = middle - half
    mills = mills_ratio(tl.abs(near))
    rest = mills_ratio(tl.abs(middle + half)) * fall
    narrow = closed & (half < _NARROW)
    bent = exponent > _LINEAR
    gap = tl.where(bent, 1.0 - fall, exponent)
    thin = tl.where(bent, gap / tl.where(narrow & bent, middle, 1.0), 2.0 * half)
    inside = (near < 0.0) & (narrow == 0)
    height = -0.5 * near * near
    density = tl.exp(height) * _INVERSE_ROOT_TWO_PI
    area = tl.where(narrow, thin, mills - rest)
    area = tl.where(inside, tl.fma(density * -1.0, mills + rest, _one(density)), area)
    scale = tl.where(inside, 0.0, _LOG_ROOT_TWO_PI - height)
    hazard = tl.where(inside, density, 1.0) / area
    by_centre = hazard * gap
    by_centre = tl.where(upright, by_centre, by_centre * -1.0)
    return scale - tl.log(area), by_centre, hazard * (-1.0 - fall)


@triton.jit
def mills_ratio(x):
    """Tail area of a standard normal number over its density, float64, for x >= 0."""
    u = (x - 4.0) / (x + 4.0)
    value = tl.full(x.shape, _COEFFICIENTS[_DEGREE], tl.float64)
    for k in tl.static_range(_DEGREE):
        # A number that stands alone would be rounded to float32.
        addend = tl.full(x.shape, _COEFFICIENTS[_DEGREE - 1 - k], tl.float64)
        value = tl.fma(value, u, addend)
    return value / (x + 1.0)


@triton.jit
def _one(x):
    """Float64 ones of the shape of x."""
    return tl.full(x.shape, 1.0, tl.float64)
