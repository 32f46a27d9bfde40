"""Discretised Gaussian decoder p(x_0 | x_1) over the grey levels of the data."""

import torch
from torch import Tensor


def discretised_log_likelihood(x: Tensor, mean: Tensor, std: Tensor | float, levels: int) -> Tensor:
    """Log-probability of grey levels under a Gaussian cut into bins.  L-2.10, K-63.

    Bin k of `levels` is centred at 2 k / (levels - 1) - 1 and reaches half-way to its neighbours;
    the outer bins are open. Tails are computed in log space, so nothing underflows.

    Args:
        x: Clean images in [-1, 1], on the grey levels.
        mean: Mean of the Gaussian, broadcast with x.
        std: Its standard deviation, positive.
        levels: Number of grey levels, at least 2.

    Returns:
        Nats, float64, in the broadcast shape.

    Raises:
        ValueError: levels < 2, or std is a number that is not positive.
    """
    if levels < 2:
        raise ValueError(f"levels = {levels}: allowed is an integer of at least 2")
    if not isinstance(std, Tensor) and not std > 0:
        raise ValueError(f"std = {std}: allowed is a positive number")
    half = 1 / (levels - 1)
    centred = x.double() - mean.double()
    upper = torch.where(x > 1 - half, torch.inf, (centred + half) / std)
    lower = torch.where(x < -1 + half, -torch.inf, (centred - half) / std)
    flip = lower + upper > 0
    low, high = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_high = torch.special.log_ndtr(high)
    gap = torch.special.log_ndtr(low) - log_high
    result: Tensor = log_high + torch.log(-torch.expm1(gap))
    return result
