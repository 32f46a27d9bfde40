"""Work on whole samples of a batch, as many at a time as stay in a cache."""

from collections.abc import Iterator

from torch import Tensor

# Elements of a part: below, calling torch once more costs more than a cache that is missed.
PART = 2**18


def parts(x: Tensor) -> Iterator[slice]:
    """Yield the samples of x [B, ...] to be worked on together, in order; none where x is empty."""
    batch, size = x.shape[0], x.numel()
    height = max(1, PART * batch // max(1, size))
    for first in range(0, batch if size else 0, height):
        yield slice(first, min(first + height, batch))


def cut(x: Tensor, rows: slice | None) -> Tensor:
    """Give some samples of x; None are all of them, without the time that a view takes."""
    return x if rows is None else x[rows]


def coefficients(values: Tensor, x: Tensor) -> Tensor:
    """Make the numbers [B] of some samples ready to broadcast against those, x [B, ...]."""
    return values if values.shape[0] == 1 else per_sample(values, x)


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Append dimensions to a vector [B] so that it broadcasts against [B, ...]."""
    return value.view(-1, *(1,) * (like.ndim - 1))
