"""Sines and cosines that networks see: of the level, and of the values of an image."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def sinusoidal_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Code of a level by sines and cosines of geometrically spaced frequencies.  V-5.2, T-fn14.

    The squared norm is dim / 2, and the inner product of two codes depends on t - t' only.

    Args:
        t: Levels, integer or floating, shape [B].
        dim: Length of the code, even.
        max_period: Period of the slowest wave, in the units of t.

    Returns:
        float32 [B, dim]: first the sines, then the cosines.

    Raises:
        ValueError: dim is odd or not positive.
    """
    if dim <= 0 or dim % 2:
        raise ValueError(f"dim = {dim}: allowed is an even positive integer")
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angle = t.to(torch.float32)[:, None] * torch.exp(-math.log(max_period) * exponent)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)


def fourier_features(x: Tensor, powers: Sequence[int]) -> Tensor:
    """An image beside sin and cos of 2^n pi times its values, which tell close values apart.

    A wave whose period is the spacing of the grey levels shows how far a value is from one of them.
    Kingma et al., "Variational Diffusion Models", 2021, https://arxiv.org/abs/2107.00630.

    Args:
        x: Images [B, C, H, W].
        powers: Integers n of at least 0; a period is 2^(1 - n).

    Returns:
        [B, C (1 + 2 K), H, W] for K powers, first x itself.
    """
    if not powers:
        return x
    angles = [(2.0**n * math.pi) * x for n in powers]
    return torch.cat([x, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], 1)
