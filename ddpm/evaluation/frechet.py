"""Frechet distance between two sets of images, in the main directions of the training set.

For Gaussians N(m1, C1) and N(m2, C2) the squared distance is

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1^(1/2) C2 C1^(1/2))^(1/2).
"""

import numpy as np
from sklearn.decomposition import PCA

from ddpm.evaluation.arrays import Images, Rows, representative, rows

COMPONENTS = 20
SEED = 0


def frechet_distance(mu1: Rows, cov1: Rows, mu2: Rows, cov2: Rows) -> float:
    """Squared Frechet (2-Wasserstein) distance between two Gaussians.

    Args:
        mu1: mean, [D].
        cov1: covariance, [D, D], symmetric, positive semi-definite.
        mu2: mean, [D].
        cov2: covariance, [D, D], symmetric, positive semi-definite.

    Returns:
        The distance, >= 0, in squared units of the data.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    shapes = [np.shape(array) for array in (mu1, cov1, mu2, cov2)]
    dims = len(mu1)
    if shapes != [(dims,), (dims, dims)] * 2:
        raise ValueError(f"shapes of (mu1, cov1, mu2, cov2) = {shapes}: allowed is (D,), (D, D)")
    # The eigenvalues of the symmetric product A A^T with A = C1^(1/2) C2^(1/2) are the squares of
    # the singular values of A; taken directly, these keep the digits that a square root would lose.
    cross = np.linalg.svd(_root(cov1) @ _root(cov2), compute_uv=False).sum()
    squared = np.sum((np.asarray(mu1) - mu2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * cross
    return max(0.0, float(squared))


def principal_space(train: Images, components: int = COMPONENTS) -> PCA:
    """The main directions of a training set.

    Args:
        train: uint8 [N, ...], N >= 2; at most 10,000 of them, evenly spaced, are used.
        components: number of directions, >= 1; fewer if N or the images do not have as many.

    Raises:
        ValueError: if there are fewer than two images or `components` < 1.
    """
    _check_count("train", train)
    if components < 1:
        raise ValueError(f"components = {components}: allowed is 1 or more")
    points = rows(train[representative(train)])
    return PCA(n_components=min(components, *points.shape), random_state=SEED).fit(points)


def frechet_in_space(space: PCA, a: Images, b: Images) -> float:
    """Squared Frechet distance between two sets of images within a principal space.

    Args:
        space: from `principal_space`.
        a: uint8 [A, ...], A >= 2, images of the size of those that made the space.
        b: uint8 [B, ...], B >= 2, likewise.

    Returns:
        The distance, >= 0, in squared grey levels.

    Raises:
        ValueError: if a set has fewer than two images.
    """
    _check_count("a", a)
    _check_count("b", b)
    (mu1, cov1), (mu2, cov2) = (_moments(space.transform(rows(images))) for images in (a, b))
    return frechet_distance(mu1, cov1, mu2, cov2)


def pca_frechet(train: Images, a: Images, b: Images, components: int = COMPONENTS) -> float:
    """`frechet_in_space` of `a` and `b` within `principal_space` of `train`, which see."""
    return frechet_in_space(principal_space(train, components), a, b)


def _check_count(name: str, images: Images) -> None:
    if len(images) < 2:
        raise ValueError(f"{name}: number of images = {len(images)}: allowed is 2 or more")


def _moments(points: Rows) -> tuple[Rows, Rows]:
    return points.mean(axis=0), np.atleast_2d(np.cov(points, rowvar=False))


def _root(covariance: Rows) -> Rows:
    """Symmetric square root; eigenvalues that rounding made negative count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    root: Rows = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
