"""Ancestral sampling beside DDPMScheduler, every state of every path."""

from typing import Any

import pytest
import torch

from ddpm.predictions import Prediction
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.variances import FixedVariance
from tests.peers.paths import (
    FLOAT32,
    FLOAT32_TO_THE_END,
    FLOAT64,
    KINDS,
    MARKS,
    PREDICTIONS,
    STEPS,
    Problem,
    by_rows,
    gap,
    levels_of,
    noise_of,
    ours,
    problem,
    start,
    theirs,
)

pytestmark = MARKS

VARIANCES: dict[FixedVariance, str] = {"posterior": "fixed_small", "beta": "fixed_large"}


def scheduler(
    given: Problem, variance: str, clip: bool, spacing: str = "leading", steps: int = STEPS,
    **more: Any,
) -> Any:  # fmt: skip
    made = given.scheduler(
        "DDPMScheduler", variance_type=variance, clip_sample=clip, timestep_spacing=spacing, **more
    )
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("kind", "variance", "clip"),
    [("linear", "posterior", True), ("cosine", "beta", False), ("scaled_linear", "beta", True)],
)
def test_all_levels(kind: str, variance: FixedVariance, clip: bool, prediction: Prediction) -> None:
    given = problem(kind, prediction)
    peer = scheduler(given, VARIANCES[variance], clip)
    table = ancestral_table(given.schedule, prediction, levels_of(peer), variance)
    path, exact = ours(given, table, clip, variance), by_rows(given, table, clip)
    other = theirs(given, peer, start())
    # What lies between the two is what their tables lost.
    assert gap(path, exact) < min(FLOAT32, gap(other, exact))
    assert gap(path, other) < FLOAT32_TO_THE_END
    assert gap(theirs(given, given.in_float64(peer), start().double()), exact) < FLOAT64


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize(
    ("kind", "spacing", "steps"),
    [
        ("linear", "trailing", 13), ("linear", "leading", 30), ("cosine", "linspace", 10),
        ("scaled_linear", "trailing", 50), ("scaled_linear", "linspace", 17),
    ],
)  # fmt: skip
def test_some_levels(
    kind: str, spacing: str, steps: int, variance: FixedVariance, clip: bool, prediction: Prediction
) -> None:
    given = problem(kind, prediction)
    peer = scheduler(given, VARIANCES[variance], clip, spacing, steps)
    levels = levels_of(peer)
    table = ancestral_table(given.schedule, prediction, levels, variance)
    path, exact = ours(given, table, clip, variance), by_rows(given, table, clip)
    bound = FLOAT32 if levels[-2] >= 20 and kind != "cosine" else FLOAT32_TO_THE_END
    assert gap(path, theirs(given, peer, start())) < bound
    assert gap(theirs(given, given.in_float64(peer), start().double()), exact) < FLOAT64


@pytest.mark.parametrize("kind", KINDS)
def test_a_learned_variance(kind: str) -> None:
    given = problem(kind, "eps", channels=4)
    peer = scheduler(given, "learned_range", True, "linspace", 25)
    table = ancestral_table(given.schedule, "eps", levels_of(peer), "learned_range")
    path = ours(given, table, True, "learned_range")
    assert gap(path, theirs(given, peer, start())) < FLOAT32_TO_THE_END


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_dynamic_thresholding(prediction: Prediction) -> None:
    given = problem("linear", prediction)
    peer = scheduler(
        given, "fixed_small", False, "trailing", 20,
        thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=100.0,
    )  # fmt: skip
    table = ancestral_table(given.schedule, prediction, levels_of(peer), "posterior")
    path = ours(given, table, False, threshold_ratio=0.9)
    assert gap(path, theirs(given, peer, start())) < FLOAT32
    assert gap(path, ours(given, table, True)) > 0.01


@pytest.mark.parametrize("variance", VARIANCES)
def test_what_their_last_step_adds(variance: FixedVariance) -> None:
    """Their last step draws noise unless it starts at index 0, which only two spacings reach.

    With the trained levels in strides, "fixed_large" therefore puts the whole noise of the last
    visited level back on clean images, and returns those; ours returns the mean.
    """
    given, last = problem("linear", "x0"), 77
    peer = scheduler(given, VARIANCES[variance], True, "trailing", 13)
    assert levels_of(peer)[-2:] == [last, 0]
    table = ancestral_table(given.schedule, "x0", levels_of(peer), variance)
    mean, drawn = ours(given, table, True, variance), theirs(given, peer, start(), quiet=False)
    left = float(given.schedule.one_minus_alpha_bar[last]) ** 0.5 if variance == "beta" else 0.0
    assert gap(mean[:-1], drawn[:-1]) < FLOAT32
    torch.testing.assert_close(drawn[-1] - mean[-1], left * noise_of(last), rtol=0, atol=1e-4)
    assert left == 0.0 or left > 0.25
