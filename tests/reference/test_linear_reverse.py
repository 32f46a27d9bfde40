from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.linear_reverse import (
    LinearReverse,
    data_moments,
    exact_reverse,
    expected_log_density,
    rows,
)

MODEL = LinearReverse(np.array([1.0, 0.5]), np.array([0.0, 0.1]), np.array([0.2, 0.3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slopes": np.zeros((1, 2))}, r"slopes must have shape \(T,\)"),
        ({"slopes": np.zeros(0)}, r"slopes must have shape \(T,\)"),
        ({"slopes": np.array([np.nan, 0.0])}, "slopes must be finite"),
        ({"shifts": np.zeros(3)}, r"shifts must have shape \(2,\)"),
        ({"variances": np.ones(1)}, r"variances must have shape \(2,\)"),
        ({"variances": np.array([0.0, 1.0])}, "variances must be positive"),
        ({"variances": np.array([1.0, -1.0])}, "variances must be positive"),
        ({"terminal_variance": 0.0}, "terminal_variance must be positive"),
        ({"terminal_variance": np.nan}, "terminal_variance must be positive"),
    ],
)
def test_refused_models(change: dict[str, Any], message: str) -> None:
    good = {"slopes": MODEL.slopes, "shifts": MODEL.shifts, "variances": MODEL.variances}
    with pytest.raises(ValueError, match=message):
        LinearReverse(**{**good, **change})


def test_it_starts_from_pure_noise() -> None:
    assert (MODEL.terminal_mean, MODEL.terminal_variance) == (0.0, 1.0)
    assert MODEL.steps == 2


@pytest.mark.parametrize("t", [0, 3, -1])
def test_refused_levels(t: int) -> None:
    for call in (
        lambda: MODEL.step(t),
        lambda: MODEL.mean(t, 0.0),
        lambda: MODEL.log_step(t, np.zeros((1, 1)), np.zeros((1, 1))),
    ):
        with pytest.raises(ValueError, match=rf"t must lie in 1\.\.2, got {t}"):
            call()


def test_entries_belong_to_their_steps() -> None:
    assert MODEL.step(1) == (1.0, 0.0, 0.2)
    assert MODEL.step(2) == (0.5, 0.1, 0.3)
    np.testing.assert_allclose(MODEL.mean(2, [[2.0, 4.0]]), [[1.1, 2.1]])


def test_values_sum_over_a_sample() -> None:
    batch = np.random.default_rng(0).normal(size=(3, 4, 2, 2))
    flat = batch.reshape(3, 4, 4)
    for big, small in (
        (MODEL.log_density(batch), MODEL.log_density(flat)),
        (MODEL.log_step(1, *batch[:2]), MODEL.log_step(1, *flat[:2])),
        (MODEL.log_terminal(batch[2]), MODEL.log_terminal(flat[2])),
        (MODEL.log_evidence(batch[0]), MODEL.log_evidence(flat[0])),
    ):
        assert big.shape == (4,)
        np.testing.assert_allclose(big, small, rtol=1e-14)
    alone = sum(MODEL.log_evidence(flat[0][:, i : i + 1]) for i in range(4))
    np.testing.assert_allclose(MODEL.log_evidence(flat[0]), alone, rtol=1e-13)


def test_refused_samples() -> None:
    with pytest.raises(ValueError, match="path must have 3 levels"):
        MODEL.log_density(np.zeros((2, 1, 1)))
    with pytest.raises(ValueError, match="path must have 3 levels"):
        MODEL.log_density(0.0)
    with pytest.raises(ValueError, match="noisier must have shape"):
        MODEL.log_step(1, np.zeros((2, 1)), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="samples must have shape"):
        rows(1.0)


def test_samples_without_elements_cost_nothing() -> None:
    assert rows(np.zeros((3, 0))).shape == (3, 0)
    np.testing.assert_array_equal(MODEL.log_terminal(np.zeros((2, 0))), np.zeros(2))


def test_moments_of_any_shape() -> None:
    mean, variance = data_moments([0.0, 1.0], 2.0)
    assert mean.shape == (2,)
    assert MODEL.average_log_evidence(mean, variance).shape == (2,)
    assert MODEL.average_log_evidence(0.0, 0.0).shape == ()
    assert expected_log_density(np.zeros((2, 3)), 1.0, 0.0, 2.0).shape == (2, 3)
    assert expected_log_density(0.0, 1.0, np.zeros((2, 3)), 2.0).shape == (2, 3)


def test_refused_moments() -> None:
    with pytest.raises(ValueError, match="variance must be at least 0"):
        MODEL.average_log_evidence(0.0, -0.1)
    with pytest.raises(ValueError, match="mean must be finite"):
        data_moments(np.nan, 1.0)
    with pytest.raises(ValueError, match="variance must be finite"):
        data_moments(1.0, np.inf)


@pytest.mark.parametrize("variance", [0.0, -1.0])
def test_refused_reversals(variance: float) -> None:
    with pytest.raises(ValueError, match="variance"):
        exact_reverse(Chain([0.1]), 0.0, variance)


def test_reversal_from_the_noised_data() -> None:
    model = exact_reverse(Chain([0.5, 1.0]), 2.0, 3.0)
    assert (model.terminal_mean, model.terminal_variance) == (0.0, 1.0)
    np.testing.assert_allclose(model.evidence(), (2.0, 3.0), rtol=1e-15)


def test_a_model_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        MODEL.slopes = np.zeros(2)  # type: ignore[misc]
