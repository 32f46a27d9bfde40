"""Where the ranks of one start leave their addresses for each other, and for no later start."""

from datetime import timedelta
from time import monotonic, sleep
from uuid import uuid4

from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

PAUSE = 0.02
"""Seconds between two looks of the first rank."""


def store_of_this_start(rank: int, world: int, timeout: timedelta) -> Store:
    """The store that torchrun's environment names, under a name that no other start has.

    The store may outlive the ranks, and with it the addresses of those that are gone: torchrun's
    agent keeps it over a restart. Agents of several machines count their restarts apart, so nothing
    in the environment tells two starts from each other.

    Args:
        rank: Of this process.
        world: Number of ranks.
        timeout: How long to wait for the others.

    Raises:
        RuntimeError: a rank did not come in time.
    """
    store: Store = next(rendezvous("env://", timeout=timeout))[0]
    return PrefixStore(_joined(store, rank) if rank else _opened(store, world, timeout), store)


def _opened(store: Store, world: int, timeout: timedelta) -> str:
    """The name that rank 0 gives this start, once every other rank has taken it.

    A greeting may be one of an earlier start. To answer it does no harm: nobody is there to take
    the name.
    """
    name, last = f"start {uuid4().hex}", monotonic() + timeout.total_seconds()
    missing = set(range(1, world))
    while True:
        for rank in missing:
            if store.check([_greeting(rank)]):
                store.set(_answer(store.get(_greeting(rank)).decode()), name)
        missing = {rank for rank in missing if not store.check([_taken(name, rank)])}
        if not missing:
            return name
        if monotonic() > last:
            raise dist.DistStoreError(f"ranks {sorted(missing)} did not come within {timeout}")
        sleep(PAUSE)


def _joined(store: Store, rank: int) -> str:
    """The name that rank 0 answers with to the greeting of this rank, and of this start."""
    greeting = uuid4().hex
    store.set(_greeting(rank), greeting)
    name = store.get(_answer(greeting)).decode()
    store.set(_taken(name, rank), "")
    return name


def _greeting(rank: int) -> str:
    return f"greeting of rank {rank}"


def _answer(greeting: str) -> str:
    return f"answer to {greeting}"


def _taken(name: str, rank: int) -> str:
    return f"{name} is that of rank {rank}"
