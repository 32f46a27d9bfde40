"""The normals are normal and independent: fixed seeds, and bounds stated in standard errors.

Every z bound is 4.5: the chance that one of the about 60 tests below fails for a perfect generator
is below 60 * 7e-6 = 4e-4, and the seeds are fixed.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from ddpm.kernels.philox import normals, words

Z = 4.5
SAMPLES, SIZE = 1024, 1024


def draw(seed: int = 11, step: int = 5, stream: int = 2, first: int = 0) -> np.ndarray:
    samples = torch.arange(first, first + SAMPLES)
    z = normals(torch.tensor(seed), torch.tensor(step), samples, stream, SIZE)
    return z.double().numpy()


@pytest.fixture(scope="module")
def z() -> np.ndarray:
    return draw()


def test_distribution_function(z: np.ndarray) -> None:
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-5
    for lane in range(4):
        assert stats.kstest(z[:, lane::4].ravel(), "norm").pvalue > 1e-5


@pytest.mark.parametrize("power", range(1, 9))
def test_moments(z: np.ndarray, power: int) -> None:
    normal = stats.norm
    mean = normal.moment(power)
    error = np.sqrt((normal.moment(2 * power) - mean**2) / z.size)
    assert abs((z**power).mean() - mean) < Z * error


@pytest.mark.parametrize("bound", [0.1, 1.0, 2.0, 3.0, 4.0])
def test_tails(z: np.ndarray, bound: float) -> None:
    for side in (z, -z):
        p = stats.norm.sf(bound)
        count = (side > bound).sum()
        assert abs(count - p * z.size) < Z * np.sqrt(p * (1 - p) * z.size) + 1


@pytest.mark.parametrize("other", range(1, 9))
def test_lanes_are_uncorrelated(z: np.ndarray, other: int) -> None:
    near, far = z[:, :-other].ravel(), z[:, other:].ravel()
    for f in (lambda v: v, lambda v: v**2 - 1, np.abs):
        assert abs(np.corrcoef(f(near), f(far))[0, 1]) < Z / np.sqrt(near.size)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"seed": 11 + 2**32},
        {"seed": -11},
        {"step": 6},
        {"stream": 3},
        {"first": 1},
        {"first": 2**32},
    ],
)
def test_places_are_uncorrelated(z: np.ndarray, change: dict[str, int]) -> None:
    other = draw(**change)
    assert abs(np.corrcoef(z.ravel(), other.ravel())[0, 1]) < Z / np.sqrt(z.size)
    squares = np.corrcoef(z.ravel() ** 2, other.ravel() ** 2)[0, 1]
    assert abs(squares) < Z / np.sqrt(z.size)


def test_angle_and_radius_are_independent(z: np.ndarray) -> None:
    pairs = z.reshape(-1, 2)
    # A squared radius is exponential with mean 2, an angle uniform.
    squared = (pairs**2).sum(1)
    angle = np.arctan2(pairs[:, 1], pairs[:, 0]) / (2 * np.pi) + 0.5
    assert stats.kstest(squared / 2, "expon").pvalue > 1e-5
    assert stats.kstest(angle, "uniform").pvalue > 1e-5
    assert abs(np.corrcoef(squared, angle)[0, 1]) < Z / np.sqrt(len(angle))


def test_every_bit_of_the_words_is_fair() -> None:
    place = (torch.tensor(11), torch.tensor(5), torch.arange(256))
    drawn = words(*place, 2, 1024).numpy()
    bits = (drawn[..., None] >> np.arange(32)) & 1
    assert np.abs(bits.mean((0, 1)) - 0.5).max() < Z * 0.5 / np.sqrt(drawn.size)
