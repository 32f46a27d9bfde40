"""Timing a workload: results compared first, then everybody in turns, round after round."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ddpm.allocator import keep_memory
from ddpm.bench.assemble import COMPILED, NUMPY, OURS
from ddpm.bench.clock import Clock, replay
from ddpm.bench.contender import Absent, Call, Contender, Workload, judge
from ddpm.bench.counting import count
from ddpm.bench.formulas import compiler_fault
from ddpm.bench.memory import peak_bytes

BATCH_SECONDS = 1e-3
"""What a batch of calls lasts at least: shorter calls are repeated within it."""

TRIES = 3
"""Batches of a turn, of which the quickest counts: another process rarely interrupts all three."""

LONG_SECONDS = 2e-2
"""Calls that take longer than this are made once a turn."""

MOST_REPEATS = 200

MOST_IN_NUMPY = 1 << 22
"""Elements above which the reference is compared and not timed."""

MOST_OF_A_MESSAGE = 200

COPY = "copy"


@dataclass(frozen=True)
class Row:
    """What was found of one contender on one workload.

    Attributes:
        op: The operation.
        shape: Of the batch.
        dtype: Of the batch.
        device: Where it ran, or would have run.
        contender: Who computed it.
        ran: Whether it was timed.
        remark: Why not, or how its task differs.
        equal: Whether its result is ours; None where it was not compared.
        error: Largest difference in units of what is allowed.
        seconds: Median of the rounds.
        ratio: Median over the rounds of its time over ours; above 1 we are faster.
        quartiles: Of that ratio.
        gigabytes_per_second: Bytes that the operation must move over its time.
        percent_of_copy: The same over what a copy of the batch reaches in the same rounds.
        launches: Operations over at least N elements.
        small: Operations over fewer.
        traffic: Elements moved, in N.
        waits: Times the host waits for the device.
        peak_bytes: Memory held at most, results included.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    contender: str
    ran: bool
    remark: str = ""
    equal: bool | None = None
    error: float | None = None
    seconds: float | None = None
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None
    gigabytes_per_second: float | None = None
    percent_of_copy: float | None = None
    launches: int | None = None
    small: int | None = None
    traffic: float | None = None
    waits: int | None = None
    peak_bytes: int | None = None


def measure(workload: Workload, clock: Clock, rounds: int, compile_too: bool = True) -> list[Row]:
    """Compare, count and time everybody on one workload.

    Args:
        workload: The operation, ours first.
        clock: Of the device that it works on.
        rounds: Turns of each contender.
        compile_too: Whether torch.compile takes part.
    """
    keep_memory(workload.device)
    rows: dict[str, Row] = {}
    timed: dict[str, Call] = {COPY: _copy(workload)}
    for rival in (workload.ours, *workload.rivals):
        row = _found(rival, workload, compile_too)
        rows[rival.name] = row
        if row.ran and isinstance(rival, Contender):
            timed[rival.name] = rival.call
    if workload.device.type == "cuda":
        _add_replays(timed, rows)
    seconds = interleaved(timed, clock, rounds)
    return [_with_times(row, workload, seconds) for row in rows.values()]


def interleaved(calls: dict[str, Call], clock: Clock, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round; everybody has one turn a round, in a turning order.

    A turn is a few batches of calls right after each other, and counts as its quickest.

    Args:
        calls: What to time, by name.
        clock: Times them.
        rounds: How often.
    """
    plans = {name: _plan(call, clock) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for number in range(rounds):
        first = number % len(order)
        for name in (*order[first:], *order[:first]):
            repeats, tries = plans[name]
            turn = [clock.seconds(calls[name], repeats) for _ in range(tries)]
            seconds[name].append(min(turn))
    return seconds


def _plan(call: Call, clock: Clock) -> tuple[int, int]:
    """Calls of a batch and batches of a turn, from two calls whose first warms up."""
    clock.seconds(call, 1)
    once = max(clock.seconds(call, 1), 1e-9)
    repeats = max(1, min(MOST_REPEATS, round(BATCH_SECONDS / once)))
    return repeats, 1 if once > LONG_SECONDS else TRIES


def _copy(workload: Workload) -> Call:
    source = torch.ones(workload.shape, dtype=workload.dtype, device=workload.device)
    target = torch.zeros_like(source)
    return lambda: {"copy": target.copy_(source)}


def _found(rival: Contender | Absent, workload: Workload, compile_too: bool) -> Row:
    """The row of a contender before it is timed."""
    head = (
        workload.op, workload.shape, str(workload.dtype).removeprefix("torch."),
        str(workload.device), rival.name,
    )  # fmt: skip
    if isinstance(rival, Absent):
        return Row(*head, ran=False, remark=rival.reason)
    if rival.name == COMPILED:
        fault = compiler_fault() if compile_too else "left out"
        if fault:
            return Row(*head, ran=False, remark=fault)
    try:
        error = judge(rival, workload.ours.result())
    except Exception as fault:
        if rival is workload.ours:
            raise
        # A peer is another's code of any version: what it raises is its result.
        text = " ".join(f"failed: {type(fault).__name__}: {fault}".split())
        return Row(*head, ran=False, remark=text[:MOST_OF_A_MESSAGE], equal=False)
    row = Row(*head, ran=True, remark=rival.note, equal=error <= 1, error=error)
    if error > 1:
        return replace(row, ran=False, remark="another result than ours, so not timed")
    if rival.name == NUMPY:
        slow = workload.elements > MOST_IN_NUMPY
        return replace(row, ran=False, remark="compared, too slow to time") if slow else row
    return _with_counts(row, rival.call, workload)


def _with_counts(row: Row, call: Call, workload: Workload) -> Row:
    row = replace(row, peak_bytes=peak_bytes(call, workload.device))
    if row.contender == COMPILED:
        # What a compiled function launches does not pass through the dispatcher.
        return row
    counts = count(call, workload.elements, workload.dtype.itemsize)
    return replace(
        row,
        launches=counts.launches,
        small=counts.small,
        traffic=round(counts.traffic, 3),
        waits=counts.waits,
    )


def _add_replays(timed: dict[str, Call], rows: dict[str, Row]) -> None:
    """Everybody once more as a CUDA graph, where the call can be recorded."""
    for name in [name for name in timed if name not in (COPY, NUMPY)]:
        graph = f"{name}, graph"
        try:
            timed[graph] = replay(timed[name])
        except RuntimeError:
            remark = "waits for the device, which no graph can hold"
            rows[graph] = replace(rows[name], contender=graph, ran=False, remark=remark)
        else:
            rows[graph] = replace(rows[name], contender=graph)


def _with_times(row: Row, workload: Workload, seconds: Mapping[str, Sequence[float]]) -> Row:
    if not row.ran:
        return row
    mine, copy, ours = (seconds[name] for name in (row.contender, COPY, OURS))
    ratios = [other / own for other, own in zip(mine, ours, strict=True)]
    rates = [workload.floor_bytes / turn / 1e9 for turn in mine]
    copied = 2 * workload.elements * workload.dtype.itemsize
    shares = [workload.floor_bytes / copied * c / m for c, m in zip(copy, mine, strict=True)]
    return replace(
        row,
        seconds=statistics.median(mine),
        ratio=statistics.median(ratios),
        quartiles=_quartiles(ratios),
        gigabytes_per_second=statistics.median(rates),
        percent_of_copy=100 * statistics.median(shares),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
