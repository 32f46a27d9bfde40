"""Dropout that drops the same activations however a batch is shared out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SharedDropout(nn.Module):
    """Dropout of one part of a global batch, with the mask that the whole batch would get.

    torch's generator fills a mask in one go, so that a part of it cannot be had without the rest.
    The mask of the whole batch is drawn, for one layer at a time, and the rows at hand are used.

    Args:
        p: Probability of dropping an activation, in [0, 1).
        parts: Equal parts of the global batch.
        part: Which of them the input is, int64 0-d; a tensor, because a compiled network would be
            compiled again for every other integer.
    """

    def __init__(self, p: float, parts: int, part: Tensor) -> None:
        super().__init__()
        self.p = p
        self.parts = parts
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations of an input [B, ...] of any shape."""
        if not self.training:
            return x
        size = x.shape[0]
        ones = torch.ones((size * self.parts, *x.shape[1:]), dtype=x.dtype, device=x.device)
        if not x.is_contiguous() and x.dim() == 4:
            # The generator fills a mask in the order of memory.
            ones = ones.contiguous(memory_format=torch.channels_last)
        mask = F.dropout(ones, self.p)
        return x * mask.index_select(0, self.part * size + torch.arange(size, device=x.device))


def share_dropout(model: nn.Module, parts: int, device: torch.device) -> Tensor:
    """Put shared dropout in the place of every nn.Dropout of a network.

    Args:
        model: The network, changed in place; the names of its tensors stay as they are.
        parts: Equal parts of the global batch.
        device: Where the network lives.

    Returns:
        The number of the part that is computed next, int64 0-d, to be filled in by the caller.
    """
    part = torch.zeros((), dtype=torch.int64, device=device)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, SharedDropout(child.p, parts, part))
    return part
