import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.reverse import (
    exact_reverse_kurtosis,
    exact_reverse_log_density,
    exact_reverse_moments,
)

CHAIN = Chain([0.1, 0.2, 0.3])
WIDE = Mixture(np.array([0.25, 0.75]), np.array([-1.0, 1.0]), np.array([0.5, 0.25]))
POINTS = Mixture(np.array([0.25, 0.75]), np.array([-1.0, 1.0]), np.zeros(2))


def test_shapes() -> None:
    x = np.zeros((2, 3))
    mean, variance = exact_reverse_moments(WIDE, CHAIN, 1, 2, x)
    assert mean.shape == variance.shape == (2, 3)
    assert exact_reverse_kurtosis(WIDE, CHAIN, 1, 2, x).shape == (2, 3)
    assert exact_reverse_log_density(WIDE, CHAIN, 1, 2, x[..., None], np.zeros(4)).shape == (
        2,
        3,
        4,
    )


def test_the_last_step() -> None:
    density = exact_reverse_log_density(WIDE, CHAIN, 0, 1, 0.5, [0.0, 1.0])
    assert np.all(np.isfinite(density))
    # Two points are a coin between them, whose law has variance p (1 - p) (1 - (-1))^2.
    mean, variance = exact_reverse_moments(POINTS, CHAIN, 0, 1, 0.1)
    assert np.isclose(variance, (1 + mean) * (1 - mean), rtol=1e-12)


def test_refused_laws_without_width() -> None:
    with pytest.raises(ValueError, match="positive for a component without width"):
        exact_reverse_log_density(POINTS, CHAIN, 0, 1, 0.5, 0.0)
    with pytest.raises(ValueError, match=r"^s must be at least 1, got 0: data may have no width$"):
        exact_reverse_kurtosis(WIDE, CHAIN, 0, 1, 0.5)


@pytest.mark.parametrize(("s", "t"), [(2, 2), (3, 1)])
def test_refused_order_of_levels(s: int, t: int) -> None:
    message = f"s must be less than t, got s = {s}, t = {t}"
    with pytest.raises(ValueError, match=message):
        exact_reverse_moments(WIDE, CHAIN, s, t, 0.5)
    with pytest.raises(ValueError, match=message):
        exact_reverse_kurtosis(WIDE, CHAIN, s, t, 0.5)
    with pytest.raises(ValueError, match=message):
        exact_reverse_log_density(WIDE, CHAIN, s, t, 0.5, 0.5)


def test_refused_points() -> None:
    with pytest.raises(ValueError, match="x_t must be finite"):
        exact_reverse_kurtosis(WIDE, CHAIN, 1, 2, np.nan)
    with pytest.raises(ValueError, match="x_t must be finite"):
        exact_reverse_log_density(WIDE, CHAIN, 1, 2, np.nan, 0.0)
    with pytest.raises(ValueError, match="x_s must be finite"):
        exact_reverse_log_density(WIDE, CHAIN, 1, 2, 0.0, np.nan)
