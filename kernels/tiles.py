"""Numbers of each sample, ready to meet its elements."""

from torch import Tensor


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Append dimensions to a vector [B] so that it broadcasts against [B, ...]."""
    return value.view(-1, *(1,) * (like.ndim - 1))
