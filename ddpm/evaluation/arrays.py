"""Images as rows of a float64 matrix, and thinning out sets too large for a method."""

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Images: TypeAlias = Tensor | NDArray[np.uint8]
Rows: TypeAlias = NDArray[np.float64]

MOST_IMAGES = 10_000
# As float64 a quarter of a gigabyte: what a fit may hold in memory at a time.
MOST_VALUES = 1 << 25


def rows(images: Images) -> Rows:
    """One row of grey levels for each image.

    Args:
        images: uint8 [N, ...].

    Returns:
        float64 [N, D], D the number of values of one image.

    Raises:
        ValueError: if the values are not uint8 or there is no image.
    """
    array = images.cpu().numpy() if isinstance(images, Tensor) else images
    if array.dtype != np.uint8:
        raise ValueError(f"images: dtype = {array.dtype}: allowed is uint8")
    if array.ndim < 2 or array.size == 0:
        raise ValueError(f"images: shape = {array.shape}: allowed is (N, ...), none of them 0")
    return array.reshape(len(array), -1).astype(np.float64)


def chunks(images: Images) -> Iterator[Rows]:
    """The rows of all images, in order, a limited number of values at a time.

    Args:
        images: uint8 [N, ...].

    Yields:
        float64 [n, D].
    """
    size = max(1, MOST_VALUES // 8 // math.prod(images.shape[1:]))
    for start in range(0, len(images), size):
        yield rows(images[start : start + size])


def representative(images: Images) -> NDArray[np.int64]:
    """Indices of as many images as a costly fit should see: at most 10,000 and 2^25 values.

    Args:
        images: [N, ...], N >= 1.

    Returns:
        int64 [n], evenly spaced.
    """
    dims = math.prod(images.shape[1:])
    return thin(len(images), min(MOST_IMAGES, max(1, MOST_VALUES // dims)))


def thin(count: int, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` of `count` items, evenly spaced, so that every part is present.

    Args:
        count: number of items, >= 1.
        limit: how many to keep at most, >= 1.

    Returns:
        int64 [min(count, limit)], strictly increasing, in 0..count-1.

    Raises:
        ValueError: if either is below 1.
    """
    if count < 1 or limit < 1:
        raise ValueError(f"(count, limit) = {(count, limit)}: allowed are 1 and more")
    kept = min(count, limit)
    return np.arange(kept, dtype=np.int64) * count // kept
