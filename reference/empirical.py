r"""The empirical density of a training set, the baseline that a model should beat.

    \hat q(x) = 1/N \sum_n \delta(x - x_n).

Its samples are training points. Noised, it is a mixture of N equal normal laws, whose best denoiser
is an average of training points: a model that fits the training set perfectly regurgitates it.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from .arrays import Array, as_float
from .mixture import Mixture


def empirical_sample(points: ArrayLike, uniform: ArrayLike) -> Array:
    """Samples of the empirical density: each repeats a training point.  T-fn3.

    Args:
        points: training set, shape (N, d), N >= 1.
        uniform: uniform numbers in [0, 1), shape (M,).

    Returns:
        Shape (M, d).

    Raises:
        ValueError: there is no point, or a number leaves [0, 1).
    """
    training, place = _points(points, "points"), as_float(uniform, "uniform")
    if np.any((place < 0) | (place >= 1)):
        raise ValueError(f"uniform must lie in [0, 1), got {place.min()}..{place.max()}")
    return training[np.floor(place * len(training)).astype(np.int64)]


def nearest_distance(samples: ArrayLike, points: ArrayLike) -> Array:
    """Euclidean distance of each sample to the nearest training point, shape (M,).  T-fn3.

    Zero for a sample that was memorised, so it measures what a model regurgitates.

    Args:
        samples: shape (M, d), M >= 1.
        points: training set, shape (N, d), N >= 1.

    Raises:
        ValueError: there is no sample or no point, or they differ in d.
    """
    made, training = _points(samples, "samples"), _points(points, "points")
    if made.shape[1] != training.shape[1]:
        raise ValueError(f"samples must have {training.shape[1]} coordinates, got {made.shape[1]}")
    return np.asarray(cdist(made, training).min(axis=1))


def empirical_mixture(points: ArrayLike) -> Mixture:
    """The empirical density on the line as a mixture of point masses of equal weight.  T-fn3.

    Args:
        points: training set, shape (N,), N >= 1.

    Raises:
        ValueError: there is no point.
    """
    training = as_float(points, "points")
    return Mixture(np.ones_like(training) / training.size, training, np.zeros_like(training))


def _points(value: ArrayLike, name: str) -> Array:
    array = as_float(value, name)
    if array.ndim != 2 or len(array) == 0:
        raise ValueError(f"{name} must have shape (N, d) with N >= 1, got {array.shape}")
    return array
