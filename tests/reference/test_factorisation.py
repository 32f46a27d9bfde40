import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.factorisation import (
    forward_log_density,
    level_precision,
    reverse_log_density,
)

CHAIN = Chain([0.1, 0.2])
PATH = np.zeros((3, 4, 5))


def test_one_value_for_each_sample() -> None:
    assert forward_log_density(CHAIN, PATH).shape == (4,)
    assert forward_log_density(CHAIN, PATH[:, :, 0]).shape == (4,)
    each = reverse_log_density(PATH, PATH[1:], [0.1, 0.1])
    assert each.shape == (4,)
    np.testing.assert_array_equal(reverse_log_density(PATH, PATH[1:], 0.1), each)


def test_one_step_suffices() -> None:
    got = forward_log_density(Chain([0.5]), np.zeros((2, 1)))
    np.testing.assert_allclose(got, [-np.log(np.pi) / 2], rtol=1e-15)


def test_precision_where_the_signal_ends() -> None:
    want = [[1.5, -np.sqrt(2), 0], [-np.sqrt(2), 2, 0], [0, 0, 1]]
    np.testing.assert_allclose(level_precision(Chain([0.5, 1.0]), 2.0), want, rtol=1e-15)


def test_refused_paths() -> None:
    for path in (np.zeros(3), np.zeros((1, 4))):
        with pytest.raises(ValueError, match=r"path must have shape \(T \+ 1, batch, \.\.\.\)"):
            forward_log_density(CHAIN, path)
        with pytest.raises(ValueError, match=r"path must have shape \(T \+ 1, batch, \.\.\.\)"):
            reverse_log_density(path, path, [0.1])
    with pytest.raises(ValueError, match="path must have 3 levels, got 2"):
        forward_log_density(CHAIN, PATH[:2])
    with pytest.raises(ValueError, match="path must be finite"):
        forward_log_density(CHAIN, np.full((3, 1), np.nan))


@pytest.mark.parametrize("variance", [0.0, -0.1, np.inf, np.nan])
def test_refused_data_variance(variance: float) -> None:
    with pytest.raises(ValueError, match="data_variance must be positive and finite, got"):
        level_precision(CHAIN, variance)


def test_refused_steps() -> None:
    with pytest.raises(ValueError, match=r"means must have shape \(2, 4, 5\)"):
        reverse_log_density(PATH, PATH, [0.1, 0.2])
    for shape in [(3,), (2, 5), (2, 4, 1)]:
        with pytest.raises(ValueError, match="variances must"):
            reverse_log_density(PATH, PATH[1:], np.ones(shape))
    for wrong in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"variances must be positive, got {wrong}"):
            reverse_log_density(PATH, PATH[1:], [0.1, wrong])
        with pytest.raises(ValueError, match=f"terminal_variance must be positive, got {wrong}"):
            reverse_log_density(PATH, PATH[1:], [0.1, 0.2], terminal_variance=wrong)
    with pytest.raises(ValueError, match="terminal_variance must be positive, got inf"):
        reverse_log_density(PATH, PATH[1:], [0.1, 0.2], terminal_variance=np.inf)
    with pytest.raises(ValueError, match="terminal_mean must be finite"):
        reverse_log_density(PATH, PATH[1:], [0.1, 0.2], np.nan)
