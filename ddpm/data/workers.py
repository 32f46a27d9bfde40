"""Worker processes that read ahead."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddpm.errors import InputError

T = TypeVar("T")
PREFETCH = 2
"""Batches that each worker process prepares ahead."""


def prepared(
    read: Callable[[Tensor], T], wanted: Iterator[Tensor], workers: int, *, pinned: bool = False
) -> Iterator[T]:
    """Results for a sequence of indices, made ahead by worker processes, in the order asked for.

    Args:
        read: gives the result for int64 [n] indices; can be sent to another process.
        wanted: the indices of each result; may be endless.
        workers: number of processes, >= 1.
        pinned: whether tensors lie in pinned memory, from which a GPU copies on its own.

    Yields:
        One result for each of `wanted`.

    Raises:
        InputError: `read` raised it, or a worker process was killed.
    """
    loader: DataLoader[T | _Fault] = DataLoader(
        _Reading(read),
        batch_size=None,
        sampler=_Once(wanted),
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=PREFETCH,
        collate_fn=_as_it_is,
        worker_init_fn=_ignore_interrupts,
        # A generator of its own, because the loader would draw from the one of all.
        generator=torch.Generator().manual_seed(0),
    )
    with _own_handler(signal.SIGCHLD), _held(signal.SIGINT):
        results = iter(loader)
    try:
        for result in results:
            if isinstance(result, _Fault):
                raise InputError(result.message)
            yield result
        return
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    # Outside of the block above, because the first exception would keep the other workers alive.
    raise InputError(f"workers = {workers}: reading ahead failed: {reason}")


@dataclass(frozen=True)
class _Fault:
    """What is wrong, sent back as a value, because an exception would come with a traceback."""

    message: str


class _Reading(Dataset[T | _Fault]):
    """What a worker does."""

    def __init__(self, read: Callable[[Tensor], T]) -> None:
        self.read = read

    def __getitem__(self, index: Tensor) -> T | _Fault:
        try:
            return self.read(index)
        except InputError as error:
            return _Fault(str(error))


class _Once:
    """The iterator as a sampler of DataLoader, which asks once."""

    def __init__(self, wanted: Iterator[Tensor]) -> None:
        self.wanted = wanted

    def __iter__(self) -> Iterator[Tensor]:
        return self.wanted


def _as_it_is(result: T) -> T:
    return result


@contextmanager
def _own_handler(number: signal.Signals) -> Iterator[None]:
    """Undo what the block does to the handling of a signal.

    The loader's handler raises in the middle of whatever runs when a worker dies; without it the
    loader still notices, within seconds, when the worker's answer is waited for.
    """
    before = signal.getsignal(number)
    yield
    # Only the main thread may set handlers, in Python as in the loader.
    if before is not None and current_thread() is main_thread():
        signal.signal(number, before)


@contextmanager
def _held(number: signal.Signals) -> Iterator[None]:
    """Let a signal wait until the block is left.

    Processes that begin in it let it wait for ever, also before they come to ignore it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; only the trainer's decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
