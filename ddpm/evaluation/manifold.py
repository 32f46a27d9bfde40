"""How much of one set of images lies among another: precision and recall of a generator.

Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", 2019,
section 2, Eq. (2): the manifold of a set is the union of balls around its points, each as large as
the distance to the point's k-th neighbour in the set.
"""

import torch
from torch import Tensor

NEIGHBOUR = 3
"""The neighbour whose distance is the radius, the paper's k."""
MOST = 10_000
"""Points looked at of each set; all pairs of more would take hours."""
CHUNK = 1024


def precision_and_recall(
    real: Tensor, drawn: Tensor, neighbour: int = NEIGHBOUR
) -> tuple[float, float]:
    """Share of drawn points within the manifold of the real ones, and the other way round.

    Args:
        real: features [N, D].
        drawn: features [M, D]; both should have about as many points, since more make a manifold
            larger.
        neighbour: k, in 1..min(N, M) - 1.

    Returns:
        (precision, recall), both in [0, 1].

    Raises:
        ValueError: the shapes do not fit together, or a set has too few points.
    """
    if real.ndim != 2 or drawn.ndim != 2 or real.shape[1] != drawn.shape[1]:
        shapes = (tuple(real.shape), tuple(drawn.shape))
        raise ValueError(f"shapes of (real, drawn) = {shapes}: allowed are (N, D) and (M, D)")
    fewest = min(len(real), len(drawn))
    if not 1 <= neighbour < fewest:
        raise ValueError(f"neighbour = {neighbour}: allowed is 1 to {fewest - 1}, less than points")
    return _covered(drawn, real, neighbour), _covered(real, drawn, neighbour)


def _covered(points: Tensor, centres: Tensor, neighbour: int) -> float:
    """Share of points that lie in the ball of some centre."""
    radii = torch.cat([_radii(part, centres, neighbour) for part in _chunks(centres)])
    inside = [(torch.cdist(part, centres) <= radii).any(dim=1).sum() for part in _chunks(points)]
    return int(torch.stack(inside).sum()) / len(points)


def _radii(part: Tensor, centres: Tensor, neighbour: int) -> Tensor:
    """Distance to the k-th nearest other centre; the nearest of all is the centre itself."""
    return torch.cdist(part, centres).kthvalue(neighbour + 1, dim=1).values


def _chunks(points: Tensor) -> list[Tensor]:
    """The rows, some at a time, so that all distances are never in memory together."""
    return [points[first : first + CHUNK] for first in range(0, len(points), CHUNK)]
