"""exp in float32 from multiplications and additions, so that it is the same number everywhere.

Libraries round exp differently from one another, and some from one position in memory to the next.
With x = n ln 2 + r, |r| <= ln(2) / 2: exp(x) = 2**n (1 + r + r r q(r)).
"""

import torch
from torch import Tensor

# Adding and subtracting 1.5 * 2**23 rounds to the nearest integer; the low bits of the sum are it.
LOG2_E = 1.4426950408889634
ROUNDER = 12582912.0
# -ln 2 in two parts. The first has 12 significant bits, so that its products with n are exact.
LN2_HIGH = -0.693359375
LN2_LOW = 2.1219444e-4
# Minimax fit of q, ascending powers: relative error of exp below 4e-9 before rounding.
COEFFICIENTS = (
    0.4999999403953552,
    0.1666652113199234,
    0.04166838899254799,
    0.008368736132979393,
    0.001381455804221332,
)
LOWEST, HIGHEST = -87.0, 88.0
"""Arguments are clamped to these, where exp is a normal float32."""
ONE_BITS = 0x3F800000


def exponential(x: Tensor) -> Tensor:
    """Give exp(x), x clamped to [-87, 88], within 2 units in the last place; NaN stays NaN.

    Args:
        x: float32, any shape.
    """
    x = x.clamp(LOWEST, HIGHEST)
    shifted = (x * LOG2_E).add_(ROUNDER)
    n = shifted - ROUNDER
    x.add_(n * LN2_HIGH).add_(n.mul_(LN2_LOW))
    value = x * COEFFICIENTS[-1]
    for coefficient in COEFFICIENTS[-2:0:-1]:
        value.add_(coefficient).mul_(x)
    value.add_(COEFFICIENTS[0]).mul_(x).mul_(x).add_(x).add_(1.0)
    scale = shifted.view(torch.int32).bitwise_left_shift_(23).add_(ONE_BITS)
    return value.mul_(scale.view(torch.float32))
