"""Frechet distance against closed forms and SciPy's matrix square root."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.linalg import sqrtm

from ddpm.evaluation.frechet import (
    frechet_distance,
    frechet_in_space,
    pca_frechet,
    principal_space,
)

VALUES = st.floats(-3, 3)
DIMS = st.integers(1, 6)


@st.composite
def gaussians(draw: st.DrawFn, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Means and well-conditioned covariances of one dimension, A A^T + I / 4."""
    dims = draw(DIMS)
    result = []
    for _ in range(count):
        factor = draw(hnp.arrays(np.float64, (dims, dims), elements=VALUES))
        mean = draw(hnp.arrays(np.float64, dims, elements=VALUES))
        result.append((mean, factor @ factor.T + 0.25 * np.eye(dims)))
    return result


@given(both=gaussians(2))
@settings(deadline=None)
def test_against_the_matrix_square_root(both: list[tuple[np.ndarray, np.ndarray]]) -> None:
    (m1, c1), (m2, c2) = both
    cross = np.trace(sqrtm(c1 @ c2)).real
    truth = np.sum((m1 - m2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * cross
    # Traces reach 6 * 54; the square root loses half of the condition number's five digits.
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(truth, abs=1e-8)


@given(both=gaussians(2))
@settings(deadline=None)
def test_symmetric_and_zero_from_itself(both: list[tuple[np.ndarray, np.ndarray]]) -> None:
    (m1, c1), (m2, c2) = both
    forth, back = frechet_distance(m1, c1, m2, c2), frechet_distance(m2, c2, m1, c1)
    # Rounding of traces up to 324.
    assert forth == pytest.approx(back, abs=1e-11)
    assert 0 <= frechet_distance(m1, c1, m1, c1) < 1e-11


@given(data=st.data(), dims=DIMS)
@settings(deadline=None)
def test_commuting_covariances(data: st.DataObject, dims: int) -> None:
    scales = hnp.arrays(np.float64, dims, elements=st.floats(0, 5))
    s1, s2 = data.draw(scales), data.draw(scales)
    factor = data.draw(hnp.arrays(np.float64, (dims, dims), elements=VALUES))
    rotation = np.linalg.qr(factor + 5 * np.eye(dims))[0]
    c1, c2 = ((rotation * s**2) @ rotation.T for s in (s1, s2))
    zero = np.zeros(dims)
    # In their common directions the distance is that of standard deviations. An eigenvalue that
    # should be 0 comes out as 1e-15 * 25, and its root as 1e-7, beside roots up to 5.
    assert frechet_distance(zero, c1, zero, c2) == pytest.approx(np.sum((s1 - s2) ** 2), abs=1e-5)


@given(dims=DIMS, shift=VALUES)
def test_points_are_as_far_apart_as_their_means(dims: int, shift: float) -> None:
    zero = np.zeros((dims, dims))
    distance = frechet_distance(np.zeros(dims), zero, np.full(dims, shift), zero)
    assert distance == pytest.approx(dims * shift**2, rel=1e-14)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="shapes"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(2), np.eye(3))


def images(count: int, seed: int, side: int = 3, most: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, (count, 1, side, side)).astype(np.uint8)


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_with_all_directions_the_space_does_not_matter(seed: int) -> None:
    train, a, b = images(30, seed), images(25, seed + 1), images(20, seed + 2, most=60)
    flat_a, flat_b = (x.reshape(len(x), -1).astype(float) for x in (a, b))
    c1, c2 = np.cov(flat_a.T), np.cov(flat_b.T)
    gap = np.sum((flat_a.mean(axis=0) - flat_b.mean(axis=0)) ** 2)
    truth = gap + np.trace(c1) + np.trace(c2) - 2 * np.trace(sqrtm(c1 @ c2)).real
    # Nine pixels have fewer directions than the twenty asked for; traces are of order 1000.
    assert pca_frechet(train, a, b) == pytest.approx(truth, rel=1e-8)


@given(seed=st.integers(0, 10**6), components=st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_main_directions_by_singular_values(seed: int, components: int) -> None:
    train, a = images(40, seed), images(25, seed + 1)
    flat = train.reshape(40, -1).astype(float)
    axes = np.linalg.svd(flat - flat.mean(axis=0))[2][:components]
    moved = a.copy()
    moved[:, 0, 1, 2] += 7
    shift = np.zeros(9)
    shift[5] = 7
    # Moving every image alike leaves only the part of the move that the directions see. It is
    # compared at 1e-6 because near-equal singular values leave their axes loose by about that.
    assert pca_frechet(train, a, moved, components) == pytest.approx(
        np.sum((axes @ shift) ** 2), abs=1e-6
    )


def test_a_set_is_at_no_distance_from_itself_and_20_directions_are_kept() -> None:
    train = images(50, 1, side=6)
    space = principal_space(train)
    assert space.n_components_ == 20
    # Traces are of order 3000.
    assert frechet_in_space(space, train, train) < 1e-9


def test_small_or_senseless_requests_are_refused() -> None:
    several, one = images(4, 1), images(1, 1)
    for arguments in ((one, several, several), (several, one, several), (several, several, one)):
        with pytest.raises(ValueError, match="number of images = 1"):
            pca_frechet(*arguments)
    with pytest.raises(ValueError, match="components = 0"):
        pca_frechet(several, several, several, 0)
