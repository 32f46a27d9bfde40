"""Exponential moving average of the weights, with a warm-up so that early averages are of use."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn

from ddpm.runs.checkpoint import check_fit

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Tensors = dict[str, Tensor]
SOURCE = Path("ema")
"""What errors call an average that was read from no file."""


def ema_decay(updates: int, limit: float) -> float:
    """Decay after a number of updates: (1 + n) / (10 + n), at most the limit."""
    return min(limit, (1 + updates) / (10 + updates))


class Ema:
    """Tensors that follow those of a model, by the names of its state_dict.

    They are no module: under FSDP a rank holds its shards of them and nothing else, and several
    averages of one model cost their memory alone. torch's own average walks over the tensors one by
    one in Python, which for a small network takes as long as the optimiser; here they move in one
    call.

    Args:
        model: The network that is trained, not wrapped by DDP; it may be sharded by FSDP.
        limit: Decay that the warm-up tends to, in [0, 1).

    Attributes:
        limit: As given.
        updates: Updates so far; whoever loads tensors sets it to their number.
    """

    def __init__(self, model: nn.Module, limit: float) -> None:
        self.limit = limit
        self.updates = 0
        self._kept = {name: x.detach().clone() for name, x in _state(model).items()}
        floating = [name for name, x in self._kept.items() if x.is_floating_point()]
        self._floating = {name: _local(self._kept[name]) for name in floating}
        self._others = {n: _local(x) for n, x in self._kept.items() if n not in self._floating}

    @property
    def current_decay(self) -> float:
        """Share of the average that the last update kept; 0 for the first, which copies."""
        return ema_decay(self.updates - 1, self.limit) if self.updates > 1 else 0.0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move every tensor towards the model's; the first call copies, as do integer buffers."""
        self.updates += 1
        current = _state(model)
        theirs = [_local(current[name]) for name in self._floating]
        torch._foreach_lerp_(list(self._floating.values()), theirs, 1 - self.current_decay)
        for name, mine in self._others.items():
            mine.copy_(_local(current[name]))

    def tensors(self) -> Tensors:
        """The averages themselves, by the names of the state_dict; DTensors where the model's are.

        They move with the next update: a caller that keeps them copies them.
        """
        return dict(self._kept)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], source: Path = SOURCE) -> None:
        """Take over averages, without communication; `updates` stays as it is.

        Args:
            tensors: What `tensors` gave; where a tensor here is sharded, either the same shard as a
                DTensor or the whole, of which each rank takes its part.
            source: Where they come from, for the error.

        Raises:
            InputError: naming the first tensor that is missing, unknown, or of another shape or
                dtype; nothing has been changed.
        """
        check_fit(self._kept, tensors, source)
        for name, mine in self._kept.items():
            _put(mine, tensors[name])

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the averages into a network with the same names.

        Where the averages are sharded and the module is not, ranks gather them: all must call it.

        Raises:
            InputError: naming the first tensor that the two do not share.
        """
        own = _state(module)
        check_fit(own, self._kept, SOURCE)
        for name, theirs in own.items():
            _put(theirs, self._kept[name])


def _state(model: nn.Module) -> Tensors:
    """Parameters and persistent buffers by name, the tensors themselves."""
    state: Tensors = model.state_dict(keep_vars=True)
    return state


def _sharded(x: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor is one of many ranks; looked up where it may be, as the import is slow."""
    if type(x) in (Tensor, nn.Parameter):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(x, DTensor)


def _local(x: Tensor) -> Tensor:
    """The part of a tensor that lies on this rank, sharing its memory."""
    own = x.detach()
    return own.to_local() if _sharded(own) else own


def _put(target: Tensor, value: Tensor) -> None:
    """Copy a value into a tensor; either may be sharded."""
    if _sharded(target) and not _sharded(value):
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = target.device_mesh, target.placements
        value = distribute_tensor(value.to(target.device), mesh, placements, src_data_rank=None)
    elif _sharded(value) and not _sharded(target):
        value = value.full_tensor()
    _local(target).copy_(_local(value))
