"""Clocks: seconds of some calls in a row, on a CPU and on a GPU."""

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ddpm.bench.contender import Call, Result

FLUSH_BYTES = 1 << 28
"""Written between two calls on a GPU: more than any of today's second-level caches holds."""

WARM_UP = 3
"""Calls before a capture, which must find every allocation made and every kernel compiled."""


class Clock(Protocol):
    """Times calls."""

    def seconds(self, call: Call, repeats: int) -> float:
        """Mean seconds of one of `repeats` calls in a row."""
        ...


class CpuClock:
    """A clock of the host.

    Args:
        now: The wall clock, or the time that the process had a processor: beside other work the
            second is the fairer one, as long as there is one thread.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def seconds(self, call: Call, repeats: int) -> float:
        """Mean seconds of one of `repeats` calls in a row."""
        began = self._now()
        for _ in range(repeats):
            call()
        return (self._now() - began) / repeats


class CudaClock:
    """Events on the device around each call, its second-level cache emptied in between.

    Args:
        event: Makes an event that records times.
        synchronise: Waits for the device.
        flush: Written before each call; empty to leave the cache alone.
    """

    def __init__(
        self, event: Callable[[], Any], synchronise: Callable[[], None], flush: Tensor
    ) -> None:
        self._event, self._synchronise, self._flush = event, synchronise, flush

    @staticmethod
    def on(device: torch.device) -> "CudaClock":
        """The clock of a GPU; ROCm answers to the same names."""
        return CudaClock(
            lambda: torch.cuda.Event(enable_timing=True),  # type: ignore[no-untyped-call]
            lambda: torch.cuda.synchronize(device),
            torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device),
        )

    def seconds(self, call: Call, repeats: int) -> float:
        """Mean seconds of one of `repeats` calls, each on a cold cache."""
        pairs = [(self._event(), self._event()) for _ in range(repeats)]
        for start, stop in pairs:
            self._flush.zero_()
            start.record()
            call()
            stop.record()
        self._synchronise()
        milliseconds = [float(start.elapsed_time(stop)) for start, stop in pairs]
        return sum(milliseconds) / (1e3 * repeats)


def clock_of(device: torch.device, processor_time: bool = False) -> Clock:
    """The clock of a device.

    Args:
        device: Where the work is done.
        processor_time: Whether a CPU's clock stands still while other processes run.
    """
    if device.type == "cuda":
        return CudaClock.on(device)
    return CpuClock(time.process_time if processor_time else time.perf_counter)


def replay(call: Call) -> Call:
    """A call recorded as a CUDA graph, as one that replays it.

    Raises:
        RuntimeError: the call waits for the device, which no graph can hold.
    """
    side, usual = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            call()
    usual.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            out = call()
    finally:
        # A recording that fails leaves its own stream as the current one.
        torch.cuda.set_stream(usual)

    def replayed() -> Result:
        graph.replay()
        return out

    return replayed


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
