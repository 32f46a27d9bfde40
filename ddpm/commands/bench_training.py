"""`ddpm bench --training`: images a second of whole training loops around one network."""

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ddpm.allocator import keep_memory
from ddpm.bench.assemble import OURS
from ddpm.bench.clock import CpuClock
from ddpm.bench.machine import describe
from ddpm.bench.memory import peak_bytes
from ddpm.bench.training_runs import Task, Updates, loops
from ddpm.commands.runtime import resolve_device
from ddpm.commands.terminal import console
from ddpm.data.load import load_images
from ddpm.errors import check

IMAGES = 4096
"""Images that the loops are given, as files and in memory."""
UPDATES = 4
"""Updates of a turn."""
BATCH = 64
NETWORKS = ((16, 32), (32, 64, 64))
"""Channels of each network's resolutions: one beside which a loop's own work shows, one larger."""


@dataclass(frozen=True)
class Found:
    """What was found of one loop.

    Attributes:
        loop: Whose it is.
        widths: Channels of the resolutions of the network.
        remark: Why it did not run.
        images_per_second: Median of the rounds.
        ratio: Median over the rounds of our images a second over its; above 1 we are faster.
        quartiles: Of that ratio.
        peak_bytes: Memory that an update holds at most, the weights and what is kept not counted.
    """

    loop: str
    widths: tuple[int, ...]
    remark: str = ""
    images_per_second: float | None = None
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None
    peak_bytes: int | None = None


def time_training(
    *,
    data: str,
    device: str,
    rounds: int,
    threads: int | None,
    as_json: bool,
    batch_size: int = BATCH,
    networks: tuple[tuple[int, ...], ...] = NETWORKS,
    updates: int = UPDATES,
) -> None:
    """Train in turns and print a table or a JSON object.

    Raises:
        InputError: an argument is out of range, or the data cannot be used.
    """
    check(rounds >= 2, "rounds", rounds, "an integer of at least 2")
    check(threads is None or threads >= 1, "threads", threads, "an integer of at least 1")
    target = resolve_device(device)
    images = load_images(data).train[:IMAGES]
    square = images.shape[2] == images.shape[3]
    check(square, "data", tuple(images.shape[2:]), "square images")
    if threads is not None:
        torch.set_num_threads(threads)
    found: list[Found] = []
    for widths in networks:
        with tempfile.TemporaryDirectory() as folder:
            task = Task(images, batch_size, widths, Path(folder), target)
            found += _measured(loops(task), task, rounds, updates)
    machine = describe(target, False, False)
    if as_json:
        rows = [asdict(row) for row in found]
        print(json.dumps({"machine": machine, "rounds": rounds, "rows": rows}, indent=2))
    else:
        _print(console, found, machine, f"{data}, batch {batch_size}, {rounds} rounds")


def _measured(
    named: dict[str, Updates | str], task: Task, rounds: int, updates: int
) -> list[Found]:
    keep_memory(task.device)
    running = {name: loop for name, loop in named.items() if not isinstance(loop, str)}
    peaks = {}
    for name, loop in running.items():
        loop(1)
        peaks[name] = peak_bytes(partial(_one, loop), task.device)
    clock, seconds = CpuClock(), {name: list[float]() for name in running}
    order = list(running)
    for number in range(rounds):
        first = number % len(order)
        for name in (*order[first:], *order[:first]):
            seconds[name].append(clock.seconds(partial(_some, running[name], updates), 1))
    return [
        Found(name, task.widths, loop)
        if isinstance(loop, str)
        else _found(name, task, seconds[name], seconds[OURS], updates, peaks[name])
        for name, loop in named.items()
    ]


def _found(
    name: str, task: Task, mine: Sequence[float], ours: Sequence[float], updates: int, peak: int
) -> Found:
    ratios = [theirs / own for theirs, own in zip(mine, ours, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    speed = updates * task.batch_size / statistics.median(mine)
    return Found(name, task.widths, "", speed, statistics.median(ratios), (low, high), peak)


def _one(loop: Updates) -> dict[str, torch.Tensor]:
    return _some(loop, 1)


def _some(loop: Updates, updates: int) -> dict[str, torch.Tensor]:
    loop(updates)
    return {}


def _print(output: Console, found: Sequence[Found], machine: dict[str, object], title: str) -> None:
    where = machine["gpu"] or f"{machine['cores']} CPU cores, threads: {machine['threads']}"
    table = Table("network", "training loop", title=escape(f"{title}, on {where}"))
    for heading in ("images/s", "time over ours", "quartiles", "peak MiB of an update"):
        table.add_column(heading, justify="right")
    for row in found:
        if row.images_per_second is None or row.quartiles is None or row.peak_bytes is None:
            table.add_row(_widths(row), row.loop, escape(row.remark))
            continue
        low, high = row.quartiles
        table.add_row(
            _widths(row), row.loop, f"{row.images_per_second:.1f}", f"{row.ratio:.2f}",
            f"{low:.2f} to {high:.2f}", f"{row.peak_bytes / 2**20:.1f}",
        )  # fmt: skip
    output.print(table)


def _widths(row: Found) -> str:
    return "-".join(str(width) for width in row.widths)
