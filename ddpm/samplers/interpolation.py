"""Between two noises on the sphere, and between the pictures that DDIM makes of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.loop import Model

_PARALLEL = 1e-12
"""Sine of an angle below which only rounding tells where the great circle goes, in float64."""


def interpolate(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """Points on the great circle from a to b, sample by sample.

    The direction turns at an even rate through the smaller angle, and the norm goes evenly from
    that of a to that of b. For equal norms it is the spherical interpolation of Shoemake (1985),
    equation (67) of Song, Meng & Ermon (2021). Noise of many dimensions has nearly one norm, which
    a straight line between two draws would leave.

    Opposite directions are joined by many great circles, one of which is chosen.

    Args:
        a: [B, ...] with at least two numbers a sample, floating.
        b: Like a.
        weight: [] or [B], in [0, 1], read on the host: 0 is a, and 1 is b.

    Returns:
        Like a; computed in float64.

    Raises:
        ValueError: shapes or dtypes do not fit, or a weight lies outside.
    """
    if a.shape != b.shape or a.dtype != b.dtype or not a.is_floating_point():
        raise ValueError(
            f"a, b are {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}: allowed are two "
            "of one floating dtype and shape"
        )
    if a.ndim < 2 or a.shape[1:].numel() < 2:
        raise ValueError(f"a has shape {tuple(a.shape)}: allowed is [B, ...], two numbers a sample")
    share = _column(weight, a)
    first, second = a.flatten(1).double(), b.flatten(1).double()
    long, other = (x.norm(dim=1, keepdim=True) for x in (first, second))
    tiny = torch.finfo(torch.float64).tiny
    u, v = first / long.clamp(min=tiny), second / other.clamp(min=tiny)
    # Accurate at all angles, where the arc cosine is not near 0 and pi.
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    turned = torch.cos(share * angle) * u + torch.sin(share * angle) * _across(u, v)
    point: Tensor = torch.lerp(long, other, share) * turned
    return point.view(a.shape).to(a.dtype)


def between(
    diffusion: GaussianDiffusion,
    model: Model,
    shape: Sequence[int],
    *,
    seed: int,
    samples: tuple[int, int],
    weights: Sequence[float],
    levels: Sequence[int],
    device: torch.device | str = "cpu",
    **options: Any,
) -> Tensor:
    """Draw by DDIM with eta = 0 from the noises between those of two samples of a seed.

    The pictures at weights 0 and 1 are those that `ddim_sample_loop` draws for the two samples;
    between them the picture changes smoothly. Song, Meng & Ermon (2021), section 5.3.

    Args:
        diffusion: The process.
        model: The network.
        shape: [...] of one image.
        seed: Key of the random numbers.
        samples: Global indices of the two samples.
        weights: One in [0, 1] for each picture.
        levels: Strictly decreasing, ending at 0.
        device: Where the network lives.
        options: As in `GaussianDiffusion.sample_progressive`, the network's conditions among them.

    Returns:
        float32 [len(weights), ...].

    Raises:
        ValueError: levels, weights or an option are not allowed.
    """
    table = ddim_table(diffusion.schedule, diffusion.prediction, levels, 0.0)
    key = Key.of(seed, samples, device=device)
    ends = diffusion.initial_noise((2, *shape), key)
    first, second = (end.expand(len(weights), *shape) for end in ends)
    x = interpolate(first, second, torch.tensor(weights, dtype=torch.float64))
    # No step draws noise, so that the indices of the samples are not used.
    unused = Key.of(seed, range(len(weights)), device=device)
    for state in diffusion.sample_progressive(model, x, unused, table, **options):
        x = state.x
    return x


def _across(u: Tensor, v: Tensor) -> Tensor:
    """The direction in which the great circle leaves unit vectors u [B, D] towards v."""
    rest = v - (u * v).sum(1, keepdim=True) * u
    # The axis least along u, where v is u or its opposite and any direction will do.
    axis = torch.zeros_like(u).scatter_(1, u.abs().argmin(1, keepdim=True), 1.0)
    rest = torch.where(rest.norm(dim=1, keepdim=True) > _PARALLEL, rest, axis)
    # Once more, since what rounding left of a short vector may lean on u.
    rest = rest - (u * rest).sum(1, keepdim=True) * u
    across: Tensor = rest / rest.norm(dim=1, keepdim=True)
    return across


def _column(weight: Tensor | float, x: Tensor) -> Tensor:
    share = torch.as_tensor(weight, dtype=torch.float64, device=x.device)
    if share.ndim > 1 or (share.ndim == 1 and len(share) != len(x)):
        raise ValueError(f"weight has shape {tuple(share.shape)}: allowed is [] or [{len(x)}]")
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise ValueError(f"weight = {share.tolist()}: allowed is [0, 1]")
    return share.expand(len(x))[:, None]
