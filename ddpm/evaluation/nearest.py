"""How far images lie from their nearest training image: copying would show as a small distance."""

import numpy as np

from ddpm.evaluation.arrays import Images, Rows, chunks, rows

CHUNK_ROWS = 1024


def nearest_distances(images: Images, train: Images) -> Rows:
    """Euclidean distance of each image to the nearest training image, in grey levels.

    Squared distances are sums of integers below 2^53, so they are exact however they are ordered.

    Args:
        images: uint8 [N, ...], N >= 1.
        train: uint8 [M, ...], M >= 1, images of the same size.

    Returns:
        float64 [N].

    Raises:
        ValueError: if the images differ in size.
    """
    if tuple(images.shape[1:]) != tuple(train.shape[1:]):
        sizes = f"{tuple(images.shape[1:])} and {tuple(train.shape[1:])}"
        raise ValueError(f"sizes of images and train = {sizes}: allowed is one size")
    best = np.full(len(images), np.inf)
    for part in chunks(train):
        for first in range(0, len(images), CHUNK_ROWS):
            block = slice(first, first + CHUNK_ROWS)
            best[block] = np.minimum(best[block], _least_squares(rows(images[block]), part))
    distances: Rows = np.sqrt(best)
    return distances


def median_nearest_distance(images: Images, train: Images) -> float:
    """Median over images of the distance to the nearest training image, in grey levels.

    Args:
        images: uint8 [N, ...], N >= 1.
        train: uint8 [M, ...], M >= 1, images of the same size.
    """
    return float(np.median(nearest_distances(images, train)))


def _least_squares(a: Rows, b: Rows) -> Rows:
    """Smallest |a_i - b_j|^2 over j, for each row of `a`."""
    beyond = np.sum(b * b, axis=1) - 2 * (a @ b.T)
    least: Rows = np.sum(a * a, axis=1) + np.min(beyond, axis=1)
    return least
