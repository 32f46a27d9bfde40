"""Schedules and levels of `diffusers` beside ours: what agrees, and what float32 or rounding cost.

Which library is right is settled by arithmetic with 135 digits and by what a sequence has to be.
"""

from typing import Any

import numpy as np
import pytest
import torch

from ddpm.diffusion import GaussianDiffusion
from ddpm.samplers.levels import spaced, trailing
from ddpm.schedule import Schedule
from ddpm.verify.oracles import signal_products, worst_ulp
from tests.peers.paths import KINDS, MARKS, STEPS, betas, noise_of, start

pytestmark = MARKS

SCHEDULERS = [
    "DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
]  # fmt: skip
THEIR_SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
}
OURS = {
    "linear": lambda: Schedule.linear(STEPS),
    "cosine": lambda: Schedule.cosine(STEPS),
    "scaled_linear": lambda: Schedule.from_betas(betas("scaled_linear")),
}
# Half a unit in the last place of a number in [1/2, 1), as float32 has it.
HALF_ULP = 2.0**-25


def scheduler(name: str, steps: int = STEPS, **settings: Any) -> Any:
    import diffusers

    return getattr(diffusers, name)(steps, **settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_betas_and_their_products(name: str, kind: str) -> None:
    own, given = OURS[kind](), betas(kind)
    np.testing.assert_allclose(own.beta[1:], given, rtol=1e-11)
    for peer in (
        scheduler(name, **THEIR_SETTINGS[kind]),
        scheduler(name, trained_betas=given.numpy()),
    ):
        # A square and two roundings; the betas handed over are rounded once.
        np.testing.assert_allclose(peer.betas.double(), given, rtol=4 * 2.0**-24)
        # Each factor 1 - beta is rounded twice, by half an ulp of a number just below 1, and each
        # product once; errors of either sign mostly cancel, and a walk of T steps goes this far.
        moved = (4 * STEPS**0.5 * HALF_ULP / (1 - given)).cummax(0).values
        got, want = peer.alphas_cumprod.double(), own.alpha_bar[1:]
        assert bool(((got / want - 1).abs() <= moved).all())


@pytest.mark.parametrize("kind", KINDS)
def test_whose_noise_variance_is_right(kind: str) -> None:
    """1 - alpha_bar by subtraction from a float32 loses three to four digits at low levels."""
    own, truth = Schedule.from_betas(betas(kind)), signal_products(betas(kind).numpy())
    assert worst_ulp(own.one_minus_alpha_bar.numpy(), [1 - product for product in truth]) <= 40
    peer = scheduler("DDPMScheduler", **THEIR_SETTINGS[kind])
    found, want = 1 - peer.alphas_cumprod, own.one_minus_alpha_bar[1:]
    lost = (found.double() / want - 1).abs()
    assert 2e-5 < float(lost.max()) < 1e-3
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-6)


def test_zero_terminal_snr() -> None:
    own = Schedule.from_betas(betas("linear")).with_zero_terminal_snr()
    peer = scheduler("DDIMScheduler", rescale_betas_zero_snr=True)
    np.testing.assert_allclose(peer.alphas_cumprod, own.alpha_bar[1:], rtol=0, atol=1e-6)
    assert float(peer.alphas_cumprod[-1]) == float(own.alpha_bar[-1]) == 0


@pytest.mark.parametrize(("steps", "left"), [(10, 9.39), (100, 0.571)])
def test_their_linear_betas_do_not_know_the_number_of_levels(steps: int, left: float) -> None:
    """With fewer levels the same betas leave the images visible at level T; ours hide them."""
    signal = scheduler("DDPMScheduler", steps).alphas_cumprod[-1]
    assert float(signal / (1 - signal)) == pytest.approx(left, rel=1e-3)
    full = Schedule.linear(STEPS).snr[-1]
    assert float(Schedule.linear(steps).snr[-1]) == pytest.approx(float(full), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_noising(kind: str) -> None:
    diffusion, peer = (
        GaussianDiffusion(OURS[kind](), "v"),
        scheduler("DDPMScheduler", **THEIR_SETTINGS[kind]),
    )
    for t in (1, 2, 10, 500, STEPS):
        levels = torch.tensor([t, STEPS + 1 - t])
        got = diffusion.q_sample(start().tanh(), levels, noise_of(1))
        want = peer.add_noise(start().tanh(), noise_of(1), levels - 1)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_which_levels_are_visited() -> None:
    """Theirs is our "leading"; "trailing" agrees where K divides T, and elsewhere next to it."""
    schedule = Schedule.linear(STEPS)
    for count in (1, 2, 3, 7, 10, 13, 30, 50, 100, 250, 333, 500, 999, STEPS):
        peers = {}
        for spacing in ("leading", "trailing", "linspace"):
            peer = scheduler("DDIMScheduler", timestep_spacing=spacing)
            peer.set_timesteps(count)
            peers[spacing] = (peer.timesteps + 1).tolist()
        assert peers["leading"] == spaced(schedule, "leading", count)[:-1]
        # Ours rounds up and theirs to even.
        apart = np.subtract(peers["trailing"], trailing(STEPS, count)[:-1])
        assert np.abs(apart).max() <= (STEPS % count != 0)
        apart = np.subtract(peers["linspace"], spaced(schedule, "uniform", count)[:-1])
        # One step of theirs starts at level 1, next to the data; ours at level T.
        assert np.abs(apart).max() <= (STEPS - 1 if count == 1 else 1)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_their_trailing_levels_can_be_one_too_many(name: str) -> None:
    """61 strides of 1000 / 61 end at 1e-13, which rounds to a level 0 whose index is -1.

    It is visited, as one more step, and -1 picks the table's other end: pure noise.
    """
    peer = scheduler(name, timestep_spacing="trailing")
    peer.set_timesteps(61)
    visited = peer.timesteps.unique().tolist()
    assert len(visited) == 62
    assert min(visited) == -1
    levels = trailing(STEPS, 61)
    assert len(levels) == 62
    assert levels[-2:] == [17, 0]
