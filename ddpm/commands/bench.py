"""`ddpm bench`: time every operation beside the peers, or count what its kernels compile to."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ddpm.bench import workloads
from ddpm.bench.clock import Clock, clock_of, cores
from ddpm.bench.machine import describe
from ddpm.bench.markdown import markdown
from ddpm.bench.peer_calls import MODULES, missing
from ddpm.bench.picture import png
from ddpm.bench.targets import Target, compared
from ddpm.bench.timed import Row, measure
from ddpm.commands.runtime import resolve_device
from ddpm.commands.terminal import console, progress
from ddpm.errors import check
from ddpm.files import keep_old, write_atomically

NAME_WIDTH = 27
COLUMNS = {
    "ms": 6, "over\nours": 6, "GB/s": 5, "% of\ncopy": 4, "launch\n+small": 6, "N": 6,
    "waits": 5, "peak\nMiB": 5,
}  # fmt: skip
"""Headings of the table and their widths, which add up to a terminal's 80."""


def time_operations(
    *,
    device: str,
    only: str,
    rounds: int,
    threads: int | None,
    compile_too: bool,
    processor_time: bool,
    as_json: bool,
    out: Path | None,
) -> bool:
    """Compare, count and time; print a table or a JSON object; return whether results are equal.

    Raises:
        InputError: a name is unknown, a number is out of range or the device is not here.
    """
    names = [operation.name for operation in workloads.OPERATIONS]
    check(any(only in name for name in names), "only", only, f"part of {', '.join(names)}")
    check(rounds >= 1, "rounds", rounds, "an integer of at least 1")
    check(threads is None or threads >= 1, "threads", threads, "an integer of at least 1")
    check(out is None or not out.is_file(), "out", str(out), "a folder")
    target = resolve_device(device)
    alone = target.type == "cpu" and (threads or torch.get_num_threads()) == 1
    check(alone or not processor_time, "processor_time", True, "on the CPU with --threads 1")
    if threads is not None:
        torch.set_num_threads(threads)
    machine = describe(target, compile_too, processor_time)
    output = Console(stderr=True) if as_json else console
    clock = clock_of(target, processor_time)
    rows = _measured(target, clock, only, rounds, compile_too, output)
    found = _object(machine, rounds, rows)
    if out is not None:
        title = _title(machine, rounds)
        content = {
            "bench.json": json.dumps(found, indent=2).encode() + b"\n",
            "bench.md": markdown(rows, title).encode(),
            "bench.png": png(rows, title),
        }
        _write(out, content, quiet=as_json)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(machine, rounds, rows)
    return all(row.equal is not False for row in rows)


def _measured(
    device: torch.device, clock: Clock, only: str, rounds: int, compile_too: bool, output: Console
) -> list[Row]:
    rows: list[Row] = []
    with progress(unit=" workloads", output=output) as bar:
        wanted = workloads.cases(device, only)
        task = bar.add_task("", total=len(wanted))
        for label, build in wanted:
            bar.update(task, description=label)
            rows += measure(build(), clock, rounds, compile_too)
            bar.advance(task)
    return rows


def _object(machine: dict[str, object], rounds: int, rows: Sequence[Row]) -> dict[str, object]:
    targets = [asdict(target) | {"met": target.met} for target in compared(rows)]
    return {
        "machine": machine, "rounds": rounds,
        "targets": targets, "rows": [asdict(row) for row in rows],
    }  # fmt: skip


def _write(folder: Path, content: dict[str, bytes], quiet: bool) -> None:
    for name, data in content.items():
        path = folder / name
        if (moved := keep_old(path)) and not quiet:
            console.print(f"Kept the earlier {name} as {moved.name}", soft_wrap=True)
        write_atomically(path, data)
        if not quiet:
            console.print(f"Wrote {path}", soft_wrap=True)


def _title(machine: dict[str, object], rounds: int) -> str:
    where = machine["gpu"] or f"{machine['cores']} CPU cores, threads: {machine['threads']}"
    return f"ddpm bench on {where}, rounds: {rounds}, clock: {machine['clock']}"


def _print(machine: dict[str, object], rounds: int, rows: Sequence[Row]) -> None:
    console.print(_title(machine, rounds), soft_wrap=True)
    for head, group in groupby(rows, _head):
        console.print(f"\n[bold]{head}[/bold]", soft_wrap=True)
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
        table.add_column("", width=NAME_WIDTH, overflow="fold")
        for heading, width in COLUMNS.items():
            table.add_column(heading, justify="right", no_wrap=True, width=width)
        for row in group:
            table.add_row(*_cells(row))
        console.print(table)
    console.print()
    for target in compared(rows):
        console.print(_judged(target), soft_wrap=True)
    for peer in MODULES:
        if (reason := missing(peer)) == "not installed":
            console.print(
                escape(f"{peer}: {reason} (pip install 'ddpm-proven[bench]')"),
                soft_wrap=True,
            )
    if machine["gpu"] is None:
        console.print(
            "No GPU took part: all rows ran on the CPU, without CUDA graphs and emptied caches.",
            soft_wrap=True,
        )
    if machine["clock"] == "wall" and float(str(machine["load"])) > cores() / 2:
        console.print(
            f"[yellow]Other work was running (load {machine['load']}): ratios are rough, and "
            "kinder to short calls. Steadier: --threads 1 --processor-time.[/yellow]",
            soft_wrap=True,
        )


def _head(row: Row) -> str:
    shape = "x".join(map(str, row.shape))
    return f"{row.op}, {shape} {row.dtype}, {row.device}"


def _cells(row: Row) -> list[str]:
    if not row.ran or row.seconds is None or row.ratio is None:
        return [f"{row.contender}: [yellow]{escape(row.remark)}[/yellow]"]
    remark = f" [dim]({escape(row.remark)})[/dim]" if row.remark else ""
    counted = row.launches is not None
    return [
        f"{row.contender}{remark}",
        _three_digits(1e3 * row.seconds),
        f"{row.ratio:.2f}",
        f"{row.gigabytes_per_second:.2f}",
        f"{row.percent_of_copy:.0f}",
        f"{row.launches}+{row.small}" if counted else "",
        f"{row.traffic:g}" if counted else "",
        f"{row.waits}" if counted else "",
        "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.2f}",
    ]


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def _judged(target: Target) -> str:
    shape = "x".join(map(str, target.shape))
    colour = {True: "green", False: "red", None: "yellow"}[target.met]
    word = {True: "reached", False: "missed", None: "not run"}[target.met]
    ratio = "" if target.reached is None else f" {target.reached:.2f}"
    return (
        f"[{colour}]{word}{ratio}[/{colour}]: {target.op}, {shape}, at least "
        f"{target.at_least:g} against {target.against}"
    )
