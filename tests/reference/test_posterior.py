import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.forward import forward_step
from ddpm.reference.posterior import (
    Coefficients,
    gaussian_product,
    posterior_coefficients,
    posterior_log_density,
    posterior_mean_variance,
)

GOLDEN = Chain([0.1, 0.2, 0.3])
X = np.zeros((2, 3))


def test_the_coefficients_have_names() -> None:
    assert Coefficients._fields == ("a", "b", "s2")


def test_levels_broadcast() -> None:
    got = posterior_coefficients(GOLDEN, np.array([[0], [1]]), np.array([2, 3]))
    assert {part.shape for part in got} == {(2, 2)}
    assert got.b[1, 1] == posterior_coefficients(GOLDEN, 1, 3).b


def test_shapes_of_a_batch() -> None:
    levels = np.array([0, 1]), np.array([2, 3])
    mean, variance = posterior_mean_variance(GOLDEN, *levels, X, X)
    assert (mean.shape, variance.shape) == ((2, 3), (2,))
    mean, variance = posterior_mean_variance(GOLDEN, 1, 2, X, X)
    assert (mean.shape, variance.shape) == ((2, 3), ())


def test_a_log_density_for_each_element() -> None:
    levels = np.array([1, 2]), np.array([2, 3])
    assert posterior_log_density(GOLDEN, *levels, X, X, X).shape == (2, 3)


@pytest.mark.parametrize("beta", [0.0, -0.1, 1.1, float("nan")])
def test_refused_betas(beta: float) -> None:
    for build in (lambda: Chain([0.1, beta]), lambda: forward_step(X, beta)):
        with pytest.raises(ValueError, match=r"beta(s)? must lie in \(0, 1\], got"):
            build()


@pytest.mark.parametrize(("s", "t"), [(2, 2), (3, 1), (1, 1)])
def test_refused_order_of_levels(s: int, t: int) -> None:
    message = f"s must be less than t, got s = {s}, t = {t}"
    with pytest.raises(ValueError, match=message):
        posterior_coefficients(GOLDEN, s, t)
    with pytest.raises(ValueError, match=message):
        posterior_mean_variance(GOLDEN, s, t, X, X)
    with pytest.raises(ValueError, match=message):
        posterior_log_density(GOLDEN, s, t, X, X, X)


def test_refused_levels() -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.3, got 4"):
        posterior_coefficients(GOLDEN, 1, 4)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.3, got -1"):
        posterior_coefficients(GOLDEN, -1, 2)


def test_refused_samples() -> None:
    with pytest.raises(ValueError, match=r"x_t must have shape \(2, 3\), got \(2,\)"):
        posterior_mean_variance(GOLDEN, 1, 2, X, np.zeros(2))
    with pytest.raises(ValueError, match=r"x_s must have shape \(2, 3\), got \(3,\)"):
        posterior_log_density(GOLDEN, 1, 2, X, X, np.zeros(3))
    with pytest.raises(ValueError, match="x0 must be finite, got"):
        posterior_mean_variance(GOLDEN, 1, 2, X + np.nan, X)


def test_refused_density_of_a_point_mass() -> None:
    with pytest.raises(ValueError, match="s must be at least 1, got 0: x_0 given itself is a"):
        posterior_log_density(GOLDEN, 0, 2, X, X, X)
    with pytest.raises(ValueError, match="s must be at least 1"):
        posterior_log_density(GOLDEN, np.array([1, 0]), np.array([2, 2]), X, X, X)


def test_refused_factors() -> None:
    for noise in (0.0, -0.1):
        with pytest.raises(ValueError, match="noise must be positive and variance at least 0, got"):
            gaussian_product(0, 1, 1, 0, noise)
    with pytest.raises(ValueError, match="variance at least 0"):
        gaussian_product(0, -0.1, 1, 0, 1)
    for i, name in enumerate(("mean", "variance", "slope", "target", "noise")):
        factors = [1.0] * 5
        factors[i] = np.inf
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            gaussian_product(*factors)
