r"""Exact log-likelihood by the probability flow, and from it bits of images on grey levels.

The flow carries N(0, I) at level T to a law at every level s; along a path x the log density
changes by minus the divergence of its velocity (Chen et al., 2018, equation (8); Song et al., 2021,
equation (39)), so that in the time lambda = log-SNR / 2

    log p_s(x) = log N(x_T; 0, I) - \int_(lambda_T)^(lambda_s) alpha (tr d x0_hat / dx - alpha D),

where x_T is where the path through x at level s began. This is the density of what the flow itself
draws, prior included: data whose last level is not quite N(0, I) has another one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import check
from ddpm.extras import require_extra
from ddpm.kernels.normal import normal
from ddpm.kernels.philox import words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.likelihood import BATCH, NATS_PER_BIT, decoder_bits_per_image
from ddpm.samplers.continuous import ContinuousDenoiser, Flow, times_of
from ddpm.samplers.loop import Model
from ddpm.samplers.solvers import check_tolerances, solve_ordinary

Trace = Literal["exact", "hutchinson"]

DIRECTIONS_TOGETHER = 64
"""Directions whose gradients are taken in one backward pass, for the sake of memory."""


@torch.no_grad()
def flow_log_density(
    diffusion: GaussianDiffusion,
    model: Model,
    x: Tensor,
    level: int,
    *,
    trace: Trace = "exact",
    probes: int = 1,
    seed: int = 0,
    samples: Sequence[int] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "dopri5",
    conditions: Mapping[str, Any] | None = None,
) -> Tensor:
    """Log density of noisy data under the probability flow, see above.

    The path and its integral are held in float64 and each sample by itself meets the tolerance; the
    network is called in its own dtype, and with float32 the result is good to about 1e-6 for each
    dimension, whatever the tolerance.

    Args:
        diffusion: The process; its last level has signal.
        model: The network, differentiable, see `ddpm.samplers.continuous.ContinuousDenoiser`.
        x: Data noised to the level, [B, ...] with D numbers a sample.
        level: In 1..T.
        trace: "exact" for D gradients a network call; "hutchinson" for as many as there are probes,
            which gives an unbiased estimate (Hutchinson, 1989).
        probes: Random signs for each number of a sample, fixed along its path, averaged over.
        seed: Key of the probes.
        samples: Global index of each sample, by which its probes are drawn; None means 0..B-1.
        rtol: Allowed error of a step, relative to the numbers of a sample and to its log density.
        atol: The same, absolute.
        method: One of `ddpm.samplers.solvers.ODE_METHODS`.
        conditions: Passed to the network, or None.

    Returns:
        float64 [B], in nats.

    Raises:
        InputError: torchdiffeq is not installed, or another argument is not allowed.
        ValueError: the last level has no signal, or the network or its prediction is not allowed.
    """
    require_extra("the flow's likelihood", "ode", "torchdiffeq")
    check(trace in get_args(Trace), "trace", trace, " or ".join(get_args(Trace)))
    check(probes >= 1, "probes", probes, "an integer of at least 1")
    check_tolerances(rtol, atol, method)
    steps, size = diffusion.schedule.steps, math.prod(x.shape[1:])
    check(1 <= level <= steps, "level", level, f"1 to T = {steps}")
    if samples is not None and len(samples) != len(x):
        raise ValueError(
            f"samples has {len(samples)} entries: allowed is one for each of {len(x)} in x"
        )
    times = times_of(diffusion.schedule, [*sorted({steps, level}, reverse=True), 0]).flip(0)
    flow = Flow(ContinuousDenoiser(diffusion, model, conditions), steps, level)
    signs = None
    if trace == "hutchinson":
        key = Key.of(seed, range(len(x)) if samples is None else samples, device=x.device)
        signs = _signs(key, probes, size)

    def velocity(time: Tensor, state: Tensor) -> Tensor:
        with torch.enable_grad():
            place = state[:, :-1].reshape(x.shape).detach().requires_grad_()
            moved = flow.velocity(time, place)
            spread = _divergence(moved, place, signs)
        return torch.cat([moved.detach().flatten(1), spread[:, None]], dim=1)

    state = torch.cat([x.double().flatten(1), x.new_zeros(len(x), 1).double()], dim=1)
    state = solve_ordinary(
        velocity, state, times, rtol=rtol, atol=atol, method=method, norm=_norm
    )[-1]  # fmt: skip
    square = state[:, :-1].square().sum(dim=1)
    return state[:, -1] - (square + size * math.log(2 * math.pi)) / 2


@dataclass(frozen=True, eq=False)
class FlowBits:
    """An upper bound of the bits of each image and its parts, float64 [B], in bits per dimension.

    Attributes:
        decoder: -log p(x_0 | x_1).
        flow: -log p_1(x_1).
        noise: -log q(x_1 | x_0), whose mean is the entropy of the noise of level 1.
    """

    decoder: Tensor
    flow: Tensor
    noise: Tensor

    @property
    def total(self) -> Tensor:
        """The bound."""
        return self.decoder + self.flow - self.noise


def flow_bits(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    *,
    levels: int,
    decoder_std: float | None,
    trace: Trace = "hutchinson",
    probes: int = 1,
    seed: int = 0,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    method: str = "dopri5",
    labels: Tensor | None = None,
) -> FlowBits:
    """Bits of images on grey levels by the flow, dequantised by the Gaussian noise of level 1.

    Grey levels have no density. With q(x_1 | x_0) the noising of level 1 and p(x_0 | x_1) the
    decoder of the variational bound, Jensen's inequality gives for every image

        -log P(x_0) <= E[-log p(x_0 | x_1) - log p_1(x_1) + log q(x_1 | x_0)],

    of which this is one draw, with the x_1 that the bound's decoder sees under the same seed. It is
    the variational bound with its chain between the levels 1 and T replaced by the flow.

    Args:
        diffusion: The process; its last level has signal.
        model: The network, differentiable, see `ddpm.samplers.continuous.ContinuousDenoiser`.
        x_start: Clean images [B, ...] in [-1, 1], on the grey levels; image i is sample i of the
            noise and of the probes.
        levels: Number of grey levels of the data.
        decoder_std: Standard deviation of the decoder; None where the variance is learned.
        trace: See `flow_log_density`, and so the next five.
        probes: How many a sample.
        seed: Key of the noise and of the probes.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        method: Of the solver.
        labels: int64 [B], the classes of the images, or None.

    Raises:
        InputError: torchdiffeq is not installed, or an argument is not allowed.
        ValueError: the last level has no signal, the network or its prediction is not allowed, or
            decoder_std is None where the variance is fixed.
    """
    key = Key.of(seed, range(len(x_start)), step=1, device=x_start.device)
    shape, stream = list(x_start.shape[1:]), Stream.EVALUATION_NOISE
    noise = normal(key.seed, key.step, key.sample, stream, shape, torch.float32)
    x_1 = diffusion.q_sample(x_start, torch.ones_like(key.sample), noise)
    densities = []
    for first in range(0, len(x_start), BATCH):
        part = slice(first, first + BATCH)
        known = None if labels is None else {"labels": labels[part]}
        densities.append(flow_log_density(
            diffusion, model, x_1[part], 1, trace=trace, probes=probes, seed=seed,
            samples=range(len(x_start))[part], rtol=rtol, atol=atol, method=method,
            conditions=known,
        ))  # fmt: skip
    log_density = torch.cat(densities)
    decoder = decoder_bits_per_image(
        diffusion, model, x_start, levels=levels, std=decoder_std, seed=seed, labels=labels
    )
    log_variance = float(diffusion.schedule.one_minus_alpha_bar[1].log())
    power = noise.double().square().flatten(1).mean(dim=1)
    spread = (power + math.log(2 * math.pi) + log_variance) / 2
    flow = -log_density / max(1, math.prod(shape))
    return FlowBits(decoder, flow / NATS_PER_BIT, spread / NATS_PER_BIT)


def _signs(key: Key, probes: int, size: int) -> Tensor:
    """Random signs, float64 [probes, B, size]; probe p is the step of its words."""
    drawn = [
        words(key.seed, torch.full_like(key.step, p), key.sample, Stream.PROBE, size)
        for p in range(probes)
    ]
    return 1 - 2 * (torch.stack(drawn) >> 31).double()


def _divergence(moved: Tensor, place: Tensor, signs: Tensor | None) -> Tensor:
    """Divergence of a velocity in its place, [B] each: exact, or along random signs."""
    size = moved[0].numel()
    count = size if signs is None else len(signs)
    total = moved.new_zeros(len(moved))
    for first in range(0, count, DIRECTIONS_TOGETHER):
        number = min(count - first, DIRECTIONS_TOGETHER)
        if signs is None:
            rows = torch.eye(number, size, dtype=moved.dtype, device=moved.device)
            along = rows.roll(first, dims=1)[:, None].expand(-1, len(moved), -1)
        else:
            along = signs[first : first + number].to(moved.dtype)
        (slope,) = torch.autograd.grad(
            moved, place, along.reshape(number, *moved.shape),
            retain_graph=True, is_grads_batched=True,
        )  # fmt: skip
        total = total + (along * slope.flatten(2)).sum(dim=(0, 2))
    return total if signs is None else total / count


def _norm(error: Tensor) -> Tensor:
    """Size of the errors of [B, D + 1]: of a path or of its log density, where it is largest."""
    path = error[:, :-1].square().mean(dim=1).sqrt()
    return torch.maximum(path, error[:, -1].abs()).amax()
