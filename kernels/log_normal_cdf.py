"""Logarithm of the standard normal probability of an interval, and its slopes, in float64.

With R(x) = Q(x) / phi(x), the tail area over the density (Mills' ratio), an interval on one side
of zero has the probability phi(near) (R(near) - R(far) exp((near^2 - far^2) / 2)): nothing
underflows, however far in the tail it lies.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Minimax fit of (x + 1) R(x) for x >= 0 in u = (x - 4) / (x + 4), ascending powers; the relative
# error is below 3e-12.
MILLS_COEFFICIENTS = (
    1.1832619145678034,
    -0.2423996705002778,
    0.03509188026890681,
    0.07169048016917591,
    -0.08070801132584543,
    0.04495914348616661,
    -0.012539080320241461,
    -0.0007160409602862666,
    0.0017416996094103269,
    -0.0002364048480656917,
    -0.00021970350824791185,
    5.2718120003074595e-05,
    3.31432077942582e-05,
    -8.046562550627074e-06,
    -5.365503212624559e-06,
    7.524393483120606e-07,
    5.916630344983559e-07,
)
LOG_ROOT_TWO_PI = math.log(2.0 * math.pi) / 2.0
INVERSE_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)
# Below this half-width the bend of the density over the interval counts for less than 1e-8, and
# the difference of two areas would count for more.
NARROW = 2.0**-12
# Below this exponent exp is 1 minus the exponent to nine digits.
LINEAR = 1e-8
# The exponential of this is 0 for every purpose, and not a subnormal number.
VANISHING = -700.0


class Interval(NamedTuple):
    """Minus the log probability of an interval, in nats, and its derivatives."""

    nats: Tensor
    by_centre: Tensor
    by_half: Tensor


def log_interval(centre: Tensor, half: Tensor, below: Tensor, above: Tensor) -> Interval:
    """Give -log P(centre - half < z < centre + half) for a standard normal z.  L-2.10.

    Args:
        centre: float64, any shape, middle of the interval.
        half: float64, broadcast with centre, half its width, positive.
        below: bool, broadcast with centre, whether the interval reaches down to minus infinity.
        above: bool, whether it reaches up to infinity; not together with below.

    Returns:
        Three float64 tensors, within 1e-7 of the truth or 1e-7 of its value; NaN where an argument
        is NaN.
    """
    upright = above | (~below & (centre >= 0))
    side = torch.where(upright, 1.0, -1.0).double()
    middle, closed = side * centre, ~(below | above)
    exponent = torch.where(closed, 2.0 * half * middle, -VANISHING)
    fall = torch.exp(-exponent)
    near, far = middle - half, (middle + half).abs()
    mills, rest = mills_ratio(near.abs()), mills_ratio(far) * fall
    narrow = closed & (half < NARROW)
    bent = exponent > LINEAR
    gap = torch.where(bent, 1.0 - fall, exponent)
    thin = torch.where(bent, gap / torch.where(narrow & bent, middle, 1.0), 2.0 * half)
    inside = (near < 0) & ~narrow
    height = -0.5 * near * near
    density = torch.exp(height) * INVERSE_ROOT_TWO_PI
    area = torch.where(narrow, thin, mills - rest)
    area = torch.where(inside, 1.0 - density * (mills + rest), area)
    scale = torch.where(inside, 0.0, LOG_ROOT_TWO_PI - height)
    hazard = torch.where(inside, density, 1.0) / area
    return Interval(scale - torch.log(area), side * hazard * gap, hazard * (-1.0 - fall))


def mills_ratio(x: Tensor) -> Tensor:
    """Tail area of a standard normal number over its density, float64, for x >= 0."""
    u = (x - 4.0) / (x + 4.0)
    value = u * MILLS_COEFFICIENTS[-1]
    for coefficient in MILLS_COEFFICIENTS[-2:0:-1]:
        value.add_(coefficient).mul_(u)
    return value.add_(MILLS_COEFFICIENTS[0]).div_(x + 1.0)
