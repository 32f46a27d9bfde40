from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.schedules import (
    alpha_bar_schedule,
    cosine_schedule,
    lambda_schedule,
    linear_log_snr_schedule,
    linear_schedule,
    log_snr_schedule,
)

NAMED: list[Callable[[Any], Chain]] = [linear_schedule, cosine_schedule, linear_log_snr_schedule]


@pytest.mark.parametrize("make", NAMED)
def test_number_of_steps(make: Callable[[Any], Chain]) -> None:
    assert make(1).steps == 1
    assert make(np.int64(7)).steps == 7
    for steps in (0, -1):
        with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
            make(steps)
    for wrong in (2.0, "2"):
        with pytest.raises(TypeError, match="steps must be an integer, got"):
            make(wrong)


@pytest.mark.parametrize(
    ("first", "last"),
    [(0.0, 0.1), (1.0, 0.1), (-0.1, 0.1), (0.1, 0.0), (0.1, 1.1), (np.nan, 0.1), (0.1, np.nan)],
)
def test_refused_ends_of_the_linear_schedule(first: float, last: float) -> None:
    with pytest.raises(ValueError, match=r"first, last must lie in \(0, 1\), \(0, 1\], got"):
        linear_schedule(10, first, last)


def test_linear_schedule_to_zero_signal() -> None:
    assert linear_schedule(3, 0.5, 1.0).zero_terminal_snr


@pytest.mark.parametrize("offset", [-1e-9, np.inf, np.nan])
def test_refused_offset(offset: float) -> None:
    with pytest.raises(ValueError, match="offset must be finite and at least 0, got"):
        cosine_schedule(10, offset)


@pytest.mark.parametrize("clip", [0.0, -1.0, 1.1, np.nan])
def test_refused_clip(clip: float) -> None:
    with pytest.raises(ValueError, match=r"clip must lie in \(0, 1\], got"):
        cosine_schedule(10, clip=clip)


def test_clip_below_every_beta() -> None:
    assert np.all(cosine_schedule(10, clip=1e-4).betas == 1e-4)


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (0, 1), (np.inf, 0), (0, -np.inf), (0, np.nan)]
)
def test_refused_ends_of_the_log_snr(first: float, last: float) -> None:
    with pytest.raises(ValueError, match="first must be greater than last, both finite, got"):
        linear_log_snr_schedule(10, first, last)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "log_snrs must be numbers"),
        ([[1.0]], "log_snrs must be numbers"),
        (1.0, "log_snrs must be numbers"),
        ([np.nan], "log_snrs must be numbers"),
        ([np.inf, 0.0], "log_snrs must be numbers"),
        ([1.0, 1.0], "log_snrs must decrease strictly"),
        ([1.0, 2.0], "log_snrs must decrease strictly"),
        ([1.0, -np.inf, -np.inf], "log_snrs must decrease strictly"),
    ],
)
def test_refused_log_snrs(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_snr_schedule(values)


@pytest.mark.parametrize(
    "values", [[], 0.5, [[0.5]], [1.0], [0.5, 0.5], [0.5, 0.6], [0.5, -0.1], [0.5, 0.0, 0.0]]
)
def test_refused_alpha_bars(values: list[float]) -> None:
    with pytest.raises(ValueError, match="alpha_bars must"):
        alpha_bar_schedule(values)


def test_alpha_bars_to_zero_signal() -> None:
    assert alpha_bar_schedule([0.5, 0.0]).betas.tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="alpha_bars must be finite"):
        alpha_bar_schedule([np.nan])


@pytest.mark.parametrize("value", [1.0, -0.1, np.nan])
def test_refused_lambdas(value: float) -> None:
    with pytest.raises(ValueError, match=r"lambdas must lie in \[0, 1\), got"):
        lambda_schedule([0.5, value])


def test_zero_lambda_ends_the_chain() -> None:
    assert lambda_schedule([0.5, 0.0]).zero_terminal_snr
    with pytest.raises(ValueError, match="last level only"):
        lambda_schedule([0.0, 0.5])
