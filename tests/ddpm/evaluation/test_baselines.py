"""Baselines against brute force, exact quadrature and data of known entropy."""

import math
import time
from fractions import Fraction
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import multivariate_normal, norm

from ddpm.data.load import load_images
from ddpm.evaluation import baselines
from ddpm.evaluation.baselines import gaussian_bits, histogram_bits, mixture_bits

# Three Gauss-Legendre nodes on [0, 1]: exact for polynomials of degree five, so for the mean and
# covariance of noisy data and for the expectation of a quadratic form.
NODES = np.polynomial.legendre.leggauss(3)[0] / 2 + 0.5
WEIGHTS = np.polynomial.legendre.leggauss(3)[1] / 2


def pairs(dims: int, most: int = 20) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    rows = st.integers(2, 8)
    images = st.tuples(rows, st.just(dims)).flatmap(
        lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, most))
    )
    return st.tuples(images, images)


@given(both=pairs(3, most=4))
@settings(deadline=None)
def test_histogram_by_counting(both: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = both
    bits = 0.0
    for image in test:
        for pixel, value in enumerate(image):
            count = sum(int(other[pixel]) == int(value) for other in train)
            bits -= math.log2(Fraction(count + 1, len(train) + 5))
    # A sum of at most 24 logarithms, each right to a few units of 1e-16.
    assert histogram_bits(train, test, 5) == pytest.approx(bits / test.size, rel=1e-13)


@given(train=pairs(2, most=6).map(lambda both: both[0]))
@settings(deadline=None)
def test_histogram_is_a_distribution(train: np.ndarray) -> None:
    every = [np.array([image], np.uint8) for image in product(range(7), repeat=2)]
    total = math.fsum(2 ** (-2 * histogram_bits(train, image, 7)) for image in every)
    assert total == pytest.approx(1, rel=1e-12)


def expanded(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every image plus every combination of noise nodes, and the weight of each."""
    dims = images.shape[1]
    noise = np.array(list(product(NODES, repeat=dims)))
    weights = np.array([math.prod(w) for w in product(WEIGHTS, repeat=dims)])
    points = (images[:, None, :] + noise[None, :, :]).reshape(-1, dims)
    return points, np.tile(weights, len(images)) / len(images)


@given(dims=st.integers(1, 3), data=st.data())
@settings(deadline=None, max_examples=40)
def test_gaussian_by_quadrature_over_the_noise(dims: int, data: st.DataObject) -> None:
    train, test = data.draw(pairs(dims))
    points, weights = expanded(train)
    mean = weights @ points
    covariance = (points - mean).T @ np.diag(weights) @ (points - mean)
    targets, target_weights = expanded(test)
    log_density = multivariate_normal(mean, covariance).logpdf(targets)
    bits = -float(target_weights @ np.atleast_1d(log_density)) / (dims * math.log(2))
    # The covariance has a condition number below 12 * 3 * 100 and inverts to about 1e-12.
    assert gaussian_bits(train, test) == pytest.approx(bits, rel=1e-10)


@given(train=pairs(1).map(lambda both: both[0]))
@settings(deadline=None, max_examples=30)
def test_gaussian_bound_never_promises_more_than_all_probability(train: np.ndarray) -> None:
    every = (np.array([[k]], np.uint8) for k in range(256))
    assert sum(2 ** -gaussian_bits(train, image) for image in every) <= 1


@given(both=pairs(3))
@settings(deadline=None, max_examples=30)
def test_gaussian_of_large_images_is_one_gaussian_a_pixel(
    both: tuple[np.ndarray, np.ndarray],
) -> None:
    train, test = both
    with patch.object(baselines, "GAUSSIAN_DIMENSIONS", 2):
        bits = gaussian_bits(train, test)
    alone = [gaussian_bits(train[:, [i]], test[:, [i]]) for i in range(3)]
    # The mean of three numbers computed by another factorisation.
    assert bits == pytest.approx(np.mean(alone), rel=1e-12)


def two_clusters(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = np.array([[40.0] * 4, [200.0] * 4])[generator.integers(0, 2, count)]
    return np.floor(centres + 6 * generator.standard_normal((count, 4))).astype(np.uint8)


def test_mixture_reaches_the_entropy_of_a_mixture() -> None:
    train, test = two_clusters(2000, 1), two_clusters(500, 2)
    near, far = (norm(centre, 6) for centre in (40, 200))
    cells = [d.cdf(test + 1.0) - d.cdf(test * 1.0) for d in (near, far)]
    truth = -np.mean(np.log2(0.5 * cells[0].prod(axis=1) + 0.5 * cells[1].prod(axis=1))) / 4
    bits = mixture_bits(train, test)
    # Noise of variance 1/12 beside 36 costs about 1e-3 bits, fitting 2000 images as much again.
    assert truth - 0.003 < bits < truth + 0.01
    assert gaussian_bits(train, test) > truth + 0.2


def test_mixture_is_a_distribution_in_one_dimension() -> None:
    train = two_clusters(200, 3)[:, :1]
    every = [np.array([[k]], np.uint8) for k in range(256)]
    total = sum(2 ** -mixture_bits(train, image) for image in every[20:60])
    total += sum(2 ** -mixture_bits(train, image) for image in every[180:220])
    # Four draws of the noise leave each cell's estimate a few percent of spread.
    assert 0.9 < total < 1.02


def test_mixture_of_few_images_is_the_gaussian() -> None:
    train, test = two_clusters(9, 4), two_clusters(5, 5)
    assert mixture_bits(train, test) == gaussian_bits(train, test)
    assert mixture_bits(train[:1], test) == gaussian_bits(train[:1], test)


def test_choice_of_covariance_by_dimension() -> None:
    small, large = np.zeros((100, 256)), np.zeros((100, 257))
    assert {kind for _, kind in baselines._choices(small)} == {"full", "diag"}
    assert {kind for _, kind in baselines._choices(large)} == {"diag"}
    assert max(count for count, _ in baselines._choices(small)) == 50


def test_digits_in_time_and_reproducible() -> None:
    data = load_images("digits")
    start = time.process_time()
    first = baselines.baselines(data)
    assert time.process_time() - start < 20
    assert first == baselines.baselines(data)
    # An independent trial with another split of the digits gave 2.43 and 2.68.
    assert 2.38 < first["histogram"] < 2.48
    assert 2.55 < first["mixture"] < 2.75
    assert first["mixture"] < first["gaussian"] < 3.1
