r"""How far the law of a sampler is from the exact one, as Wasserstein distances of order 2.

On the line W^2 = \int (F^{-1}(u) - G^{-1}(u))^2 du, and squares of distances of products of laws
add up over the axes; both laws may be turned together in space.
"""

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ndtr, ndtri

from benchmarks.sampler_orders.axes import Array, Law
from benchmarks.sampler_orders.densities import Density

Z = np.linspace(-6.0, 6.0, 601)
"""Ranks at which points are compared, as quantiles of a standard normal law."""
MASSES = np.exp(-(Z**2) / 2) / np.sqrt(2 * np.pi) * (Z[1] - Z[0])
EDGE = 4.0
"""The rank up to which densities are compared; what lies beyond has a mass of 6e-5."""
CENTRAL = abs(Z) <= EDGE
LOST = 1e-6
"""Mass that a grid may lose."""
REFINED = 8
"""Points between two of a grid, among which ranks are looked up."""


def of_points(got: Array, want: Array) -> float:
    """Between the laws of two functions of `Z`, [601] each.

    Exact where both are monotone, and an upper bound where they are not, as with few steps.
    """
    return float(np.sqrt(MASSES @ (got - want) ** 2))


def of_density(found: Density, law: Law) -> float:
    """Between a density and a law, by their quantiles at the central ranks.

    Raises:
        ValueError: the grid has lost a part of the density.
    """
    x = np.linspace(found.x[0], found.x[-1], REFINED * len(found.x))
    below = CubicSpline(found.x, found.p).antiderivative()(x)
    # Either tail is summed from its own end, where it is small.
    above = CubicSpline(-found.x[::-1], found.p[::-1]).antiderivative()(-x)
    if abs(below[-1] - 1) > LOST:
        raise ValueError(f"mass = {below[-1]}: allowed is 1 within {LOST}")
    nearer = np.minimum(below, above)
    used = nearer > ndtr(-EDGE - 0.5)
    rank = np.where(below < above, 1.0, -1.0)[used] * ndtri(nearer[used])
    points = CubicSpline(rank, x[used])(Z[CENTRAL])
    apart = points - law.quantiles(Z[CENTRAL])
    return float(np.sqrt(MASSES[CENTRAL] @ apart**2))


def together(distances: Sequence[float]) -> float:
    """Of products of laws, from the distances along each axis."""
    return float(np.linalg.norm(distances))
