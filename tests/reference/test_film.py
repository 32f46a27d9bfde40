import numpy as np
import pytest

from ddpm.reference.film import FilmGradient, film, film_gradient, level_network, modulation
from ddpm.reference.mlp import initial

RNG = np.random.default_rng(0)


def test_any_shape() -> None:
    theta = np.ones((2, 3))
    np.testing.assert_array_equal(film(theta, 2 * theta, 3 * theta), 5 * theta)
    gradient = film_gradient(theta, 2 * theta, 3 * theta)
    assert {part.shape for part in gradient} == {(2, 3)}
    assert FilmGradient._fields == ("theta", "scale", "shift")
    assert [part[0, 0] for part in gradient] == [6, 3, 3]


def test_scales_come_first() -> None:
    modulator = initial((2, 6), RNG)
    modulator[0].weight[:] = 0
    modulator[0].bias[:] = range(6)
    scale, shift = modulation(modulator, 7, 2)
    np.testing.assert_array_equal(scale, [0, 1, 2])
    np.testing.assert_array_equal(shift, [3, 4, 5])


def test_other_shapes_are_refused() -> None:
    for scale, shift, name in [
        (np.ones(2), np.ones(3), "scale"),
        (np.ones(3), np.ones(2), "shift"),
    ]:
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            film(np.ones(3), scale, shift)
    with pytest.raises(ValueError, match="scale must have shape"):
        film_gradient(np.ones(3), np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="gradient must have shape"):
        film_gradient(np.ones(3), np.ones(3), np.ones(2))


def test_a_modulator_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="even number of outputs, got 5"):
        modulation(initial((2, 5), RNG), 0, 2)
    with pytest.raises(ValueError, match="x must have shape"):
        modulation(initial((2, 6), RNG), 0, 4)
    with pytest.raises(ValueError, match="scale must have shape"):
        level_network(initial((1, 1), RNG), initial((2, 6), RNG), 0, 2)
