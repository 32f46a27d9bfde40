"""Bits per dimension of a test set under simple models fitted to the training set.

The histogram is a distribution over grey levels. The two Gaussian models are densities in grey
level units: with u uniform on [0, 1)^D,

    log P(k) = log E_u[p(k + u)] >= E_u[log p(k + u)],

so the right-hand side, reported here, bounds the bits of the discrete distribution from above.
All fits and draws have fixed seeds: the same data give the same figures.
"""

import math
import warnings
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from ddpm.data.images import ImageData
from ddpm.evaluation.arrays import Images, Rows, chunks, representative, rows

HISTOGRAM_PSEUDO_COUNT = 1.0

# A uniform variable on [0, 1) has this variance; its mean moves data and fit alike.
NOISE_VARIANCE = 1 / 12

SEED = 0
TEST_DRAWS = 4
COMPONENTS = {"full": (1, 2, 5, 10), "diag": (1, 10, 20, 30, 50, 100)}
MIXTURE_DIMENSIONS = 256
GAUSSIAN_DIMENSIONS = 3072
# Least variance of a component along any direction, in squared grey levels: half the noise's own,
# so that no component can shrink onto a few images.
LEAST_VARIANCE = NOISE_VARIANCE / 2
FEWEST_FOR_CHOICE = 10

Choice: TypeAlias = tuple[int, str]


def baselines(data: ImageData) -> dict[str, float]:
    """Bits per dimension of the test set under each of the simple models.

    Args:
        data: training set and test set.

    Returns:
        {"histogram": ..., "gaussian": ..., "mixture": ...}.
    """
    return {
        "histogram": histogram_bits(data.train, data.test, data.levels),
        "gaussian": gaussian_bits(data.train, data.test),
        "mixture": mixture_bits(data.train, data.test),
    }


def histogram_bits(train: Images, test: Images, levels: int) -> float:
    """Bits per dimension where each pixel has its own histogram, independent of the others.

    Every cell starts with one pseudo-count: P(k) = (count(k) + 1) / (N + levels).

    Args:
        train: uint8 [N, ...], grey levels 0..levels-1.
        test: uint8 [M, ...], images of the same size.
        levels: number of grey levels.
    """
    counts = _level_counts(train, levels)
    total = counts.sum(axis=1, keepdims=True)
    smoothed = (counts + HISTOGRAM_PSEUDO_COUNT) / (total + HISTOGRAM_PSEUDO_COUNT * levels)
    used = _level_counts(test, levels)
    return float(-(used * np.log2(smoothed)).sum() / used.sum())


def gaussian_bits(train: Images, test: Images) -> float:
    """Bits per dimension, as a bound, under one Gaussian.

    Its covariance is full; diagonal where an image has more than 3,072 values (32 x 32 in colour).

    Fit and bound are exact, without draws: noise adds 1/2 to the mean, 1/12 to each variance, and
    tr(precision) / 12 to the expected squared distance.

    Args:
        train: uint8 [N, ...], N >= 2.
        test: uint8 [M, ...], images of the same size.
    """
    if math.prod(train.shape[1:]) > GAUSSIAN_DIMENSIONS:
        return _diagonal_gaussian_bits(train, test)
    mean, covariance = _moments(train)
    noisy_covariance = covariance + NOISE_VARIANCE * np.eye(len(mean))
    precision = np.linalg.inv(noisy_covariance)
    centred = (chunk - mean for chunk in chunks(test))
    squares = sum(float(np.vdot(chunk @ precision, chunk)) for chunk in centred)
    distance = squares / len(test) + NOISE_VARIANCE * float(np.trace(precision))
    return _gaussian_bits(
        float(np.linalg.slogdet(noisy_covariance).logabsdet) + distance, len(mean)
    )


