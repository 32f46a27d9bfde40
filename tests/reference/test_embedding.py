import numpy as np
import pytest

from ddpm.reference.embedding import frequencies, shift_matrix, sinusoidal_embedding


def test_shapes() -> None:
    assert frequencies(2).tolist() == [1]
    np.testing.assert_allclose(frequencies(4), [1, 0.01], rtol=1e-15)
    assert sinusoidal_embedding(3, 8).shape == (8,)
    assert sinusoidal_embedding(np.zeros((2, 3)), 4).shape == (2, 3, 4)
    assert sinusoidal_embedding([], 4).shape == (0, 4)
    assert shift_matrix(1.0, 6).shape == (6, 6)


def test_level_zero_is_all_cosines() -> None:
    assert sinusoidal_embedding(0, 4).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("dim", [-2, 0, 1, 3])
def test_refused_length(dim: int) -> None:
    with pytest.raises(ValueError, match=f"dim must be even and positive, got {dim}"):
        frequencies(dim)
    with pytest.raises(ValueError, match=f"dim must be even and positive, got {dim}"):
        sinusoidal_embedding(1, dim)


@pytest.mark.parametrize("period", [1.0, 0.5, np.inf, np.nan])
def test_refused_period(period: float) -> None:
    with pytest.raises(ValueError, match="max_period must be finite and greater than 1, got"):
        frequencies(4, period)


def test_refused_levels() -> None:
    with pytest.raises(ValueError, match="t must be finite"):
        sinusoidal_embedding(np.nan, 4)
    with pytest.raises(ValueError, match="offset must be finite"):
        shift_matrix(np.inf, 4)
