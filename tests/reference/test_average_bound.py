from collections.abc import Callable

import numpy as np
import pytest

from ddpm.reference.average_bound import (
    MatchedGap,
    average_bound,
    average_gap,
    check_steps,
    expected_log_step,
    expected_log_terminal,
    moment_matched_gap,
    step_log_ratio,
)
from ddpm.reference.chain import Chain
from ddpm.reference.linear_reverse import LinearReverse
from ddpm.reference.mixture import Mixture

CHAIN = Chain([0.1, 0.3])
MODEL = LinearReverse(np.array([1.0, 0.5]), np.array([0.0, 0.1]), np.array([0.2, 0.3]))
MEAN = np.zeros((2, 3))


def test_one_value_for_each_coordinate() -> None:
    assert expected_log_step(CHAIN, MODEL, 1, MEAN).shape == (2, 3)
    assert expected_log_terminal(CHAIN, MODEL, MEAN, 1.0).shape == (2, 3)
    assert step_log_ratio(CHAIN, MODEL, 2, MEAN).shape == (2, 3)
    assert average_bound(CHAIN, MODEL, MEAN, 1.0).shape == (2, 3)
    assert average_bound(CHAIN, MODEL, 0.0, np.ones(3)).shape == (3,)
    assert average_gap(CHAIN, MODEL, MEAN).shape == (2, 3)


@pytest.mark.parametrize("t", [-1, 0, 3])
@pytest.mark.parametrize("function", [expected_log_step, step_log_ratio])
def test_refused_levels(function: Callable[..., object], t: int) -> None:
    with pytest.raises(ValueError, match=rf"t must lie in 1\.\.2, got {t}"):
        function(CHAIN, MODEL, t, 0.0)


@pytest.mark.parametrize("function", [expected_log_step, step_log_ratio])
def test_refused_variances_of_a_step(function: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="variance must be at least 0"):
        function(CHAIN, MODEL, 1, 0.0, -1.0)


@pytest.mark.parametrize("function", [average_bound, average_gap, expected_log_terminal])
def test_refused_variances(function: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="variance must be at least 0"):
        function(CHAIN, MODEL, 0.0, -1.0)


def test_refused_lengths() -> None:
    longer = Chain([0.1, 0.2, 0.3])
    for call in (
        lambda: check_steps(longer, MODEL),
        lambda: average_bound(longer, MODEL, 0.0),
        lambda: average_gap(longer, MODEL, 0.0),
        lambda: expected_log_step(longer, MODEL, 1, 0.0),
        lambda: step_log_ratio(longer, MODEL, 1, 0.0),
    ):
        with pytest.raises(ValueError, match="model must have 3 steps like the chain, got 2"):
            call()


def test_refused_grids() -> None:
    data = Mixture(np.ones(1), np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="reach and nodes must hold the data"):
        moment_matched_gap(CHAIN, data, 1.0, 100)
    with pytest.raises(ValueError, match="reach and nodes must hold the data"):
        moment_matched_gap(CHAIN, data, 8.0, 4)
    point = Mixture(np.ones(1), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="width"):
        moment_matched_gap(CHAIN, point, 8.0, 200)


def test_a_gap_has_two_numbers() -> None:
    data = Mixture(np.ones(1), np.zeros(1), np.full(1, 0.5))
    got = moment_matched_gap(CHAIN, data, 8.0, 200)
    assert isinstance(got, MatchedGap)
    assert isinstance(got.gap, float)
    assert isinstance(got.divergence, float)


def test_a_wide_grid_does_no_harm() -> None:
    data = Mixture(np.full(2, 0.5), np.array([-0.9, 0.9]), np.full(2, 0.19))
    want = moment_matched_gap(CHAIN, data, 7.0, 141)
    np.testing.assert_allclose(moment_matched_gap(CHAIN, data, 42.0, 841), want, rtol=1e-9)


def test_samples_of_a_batch_keep_their_own_bounds() -> None:
    means = np.array([-1.0, 0.3, 2.0])
    alone = [float(average_bound(CHAIN, MODEL, mean, 0.5)) for mean in means]
    np.testing.assert_allclose(average_bound(CHAIN, MODEL, means, 0.5), alone, rtol=1e-14)
