"""DDIM beside DDIMScheduler: every state where its step lands on the next level, and where not.

Its step from index t goes to t - T // K whatever the list of levels says. "leading" is that list;
"trailing" is where K divides T. Elsewhere the joint law of the chain says who is right.
"""

from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.predictions import Prediction
from ddpm.samplers.ddim import ddim_table
from ddpm.schedule import Schedule
from ddpm.verify.oracles import condition, joint_covariance
from tests.peers.paths import (
    FLOAT32,
    FLOAT32_TO_THE_END,
    FLOAT64,
    MARKS,
    PREDICTIONS,
    STEPS,
    Problem,
    betas,
    by_rows,
    gap,
    levels_of,
    ours,
    problem,
    start,
    theirs,
)

pytestmark = MARKS

# Spacing, steps, and how many of the steps land elsewhere.
LANDING = [
    ("leading", 10, 0), ("leading", 13, 0), ("leading", 50, 0), ("trailing", 10, 0),
    ("trailing", 50, 0), ("trailing", 13, 12), ("trailing", 30, 10), ("linspace", 10, 9),
    ("linspace", 50, 19),
]  # fmt: skip


def scheduler(given: Problem, spacing: str, steps: int, **more: Any) -> Any:
    made = given.scheduler("DDIMScheduler", timestep_spacing=spacing, **more)
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("kind", "spacing", "steps"),
    [("linear", "trailing", 40), ("cosine", "leading", 13), ("scaled_linear", "trailing", 10)],
)
def test_where_the_levels_are_right(
    kind: str, spacing: str, steps: int, eta: float, clip: bool, prediction: Prediction
) -> None:
    given = problem(kind, prediction)
    corrected: dict[str, Any] = {"eta": eta, "use_clipped_model_output": clip}
    peer = scheduler(given, spacing, steps, clip_sample=clip)
    table = ddim_table(given.schedule, prediction, levels_of(peer), eta)
    path, exact = ours(given, table, clip), by_rows(given, table, clip)
    bound = FLOAT32 if spacing == "trailing" else FLOAT32_TO_THE_END
    assert gap(path, theirs(given, peer, start(), **corrected)) < bound
    wide = theirs(given, given.in_float64(peer), start().double(), **corrected)
    assert gap(wide, exact) < FLOAT64


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_all_levels(prediction: Prediction) -> None:
    given = problem("cosine", prediction)
    peer = scheduler(given, "linspace", STEPS, clip_sample=True)
    table = ddim_table(given.schedule, prediction, levels_of(peer), 1.0)
    path, exact = ours(given, table, True), by_rows(given, table, True)
    corrected: dict[str, Any] = {"eta": 1.0, "use_clipped_model_output": True}
    assert gap(path, exact) < FLOAT32
    assert gap(path, theirs(given, peer, start(), **corrected)) < FLOAT32_TO_THE_END
    wide = theirs(given, given.in_float64(peer), start().double(), **corrected)
    assert gap(wide, exact) < FLOAT64


def test_what_a_clip_leaves_of_the_noise() -> None:
    """By default they add the noise of before the clip to the image of after it.

    Their sum then is no point of any chain that ends at the clipped image; ours is.
    """
    given = problem("linear", "eps")
    peer = scheduler(given, "trailing", 10, clip_sample=True)
    path = ours(given, ddim_table(given.schedule, "eps", levels_of(peer), 0.0), True)
    assert gap(theirs(given, peer, start(), use_clipped_model_output=True), path) < FLOAT32
    assert gap(theirs(given, peer, start()), path) > 0.05


@pytest.mark.parametrize(("spacing", "steps", "wrong"), LANDING)
def test_where_their_steps_land(spacing: str, steps: int, wrong: int) -> None:
    given = problem("linear", "x0")
    peer = scheduler(given, spacing, steps)
    with patch.object(peer, "_get_variance", wraps=peer._get_variance) as asked:
        theirs(given, peer, start())
    landed = [max(-1, int(call.args[1])) + 1 for call in asked.call_args_list]
    missed = np.subtract(landed, levels_of(peer)[1:])
    assert np.count_nonzero(missed) == wrong
    assert abs(missed).max() <= 12


