"""Several processes that train one model: what they tell each other, and how they begin and end."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from ddpm.commands.runtime import resolve_device
from ddpm.errors import InputError, check
from ddpm.rendezvous import store_of_this_start

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others before it gives up."""

CPU = torch.device("cpu")

Value = TypeVar("Value")


class RankError(InputError):
    """Another rank of the job failed, left or fell silent."""

    passing = True


class AgreedError(InputError):
    """Bad input that every rank has found together, so that one line of it is enough."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process among those that train together.

    Every method but `main` is a collective: all ranks call it, in the same order. For one process
    each does nothing and returns what it was given.

    Attributes:
        rank: Number of this process, in 0..world-1.
        world: Number of processes.
        local: Number of this process on its machine.
        device: Where it computes.
        host: The group that flags and text travel in, by gloo whatever the device.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    device: torch.device = CPU
    host: dist.ProcessGroup | None = None

    @property
    def main(self) -> bool:
        """Whether this is the rank that prints and writes."""
        return self.rank == 0

    def mean(self, x: Tensor) -> Tensor:
        """Mean of a tensor over the ranks."""
        return x if self.world == 1 else self.total(x) / self.world

    def total(self, x: Tensor) -> Tensor:
        """Sum of a tensor over the ranks; the tensor given stays as it is."""
        if self.world == 1:
            return x
        summed = x.detach().clone()
        with _named_failure():
            dist.all_reduce(summed, group=self._group(summed))
        return summed

    def gathered(self, x: Tensor) -> Tensor:
        """The tensors of all ranks, which have one shape, one after the other."""
        if self.world == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.world)]
        with _named_failure():
            dist.all_gather(parts, x.contiguous(), group=self._group(x))
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank."""
        return flag if self.world == 1 else bool(self.total(torch.tensor(int(flag))))

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.any(False)

    def agree(self, value: Value) -> Value:
        """The value of rank 0, on every rank.

        Args:
            value: What JSON can hold, small; that of the other ranks is not looked at.
        """
        if self.world == 1:
            return value
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        with _named_failure():
            length = torch.tensor(len(text))
            dist.broadcast(length, 0, group=self.host)
            if not self.main:
                text = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(text, 0, group=self.host)
        agreed: Value = json.loads(bytes(text.tolist()))
        return agreed

    def first(self, work: Callable[[], Value]) -> Value:
        """Result of work that only rank 0 does, on every rank.

        Args:
            work: Returns what JSON can hold.

        Raises:
            AgreedError: on every rank, where the work raised an InputError on rank 0.
        """
        if self.world == 1:
            return work()
        outcome: tuple[Any, str | None] = (None, None)
        if self.main:
            try:
                outcome = (work(), None)
            except InputError as error:
                outcome = (None, str(error))
        result, failure = self.agree(outcome)
        if failure is not None:
            raise AgreedError(failure)
        value: Value = result
        return value

    def _group(self, x: Tensor) -> dist.ProcessGroup | None:
        return self.host if x.device.type == "cpu" else None


ALONE = Ranks()
"""One process that trains by itself, on the CPU."""


@contextmanager
def joined(device: str, timeout: timedelta = TIMEOUT) -> Iterator[Ranks]:
    """This process among those that torchrun started, or alone where it started none.

    Where a rank leaves the block with an error, its connections close, and the others fail at what
    they next do together instead of waiting for it.

    Args:
        device: "auto", "cpu" or "cuda".
        timeout: How long to wait for a rank that neither answers nor ends.

    Raises:
        InputError: the device or torchrun's environment cannot be used.
        RankError: another rank failed, left or fell silent.
    """
    rank, world, local = _place(os.environ)
    target = resolve_device(device)
    if target.type == "cuda":
        target = _own_gpu(local)
    if world == 1:
        yield Ranks(device=target)
        return
    with _named_failure():
        backend = "nccl" if target.type == "cuda" else "gloo"
        store = store_of_this_start(rank, world, timeout)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
        host = dist.new_group(backend="gloo", timeout=timeout)
    orderly = False
    try:
        with _named_failure():
            yield Ranks(rank, world, local, target, host)
        orderly = True
    except AgreedError:
        orderly = True
        # Rank 0 says it for all.
        if rank:
            raise SystemExit(2) from None
        raise
    except RankError:
        raise
    except InputError as error:
        raise InputError(f"rank {rank}: {error}") from None
    finally:
        # Left to the end of the process, gloo's thread may outlive what it uses, and aborts it.
        # NCCL would wait here for ranks that are gone; the end of the process frees what it holds.
        if orderly or target.type == "cpu":
            dist.destroy_process_group()


def _place(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, world and local rank as torchrun says them; (0, 1, 0) where it says nothing."""
    if "RANK" not in environment:
        return 0, 1, 0
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    given = [environment.get(name, "nothing") for name in names]
    for name, value in zip(names, given, strict=True):
        check(value.isdecimal(), name, value, "an integer, as torchrun sets it")
    rank, world, local = map(int, given)
    check(rank < world, "RANK", rank, f"0 to WORLD_SIZE - 1 = {world - 1}")
    return rank, world, local


def _own_gpu(local: int) -> torch.device:
    count = torch.cuda.device_count()
    check(local < count, "nproc-per-node", local + 1, f"at most the {count} GPU(s) of this machine")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextmanager
def _named_failure() -> Iterator[None]:
    """Turn what gloo, NCCL and the store say when a rank is gone into one clear error."""
    try:
        yield
    except RuntimeError as error:
        if _is_of_a_group(error):
            raise RankError(
                f"another rank failed, left or fell silent, so this one stops: {error}"
            ) from error
        raise


def _is_of_a_group(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        sign in text for sign in ("gloo", "connection closed by peer", "connection reset by peer")
    )
