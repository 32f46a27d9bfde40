"""Exponential moving average of the weights, with a warm-up so that early averages are of use."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def ema_decay(updates: int, limit: float) -> float:
    """Decay after a number of updates: (1 + n) / (10 + n), at most the limit."""
    return min(limit, (1 + updates) / (10 + updates))


def averaged(model: nn.Module, limit: float) -> AveragedModel:
    """A copy of the model whose `update_parameters` moves it towards the model.

    Args:
        model: The network that is trained.
        limit: Decay that the warm-up tends to, in [0, 1).
    """

    @torch.no_grad()
    def update(average: Any, current: Any, _: Any) -> None:
        decay = ema_decay(int(average_model.n_averaged), limit)
        torch._foreach_lerp_(average, current, 1 - decay)

    average_model = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average_model.requires_grad_(False)