def one_image(given: Schedule, clean: Tensor) -> Problem:
    """The problem whose network knows the only image there is."""
    return Problem("linear", "x0", given, lambda x, _: clean.type(x.dtype) + 0 * x)


@pytest.mark.parametrize(("spacing", "steps", "wrong"), LANDING)
def test_states_of_one_image(spacing: str, steps: int, wrong: int) -> None:
    """With one image in the data the exact path is alpha_s image + sigma_s times one noise."""
    schedule, image = problem("linear", "x0").schedule, torch.linspace(-0.9, 0.9, 9).view(3, 3)
    given = one_image(schedule, image)
    peer = scheduler(given, spacing, steps)
    levels, alpha, sigma = levels_of(peer), schedule.signal, schedule.sigma
    noise = (start() - alpha[levels[0]] * image) / sigma[levels[0]]
    exact = [alpha[s] * image + sigma[s] * noise for s in levels[1:]]
    path = ours(given, ddim_table(schedule, "x0", levels, 0.0), True)
    assert gap(path, exact) < 2e-6
    missed = gap(theirs(given, peer, start()), exact)
    assert missed > 1e-3 if wrong else missed < FLOAT32


def test_what_their_last_step_leaves() -> None:
    """13 steps of "trailing" end at level 1, still noisy, where ours end at the image."""
    schedule, image = problem("linear", "x0").schedule, torch.linspace(-0.9, 0.9, 9).view(3, 3)
    given = one_image(schedule, image)
    peer = scheduler(given, "trailing", 13)
    table = ddim_table(schedule, "x0", levels_of(peer), 0.0)
    np.testing.assert_allclose(ours(given, table, True)[-1], image.expand(2, 2, 3, 3), atol=1e-7)
    left = theirs(given, peer, start())[-1] - schedule.signal[1] * image
    assert float(left.std()) == pytest.approx(float(schedule.sigma[1]), rel=0.5)


@pytest.mark.parametrize(("spacing", "steps"), [("trailing", 6), ("leading", 6), ("linspace", 5)])
def test_weights_of_a_step_by_conditioning(spacing: str, steps: int) -> None:
    """x_s given x_0 and x_t in the joint law of a chain of 20 levels, which knows no sampler."""
    from diffusers import DDIMScheduler

    noise = betas("linear")[::50] * 20
    schedule, law = Schedule.from_betas(noise), joint_covariance(noise.numpy())
    peer: Any = DDIMScheduler(
        20, trained_betas=noise.numpy(), prediction_type="sample", clip_sample=False,
        timestep_spacing=spacing,
    )  # fmt: skip
    peer.set_timesteps(steps)
    levels = levels_of(peer)
    peer.alphas_cumprod, (one, zero) = schedule.alpha_bar[1:].clone(), torch.eye(2).double()[0]
    rows = ddim_table(schedule, "x0", levels, 1.0).exact
    for (t, s), row in zip(pairwise(levels), rows, strict=True):
        (a, b), left = condition(law, s, [0, t])
        truth = [a, b, left**0.5] if s else [1.0, 0.0, 0.0]
        np.testing.assert_allclose(row[[2, 3, 5]], truth, rtol=0, atol=1e-9)
        found = [
            float(peer.step(output, t - 1, x, eta=1.0, variance_noise=z).prev_sample)
            for output, x, z in ((one, zero, zero), (zero, one, zero), (zero, zero, one))
        ]
        apart = np.abs(np.subtract(found, truth)).max()
        lands = max(t - 20 // steps, 0) == s
        assert apart < 1e-9 if lands else apart > 1e-3
    assert (spacing == "leading") == all(max(t - 20 // steps, 0) == s for t, s in pairwise(levels))
