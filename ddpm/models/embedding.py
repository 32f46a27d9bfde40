"""Sinusoidal code of the level, the network's only knowledge of how noisy its input is."""

import math

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
