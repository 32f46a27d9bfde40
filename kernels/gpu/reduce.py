# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""A sum over many programs in one launch: whoever arrives last adds the parts, in a fixed order.

Every program stores its part and takes a ticket. The atomic addition to the ticket releases the
store and acquires those of the others, so that the program that draws the last ticket finds all
parts in memory. It sums them by their place, so that the result does not depend on who was last.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
import triton
import triton.language as tl
from torch import Tensor

# Parts summed at a time: more would not fit into the registers of a few warps.
_WIDEST = 1024

_TICKETS: dict[tuple[torch.device, int], Tensor] = {}


@triton.jit
def arrive_last(ticket_ptr, row, PARTS: tl.constexpr):
    """True in the one of PARTS programs of a row that arrives last; it sets the ticket back to 0.

    row is an int64 scalar. The parts must have been stored before, each as a scalar: one thread
    of a program then both stores and arrives, and the order of its two accesses is that of all.
    """
    before = tl.atomic_add(ticket_ptr + row, 1, sem="acq_rel", scope="gpu")
    last = before == PARTS - 1
    tl.store(ticket_ptr + row, 0, mask=last)
    return last


@triton.jit
def sum_parts(partial_ptr, row, PARTS: tl.constexpr, PADDED: tl.constexpr):
    """Sum of partial[row, 0..PARTS - 1], float32, PADDED (see `padded`) at a time."""
    lane = tl.arange(0, PADDED)
    total = tl.zeros([PADDED], tl.float32)
    for start in range(0, PARTS, PADDED):
        # Past the first-level cache, which may hold what was there before the others wrote.
        total += tl.load(
            partial_ptr + (row * PARTS + start + lane),
            mask=lane < PARTS - start,
            other=0.0,
            cache_modifier=".cg",
        )
    return tl.sum(total, 0)


def padded(parts: int) -> int:
    """Parts that `sum_parts` takes at a time: a power of two, at most 1,024."""
    return min(_WIDEST, 1 << (parts - 1).bit_length())


def tickets(device: torch.device, count: int) -> Tensor:
    """Counters for `arrive_last`, all 0 between launches.

    They are kept for each device and stream: launches on one stream follow each other, and each
    leaves zeros behind. A CUDA graph may be replayed on any stream, so that it gets its own.

    Args:
        device: where the kernel runs.
        count: rows, at least 1.

    Returns:
        int32 [at least count].
    """
    stream = None
    if device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            return torch.zeros(count, dtype=torch.int32, device=device)
        stream = torch.cuda.current_stream(device)
    place = device, stream.cuda_stream if stream else 0
    kept = _TICKETS.get(place)
    if kept is None or kept.shape[0] < count:
        length = 1 << (count - 1).bit_length()
        # torch.compile warms its CUDA graphs up with a pool of memory for the current thread, in
        # which nothing may be kept; another thread allocates outside of it.
        with ThreadPoolExecutor(1) as other:
            kept = other.submit(_zeros, device, stream, length).result()
        _TICKETS[place] = kept
    return kept


def _zeros(device: torch.device, stream: torch.cuda.Stream | None, length: int) -> Tensor:
    """Allocate on a stream of the device; None is the default."""
    with torch.cuda.stream(stream):
        return torch.zeros(length, dtype=torch.int32, device=device)
