import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.continuous import (
    discrete_objective,
    information,
    level_masses,
    objective_in_snr,
    unweighted,
)
from ddpm.reference.mixture import Mixture


def test_one_mass_for_each_level_but_the_first() -> None:
    assert level_masses(Chain([0.1, 0.2, 0.3]), unweighted).shape == (2,)
    np.testing.assert_allclose(
        discrete_objective(Chain([0.1, 0.2]), unweighted), -(9 - 18 / 7) / 2, rtol=1e-14
    )


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match="chain must have at least 2 steps, got 1"):
        level_masses(Chain([0.1]), unweighted)
    for ends in ((-0.1, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match="must fulfil 0 <= lowest < highest"):
            objective_in_snr(*ends, unweighted)
    with pytest.raises(ValueError, match=r"snr must be at least 0, got -0\.1"):
        information(Mixture(np.ones(1), np.zeros(1), np.ones(1)), -0.1)
