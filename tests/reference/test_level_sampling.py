import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.level_sampling import (
    LossHistory,
    adjacent_pair,
    importance_weight,
    level_probabilities,
    stratified_level,
    uniform_level,
    weighted_level,
)

CHAIN = Chain([0.1, 0.2, 0.3])
EQUAL = np.full(3, 1 / 3)


@pytest.mark.parametrize("uniform", [-1e-300, 1.0, np.nan, np.inf])
def test_refused_uniform_numbers(uniform: float) -> None:
    with pytest.raises(ValueError, match=r"^uniform must (lie in \[0, 1\)|be finite)"):
        uniform_level([0.5, uniform], 3)
    with pytest.raises(ValueError, match=r"^uniform must (lie in \[0, 1\)|be finite)"):
        weighted_level([0.5, uniform], [1, 2])
    with pytest.raises(ValueError, match=r"^offset must (lie in \[0, 1\)|be finite)"):
        stratified_level(uniform, 2, 3)


@pytest.mark.parametrize("count", [0, -1])
def test_refused_numbers_of_levels(count: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {count}"):
        uniform_level(0.5, count)
    with pytest.raises(ValueError, match=f"batch must be at least 1, got {count}"):
        stratified_level(0.5, count, 3)


def test_levels_are_integers_of_the_shape_asked_for() -> None:
    for levels in (uniform_level(np.zeros((2, 3)), 5), weighted_level(np.zeros((2, 3)), [1, 1])):
        assert levels.dtype == np.int64
        assert levels.shape == (2, 3)
    assert stratified_level(0.3, 4, 5).shape == (4,)
    assert stratified_level(np.zeros((2, 3)), 4, 5).shape == (2, 3, 4)
    # This offset and one half are the float64 number 1 after rounding, which is level 1 again.
    np.testing.assert_array_equal(stratified_level(0.5 - 2.0**-54, 2, 7), [4, 1])
    assert uniform_level(0.999, 1) == 1


@pytest.mark.parametrize(
    "weights", [[], [0.0, 0.0], [1.0, -1e-300], [[1.0, 2.0]], [np.nan, 1.0], 1.0]
)
def test_refused_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^weights must be"):
        level_probabilities(weights)
    with pytest.raises(ValueError, match=r"^weights must be"):
        weighted_level(0.5, weights)


@pytest.mark.parametrize("level", [0, 4, -1])
def test_refused_levels(level: int) -> None:
    x = np.zeros((1, 2))
    with pytest.raises(ValueError, match=r"^t must lie in"):
        adjacent_pair(CHAIN, level, x, x, x)
    with pytest.raises(ValueError, match=r"^t must lie in"):
        importance_weight(EQUAL, np.array([1, level]))
    with pytest.raises(ValueError, match=r"^t must lie in"):
        LossHistory(3).record(np.array([level]), [1.0])


def test_refused_probabilities() -> None:
    for wrong in ([0.5, 0.5 + 2e-9], [0.5, 0.4], [[1.0]], 1.0, [np.nan, 1.0]):
        with pytest.raises(ValueError, match=r"^probabilities must"):
            importance_weight(wrong, 1)
    with pytest.raises(ValueError, match="positive probability, got 2"):
        importance_weight([1.0, 0.0], 2)
    with pytest.raises(ValueError, match="positive probability, got 2"):
        importance_weight([1.5, -0.5], 2)
    assert importance_weight([0.8, 0.2], 2) == 2.5
    assert importance_weight([0.5, 0.5 + 1e-10], 1) == 1.0
    assert importance_weight([1.0, 0.0], 1) == 0.5


def test_one_level_for_each_pair() -> None:
    rng, t = np.random.default_rng(0), np.array([1, 2, 3])
    arrays = rng.normal(size=(3, 3, 2))
    x0, noise, step_noise = arrays
    before, after = adjacent_pair(CHAIN, t, x0, noise, step_noise)
    np.testing.assert_array_equal(before[0], x0[0])
    np.testing.assert_allclose(after[0], np.sqrt([0.9, 0.1]) @ [x0[0], step_noise[0]], rtol=1e-15)
    for i in range(3):
        one = slice(i, i + 1)
        lone = adjacent_pair(CHAIN, i + 1, x0[one], noise[one], step_noise[one])
        np.testing.assert_array_equal(before[i], lone[0][0])
        np.testing.assert_array_equal(after[i], lone[1][0])
    with pytest.raises(ValueError, match=r"^step_noise must have shape"):
        adjacent_pair(CHAIN, 1, x0, noise, step_noise[:1])
    with pytest.raises(ValueError, match=r"^noise must have shape"):
        adjacent_pair(CHAIN, 1, x0, noise[:1], step_noise)


@pytest.mark.parametrize(
    ("steps", "size", "floor"), [(0, 1, 0.1), (1, 0, 0.1), (1, 1, 0.0), (1, 1, 1.1), (1, 1, np.nan)]
)
def test_refused_histories(steps: int, size: int, floor: float) -> None:
    with pytest.raises(ValueError, match="steps and size must be at least 1 and floor in"):
        LossHistory(steps, size, floor)


def test_refused_losses() -> None:
    history = LossHistory(3, 1, 1.0)
    for levels, losses in ((np.array([1, 2]), [1.0]), (np.array(1), 1.0), (np.array([1]), [[1.0]])):
        with pytest.raises(ValueError, match=r"^losses must have the shape \(batch,\) of t, got"):
            history.record(levels, losses)
    with pytest.raises(ValueError, match=r"^losses must be finite"):
        history.record(np.array([1, 2, 3]), [1.0, 2.0, np.nan])
    assert not history.filled
    history.record(np.array([1, 2, 3]), [1.0, 2.0, 3.0])
    assert history.filled
    np.testing.assert_allclose(history.probabilities, EQUAL, rtol=1e-15)


@pytest.mark.parametrize("wrong", [-0.5, 1.0, 1.5])
def test_the_message_shows_the_first_wrong_number(wrong: float) -> None:
    with pytest.raises(
        ValueError, match=rf"^uniform must lie in \[0, 1\), got \[ ?{wrong:g}\.?\]$"
    ):
        uniform_level([0.0, wrong, 0.25, 2.0], 4)
