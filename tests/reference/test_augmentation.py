import numpy as np
import pytest

from ddpm.reference.augmentation import at_level, reverse_step_kl, terminal_kl
from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture

DATA = Mixture(np.array([0.5, 0.5]), np.array([-1.0, 1.0]), np.array([0.1, 0.2]))
CHAIN = Chain([0.1, 1.0])


def test_plain_numbers() -> None:
    assert isinstance(terminal_kl(DATA, CHAIN), float)
    assert isinstance(reverse_step_kl(DATA, CHAIN, 0, 1), float)


def test_ends_of_the_chain() -> None:
    clean, noise = at_level(DATA, CHAIN, 0), at_level(DATA, CHAIN, 2)
    np.testing.assert_allclose(clean.means, DATA.means, rtol=1e-15)
    np.testing.assert_allclose(clean.variances, DATA.variances, rtol=1e-15)
    assert noise.means.tolist() == [0, 0]
    assert noise.variances.tolist() == [1, 1]
    assert abs(terminal_kl(DATA, CHAIN)) < 1e-14


def test_standard_normal_data_have_normal_steps() -> None:
    data = Mixture(np.array([1.0]), np.array([0.0]), np.array([1.0]))
    assert abs(terminal_kl(data, Chain([0.3]))) < 1e-14
    assert abs(reverse_step_kl(data, Chain([0.3, 0.2]), 0, 2)) < 1e-13


def test_refused_levels() -> None:
    with pytest.raises(ValueError, match="s must be less than t"):
        reverse_step_kl(DATA, CHAIN, 1, 1)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.2"):
        at_level(DATA, CHAIN, 3)
