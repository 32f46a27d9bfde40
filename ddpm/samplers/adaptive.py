"""Samplers that choose their steps by a tolerance, with torchdiffeq and torchsde.

The solvers choose one step for the whole batch. A picture therefore is the same in any batch up to
the tolerance only, while its first noise and its Brownian motion are the same to the last bit.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.extras import require_extra
from ddpm.keys import Key
from ddpm.samplers.brownian import BrownianPath
from ddpm.samplers.continuous import ContinuousDenoiser, Flow, times_of
from ddpm.samplers.loop import Guidance, Model, State
from ddpm.samplers.solvers import SDE_METHODS, check_tolerances, solve_ordinary, solve_stochastic


@dataclass(frozen=True)
class AdaptiveState(State):
    """A state with the number of network calls so far; guidance counts once."""

    calls: int


@torch.no_grad()
def ode_progressive(
    diffusion: GaussianDiffusion,
    model: Model,
    x: Tensor,
    levels: Sequence[int],
    conditions: Mapping[str, Any] | None = None,
    *,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    method: str = "dopri5",
    clip_denoised: bool = True,
    guidance: Guidance | None = None,
) -> Iterator[AdaptiveState]:
    """Yield the states of the probability flow at some levels, see `Flow`.

    It is integrated at once from the first level to the last above 0, with steps that do not depend
    on the levels between: there the solver interpolates. The step to level 0 returns x0_hat. Each
    sample by itself meets the tolerance. Integration is in the dtype of x; with float32, tolerances
    below 1e-5 cost calls without a gain.

    Args:
        diffusion: The process; its schedule has signal at the first level.
        model: The network, see `ddpm.samplers.continuous.ContinuousDenoiser`.
        x: Images at the first level, [B, ...], float32 or float64.
        levels: Strictly decreasing, ending at 0.
        conditions: Passed to the network, or None.
        rtol: Allowed error of a step, relative to the images.
        atol: The same, absolute.
        method: One of `ddpm.samplers.solvers.ODE_METHODS`.
        clip_denoised: Whether estimates of the clean image are clipped to [-1, 1].
        guidance: Classifier-free guidance, or None.

    Raises:
        InputError: torchdiffeq is not installed, or a tolerance or the method is not allowed.
        ValueError: the levels, the network or its prediction are not allowed, see
            `ContinuousDenoiser`.
    """
    require_extra("an adaptive ordinary solver", "ode", "torchdiffeq")
    check_tolerances(rtol, atol, method)
    times = times_of(diffusion.schedule, levels)
    denoiser = ContinuousDenoiser(diffusion, model, conditions, clip_denoised, guidance)
    flow, steps = Flow(denoiser, levels[0], levels[-2]), len(levels) - 1
    # The flow is solved before the first state is known, and all states with it.
    path = solve_ordinary(flow.velocity, x, times, rtol=rtol, atol=atol, method=method)
    for i, t in enumerate(levels[1:-1], 1):
        yield AdaptiveState(path[i], t, i, steps, denoiser.calls)
    clean = denoiser.x0_hat(path[-1], 2 * times[-1])
    yield AdaptiveState(clean, 0, steps, steps, denoiser.calls)


@torch.no_grad()
def sde_progressive(
    diffusion: GaussianDiffusion,
    model: Model,
    x: Tensor,
    key: Key,
    levels: Sequence[int],
    conditions: Mapping[str, Any] | None = None,
    *,
    rtol: float = 1e-3,
    atol: float = 1e-2,
    method: str = "srk",
    clip_denoised: bool = True,
    guidance: Guidance | None = None,
) -> Iterator[AdaptiveState]:
    """Yield the states of the reverse stochastic equation at some levels, see `Flow`.

    Each level is met exactly, by at least one step; a step of "srk" takes five network calls, with
    the comparison with two half steps by which it is accepted. The step to level 0 returns x0_hat.
    The Brownian motion is that of (seed, sample) over all levels of the schedule, whichever are
    visited, so that smaller tolerances approach one and the same path. torchsde measures the error
    by its root mean square over the batch.

    Args:
        diffusion: The process; its schedule has signal at the first level.
        model: The network, see `ddpm.samplers.continuous.ContinuousDenoiser`.
        x: Images at the first level, [B, ...], float32 or float64.
        key: Its seed and sample indices determine the Brownian motion.
        levels: Strictly decreasing, ending at 0.
        conditions: Passed to the network, or None.
        rtol: Allowed error of a step, relative to the images.
        atol: The same, absolute.
        method: One of `ddpm.samplers.solvers.SDE_METHODS`.
        clip_denoised: Whether estimates of the clean image are clipped to [-1, 1].
        guidance: Classifier-free guidance, or None.

    Raises:
        InputError: torchsde is not installed, or a tolerance or the method is not allowed.
        ValueError: the levels, the network or its prediction are not allowed, see
            `ContinuousDenoiser`; or the key has not one sample an image.
    """
    require_extra("an adaptive stochastic solver", "ode", "torchsde")
    check_tolerances(rtol, atol, method, SDE_METHODS)
    if key.sample.shape != x.shape[:1]:
        raise ValueError(
            f"key has {key.sample.numel()} samples: allowed is one for each of {len(x)} images"
        )
    times = times_of(diffusion.schedule, levels)
    denoiser = ContinuousDenoiser(diffusion, model, conditions, clip_denoised, guidance)
    flow, steps = Flow(denoiser, levels[0], levels[-2]), len(levels) - 1
    if steps > 1:
        brownian = BrownianPath(key, math.prod(x.shape[1:]), *_span(diffusion))
    for i, t in enumerate(levels[1:-1], 1):
        stretch = times[i - 1 : i + 1]
        x = solve_stochastic(flow, x, stretch, brownian, rtol=rtol, atol=atol, method=method)
        yield AdaptiveState(x, t, i, steps, denoiser.calls)
    clean = denoiser.x0_hat(x, 2 * times[-1])
    yield AdaptiveState(clean, 0, steps, steps, denoiser.calls)


def _span(diffusion: GaussianDiffusion) -> tuple[float, float]:
    """First and last time of the schedule's levels with signal."""
    table = diffusion.schedule.log_snr[1:].detach().double().cpu()
    known = table[table.isfinite()]
    return float(known[-1]) / 2, float(known[0]) / 2
