import numpy as np
import pytest

from ddpm.reference.empirical import empirical_mixture, empirical_sample, nearest_distance

POINTS = np.array([[0.0, 0.0], [3.0, 4.0]])


def test_uniform_numbers_choose_in_order() -> None:
    drawn = empirical_sample(POINTS, [0.0, 0.49, 0.5, np.nextafter(1, 0)])
    np.testing.assert_array_equal(drawn, POINTS[[0, 0, 1, 1]])


def test_distance_is_euclidean() -> None:
    np.testing.assert_array_equal(nearest_distance([[3.0, 0.0]], POINTS[:1]), [3])
    np.testing.assert_array_equal(nearest_distance([[6.0, 8.0], [0.0, 1.0]], POINTS), [5, 1])


def test_points_of_equal_weight_without_width() -> None:
    law = empirical_mixture([1.0, 2.0, 4.0])
    np.testing.assert_allclose(law.weights, 1 / 3)
    np.testing.assert_array_equal(law.means, [1, 2, 4])
    np.testing.assert_array_equal(law.variances, 0)


@pytest.mark.parametrize("uniform", [-1e-9, 1.0])
def test_numbers_that_are_not_uniform_are_refused(uniform: float) -> None:
    with pytest.raises(ValueError, match=r"uniform must lie in \[0, 1\)"):
        empirical_sample(POINTS, [0.5, uniform])


@pytest.mark.parametrize("shape", [(2,), (0, 2), (1, 2, 3)])
def test_bad_points_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="points must have shape"):
        empirical_sample(np.zeros(shape), [0.0])
    with pytest.raises(ValueError, match="points must have shape"):
        nearest_distance(POINTS, np.zeros(shape))
    with pytest.raises(ValueError, match="samples must have shape"):
        nearest_distance(np.zeros(shape), POINTS)


def test_samples_of_another_dimension_are_refused() -> None:
    for d in (1, 3):
        with pytest.raises(ValueError, match="samples must have 2 coordinates"):
            nearest_distance(np.zeros((1, d)), POINTS)


def test_an_empty_training_set_is_refused() -> None:
    with pytest.raises(ValueError, match="K >= 1"):
        empirical_mixture([])
