"""Exponential moving average of the weights, with a warm-up so that early averages are of use."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def ema_decay(updates: int, limit: float) -> float:
    """Decay after a number of updates: (1 + n) / (10 + n), at most the limit."""
    return min(limit, (1 + updates) / (10 + updates))


class Ema(AveragedModel):
    """A copy of a model that follows it.

    torch's own update walks over the tensors one by one in Python, which for a small network takes
    as long as the optimiser; here they move in one call.

    Args:
        model: The network that is trained.
        limit: Decay that the warm-up tends to, in [0, 1).
    """

    def __init__(self, model: nn.Module, limit: float) -> None:
        super().__init__(model, use_buffers=True)
        self.requires_grad_(False)
        self.limit = limit

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move every tensor towards the model's; the first call copies, as do integer buffers."""
        updates = int(self.n_averaged)
        kept = ema_decay(updates, self.limit) if updates else 0.0
        average, current = _tensors(self.module), _tensors(model)
        torch._foreach_lerp_(average[0], current[0], 1 - kept)
        for mine, theirs in zip(average[1], current[1], strict=True):
            mine.copy_(theirs)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Floating-point tensors of a model, and the others."""
    tensors = [*model.parameters(), *model.buffers()]
    return (
        [x for x in tensors if x.is_floating_point()],
        [x for x in tensors if not x.is_floating_point()],
    )
