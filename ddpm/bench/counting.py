"""What a call asks of the device: launches, traffic and waits, counted and not timed.

An ATen operation counts as a launch when it touches at least N elements, N the elements of the
batch. It moves what it reads of its operands (a broadcast dimension is read from a cache and counts
once) and what it writes; views move nothing. An operation of ours is one launch, as on a GPU.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm.bench.contender import Call

CREATION = ("empty", "zeros", "ones", "full", "rand", "randn", "randint", "arange", "new_")
"""Beginnings of the names of operations that take a shape, and no values, from a tensor."""

TABLES = ("table", "levels", "signal", "sigma")
"""Operands of our operations of which a row is read, however long they are."""

GATHERS = ("index", "gather", "index_select", "take", "embedding")
"""Operations that read as many elements of their first operand as they write."""

UNREAD = ("copy_", "fill_", "zero_", "normal_", "uniform_", "random_")
"""Operations that write their first operand without reading it."""

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero")
"""Operations whose result the host waits for."""


@dataclass
class Counts:
    """What was counted of one call.

    Attributes:
        launches: Operations over at least N elements.
        traffic: Elements moved, in N of the batch's dtype.
        small: Operations over fewer elements.
        waits: Times the host waits for the device.
    """

    launches: int = 0
    traffic: float = 0.0
    small: int = 0
    waits: int = 0


class CallCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of a call, forward and backward.

    Args:
        elements: N.
        itemsize: Bytes of an element of the batch.
    """

    def __init__(self, elements: int, itemsize: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = Counts()
        self._elements, self._itemsize = elements, itemsize

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Let an operation run and count it."""
        given = dict(kwargs or {})
        out = func(*args, **given)
        named = zip(func._schema.arguments, args, strict=False)
        tables = func.namespace == "ddpm"
        read = [value for what, value in named if not (tables and what.name in TABLES)]
        self._note(func, list(_tensors((read, *given.values()))), list(_tensors((out,))), args)
        return out

    def _note(self, func: Any, read: list[Tensor], written: list[Tensor], args: Any) -> None:
        name = func._schema.name.removeprefix("aten::")
        moved_to_host = name in ("_to_copy", "copy_") and _leaves_device(read, written)
        if name in WAITS or moved_to_host:
            self.counts.waits += 1
        if _is_view(func) or name.startswith("empty") or name in ("_local_scalar_dense", "detach"):
            return
        if name.startswith(CREATION):
            read = []
        elif name in UNREAD:
            read = read[1:]
        elif name in GATHERS:
            read = [*written, *read[1:]]
        moved = sum(map(self._volume, read)) + sum(map(self._volume, written))
        if moved == 0:
            self.counts.small += 1
            return
        # The mean of squares is two kernels: the squares are written and read again.
        squares = name == "mse_loss" and (len(args) < 3 or args[2] == 1)
        self.counts.launches += 2 if squares else 1
        self.counts.traffic += moved + (2.0 if squares else 0.0)

    def _volume(self, x: Tensor) -> float:
        """Elements of a tensor in N of the batch's dtype; 0 for tensors smaller than N."""
        lengths = zip(x.shape, x.stride(), strict=True)
        distinct = torch.Size(n for n, stride in lengths if stride).numel()
        if distinct < self._elements:
            return 0.0
        return distinct * x.dtype.itemsize / (self._elements * self._itemsize)


def count(call: Call, elements: int, itemsize: int) -> Counts:
    """Count what one call asks of the device.

    Args:
        call: What to run, once.
        elements: N, elements of the batch.
        itemsize: Bytes of each.
    """
    counter = CallCounter(elements, itemsize)
    with counter:
        call()
    return counter.counts


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _is_view(func: Any) -> bool:
    infos = [result.alias_info for result in func._schema.returns]
    return any(info is not None and not info.is_write for info in infos)


def _leaves_device(read: list[Tensor], written: list[Tensor]) -> bool:
    source = read[-1] if read else None
    return bool(source is not None and source.is_cuda and written and not written[0].is_cuda)
