import numpy as np
import pytest

from ddpm.reference.arrays import Array
from ddpm.reference.sde_solvers import euler_maruyama, heun, solve, stochastic_heun

X = np.ones((2, 3))


def still(x: Array, _: float) -> Array:
    return 0 * x


def one(_: float) -> float:
    return 1.0


def take(x: Array, t: float, h: float, noise: Array) -> Array:
    return euler_maruyama(still, one, x, t, h, noise)


def test_shapes() -> None:
    assert euler_maruyama(still, one, X, 0.0, 0.1, X).shape == X.shape
    assert stochastic_heun(still, one, X, 0.0, 0.1, X).shape == X.shape
    assert heun(still, X, 0.0, 0.1).shape == X.shape
    assert solve(take, X, [0.0, 0.1, 0.3], np.zeros((2, 2, 3))).shape == X.shape


def test_refused_noise() -> None:
    for solver in (euler_maruyama, stochastic_heun):
        with pytest.raises(ValueError, match="noise must have shape"):
            solver(still, one, X, 0.0, 0.1, X[:1])
    for shape in ((1, 2, 3), (3, 2, 3), (2, 1, 3)):
        with pytest.raises(ValueError, match=r"noises must have shape \(2, 2, 3\), got"):
            solve(take, X, [0.0, 0.1, 0.3], np.zeros(shape))


def test_refused_times() -> None:
    for times in ([0.0], [0.0, 0.0], [0.0, 0.1, 0.1], [0.0, 0.2, 0.1], [0.2, 0.1, 0.1]):
        with pytest.raises(ValueError, match="times must be at least two and strictly monotone"):
            solve(take, X, times, np.zeros((len(times) - 1, 2, 3)))
