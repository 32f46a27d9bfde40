import numpy as np
import pytest

from ddpm.reference.arrays import Array
from ddpm.reference.chain import Chain
from ddpm.reference.schedule_learning import (
    equal_mass_levels,
    estimator_deviation,
    learn_schedule,
)

LEVELS = np.array([2.0, 0.5, -1.0])


def even(chain: Chain) -> Array:
    return np.ones(chain.steps - 1)


def test_even_masses_move_nothing() -> None:
    assert equal_mass_levels(LEVELS, [1.0, 1.0], 3).tolist() == LEVELS.tolist()
    assert estimator_deviation([0.5, 0.5]) == 0


def test_a_round_goes_the_whole_way_unless_told_otherwise() -> None:
    def masses(_: Chain) -> Array:
        return np.array([3.0, 1.0])

    whole = learn_schedule(LEVELS, masses, 1).log_snr[1:]
    np.testing.assert_allclose(whole, [2.0, 1.0, -1.0], rtol=1e-12)
    half = learn_schedule(LEVELS, masses, 1, 0.5).log_snr[1:]
    np.testing.assert_allclose(half, [2.0, 0.75, -1.0], rtol=1e-12)


def test_refused_levels_and_masses() -> None:
    for levels in ([1.0], [1.0, 1.0], [0.0, 1.0], [[1.0, 0.0]]):
        with pytest.raises(ValueError, match="log_snrs must be at least two decreasing numbers"):
            equal_mass_levels(levels, [1.0], 3)
    for masses in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="masses must be 2 positive numbers"):
            equal_mass_levels(LEVELS, masses, 3)
    for steps in (1, 0):
        with pytest.raises(ValueError, match=f"steps must be at least 2, got {steps}"):
            equal_mass_levels(LEVELS, [1.0, 1.0], steps)
    assert equal_mass_levels(LEVELS, [1.0, 1.0], 2).tolist() == [2.0, -1.0]


def test_refused_rounds_and_moves() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        learn_schedule(LEVELS, even, 0)
    for move in (0.0, -0.5, 1.1):
        with pytest.raises(ValueError, match=rf"move must lie in \(0, 1\], got {move}"):
            learn_schedule(LEVELS, even, 1, move)