def _diagonal_gaussian_bits(train: Images, test: Images) -> float:
    mean = sum(chunk.sum(axis=0) for chunk in chunks(train)) / len(train)
    square = sum(((chunk - mean) ** 2).sum(axis=0) for chunk in chunks(train)) / len(train)
    variance = square + NOISE_VARIANCE
    error = sum(((chunk - mean) ** 2).sum(axis=0) for chunk in chunks(test)) / len(test)
    terms = np.log(variance) + (error + NOISE_VARIANCE) / variance
    return _gaussian_bits(float(terms.sum()), len(terms))


def _gaussian_bits(log_det_and_distance: float, dims: int) -> float:
    """Bits per dimension from log det C + E[(y - m)^T C^-1 (y - m)]."""
    nats = 0.5 * (dims * math.log(2 * math.pi) + log_det_and_distance)
    return nats / (dims * math.log(2))


def mixture_bits(train: Images, test: Images) -> float:
    """Bits per dimension, as a bound, under the best of several Gaussian mixtures.

    Number of components and kind of covariance (full, or diagonal where an image has more than
    256 values) are chosen on a held-out fifth of the training images; the winner is then fitted to
    all of them, at most 10,000. The bound's expectation over noise is a mean over 4 draws.

    Args:
        train: uint8 [N, ...]; for N < 10 the mixture is the one Gaussian of `gaussian_bits`.
        test: uint8 [M, ...], images of the same size.
    """
    if len(train) < FEWEST_FOR_CHOICE:
        return gaussian_bits(train, test)
    generator = np.random.default_rng(SEED)
    images = rows(train[representative(train)])
    noisy = images + generator.random(images.shape)
    final = _fit(noisy, *_best_choice(noisy))
    noisy_tests = (
        chunk + generator.random(chunk.shape) for _ in range(TEST_DRAWS) for chunk in chunks(test)
    )
    total = sum(float(final.score_samples(noisy_test).sum()) for noisy_test in noisy_tests)
    values: int = TEST_DRAWS * len(test) * noisy.shape[1]
    return -total / (values * math.log(2))


def _best_choice(noisy: Rows) -> Choice:
    """The choice that gives the held-out fifth of these images the highest likelihood."""
    held_out = np.arange(len(noisy)) % 5 == 0
    kept = noisy[~held_out]
    return max(_choices(kept), key=lambda choice: _fit(kept, *choice).score(noisy[held_out]))


def _choices(noisy: Rows) -> Iterator[Choice]:
    for kind, counts in COMPONENTS.items():
        if kind == "diag" or noisy.shape[1] <= MIXTURE_DIMENSIONS:
            yield from ((count, kind) for count in counts if 2 * count <= len(noisy))


def _fit(noisy: Rows, count: int, kind: str) -> GaussianMixture:
    model = GaussianMixture(
        count,
        covariance_type=kind,
        reg_covar=LEAST_VARIANCE,
        tol=1e-2,
        max_iter=200,
        random_state=SEED,
    )
    with warnings.catch_warnings():
        # Any mixture gives a valid bound, whether its fit has converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(noisy)


def _level_counts(images: Images, levels: int) -> NDArray[np.int64]:
    """How often each pixel takes each grey level, int64 [D, levels]."""
    dims = math.prod(images.shape[1:])
    offsets = np.arange(dims) * levels
    counts = np.zeros(dims * levels, np.int64)
    for chunk in chunks(images):
        cells = chunk.astype(np.int64) + offsets
        counts += np.bincount(cells.ravel(), minlength=dims * levels)
    return counts.reshape(dims, levels)


def _moments(images: Images) -> tuple[Rows, Rows]:
    """Mean [D] and covariance [D, D] (divisor N) of grey levels.

    The sums are of integers below 2^53, hence exact, and the difference of products is harmless.
    """
    dims = math.prod(images.shape[1:])
    total, products = np.zeros(dims), np.zeros((dims, dims))
    for chunk in chunks(images):
        total += chunk.sum(axis=0)
        products += chunk.T @ chunk
    mean = total / len(images)
    return mean, products / len(images) - np.outer(mean, mean)
