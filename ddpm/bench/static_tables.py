"""The static laboratory's tables, for a terminal and for the documentation."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ddpm.bench.cards import CARDS
from ddpm.bench.peers import VERSIONS
from ddpm.bench.static import Row, faults, own_card
from ddpm.commands.terminal import console
from ddpm.errors import InputError

# Columns that the widest table takes.
_WIDTH = 230

BEGIN = "<!-- begin: written by ddpm bench --static --markdown -->"
END = "<!-- end -->"

_ROW = ("op", "dtype", "bytes", "floor", "access", "offset", "spill", "shared", "registers",
        "instructions", "ps", "peers' ps", "ok")  # fmt: skip
_TASK = ("task", "library", "traffic", "launches", "small", *CARDS, "times ours", "note")


def print_tables(found: Sequence[Row], sums: Sequence[Row]) -> None:
    """Print the tables of rows and of totals, and what is wrong."""
    archs = ", ".join(f"{arch} ({own_card(arch)})" for arch in _archs(found))
    _print(_table(_ROW, _row_lines(found)))
    console.print(f"registers, instructions and ps for {archs}", soft_wrap=True)
    _print(_table(_TASK, _task_lines(sums)))
    for line in faults(found):
        console.print(escape(line), style="red", soft_wrap=True)


def _print(table: Table) -> None:
    """Print a table as wide as it is: squeezed into a narrow terminal nobody could read it."""
    Console(highlight=False, width=max(console.width, _WIDTH)).print(table)


def check_marks(path: Path) -> None:
    """Refuse a file that has no place for the tables.

    Raises:
        InputError: the file is not there or lacks a mark.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if BEGIN not in text or END not in text.split(BEGIN)[-1]:
        raise InputError(f"--markdown = {str(path)!r}: allowed is a file with {BEGIN} and {END}")


def write_tables(path: Path, found: Sequence[Row], sums: Sequence[Row]) -> None:
    """Replace what stands between the marks of a file."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n\n{tables(found, sums)}\n{END}{after}", encoding="utf-8")


def tables(found: Sequence[Row], sums: Sequence[Row]) -> str:
    """Give all tables as Markdown.

    Args:
        found: what `ddpm.bench.static.rows` gives.
        sums: what `ddpm.bench.static.totals` gives of them.
    """
    archs = _archs(found)
    parts = [
        "## Whole tasks beside other libraries",
        "Traffic in tensors of the size of the data (N), kernels over all of them and over fewer "
        "elements, and predicted picoseconds per float32 element by card. Those of others are for "
        "their traffic alone; *times ours* is on an H100.",
        _markdown(_TASK, _task_lines(sums)),
        "## Every op",
        f"Registers, instructions per element and predicted picoseconds per element are those for "
        f"{', '.join(f'{arch} ({own_card(arch)})' for arch in archs)}, in this order.",
        _markdown(_ROW, _row_lines(found)),
        "## Instructions by class",
        "Per bfloat16 element on sm_90.",
        _markdown(_CLASSES, _class_lines(found)),
        "## Cards",
        _markdown(
            ("card", "TB/s", "units", "lanes", "GHz", "T instructions/s", "source"), _cards()
        ),
        "## Versions of the other libraries",
        _markdown(("library", "version"), [(name, text) for name, text in VERSIONS.items()]),
    ]
    return "\n\n".join(parts) + "\n"


_CLASSES = ("op", "float", "integer", "special", "memory", "other", "all", "longest way")


def _archs(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(r["arch"] for r in found))


def _row_lines(found: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line for each op and dtype: one figure where the architectures agree, else all."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for r in found:
        groups.setdefault((r["op"], r["dtype"]), []).append(r)
    lines = []
    for (op, dtype), group in groups.items():
        lines.append(
            (
                op,
                dtype,
                _merged(group, lambda r: f"{r['bytes_per_element']:g}"),
                _merged(group, lambda r: f"{r['floor_bytes_per_element']:g}"),
                *(
                    _merged(group, lambda r, key=key: str(r[key]))  # type: ignore[misc]
                    for key in ("access_bytes", "offset_bits", "spill_bytes", "shared_bytes")
                ),
                " ".join(str(r["registers"]) for r in group),
                " ".join(f"{r['instructions_per_element']:.1f}" for r in group),
                " ".join(f"{r['predicted_ps'][own_card(r['arch'])]:.2f}" for r in group),
                _peer_times(group),
                "yes" if all(r["ok"] for r in group) else "NO",
            )
        )
    return lines


def _merged(group: Sequence[Row], say: Callable[[Row], str]) -> str:
    said = [say(r) for r in group]
    return said[0] if len(set(said)) == 1 else " ".join(said)


def _peer_times(group: Sequence[Row]) -> str:
    """Name the peer with the least traffic and its times."""
    if not group[0]["peers"]:
        return ""
    (library, _) = min(group[0]["peers"].items(), key=lambda item: sum(item[1].values()))
    times = (f"{r['peers'][library][own_card(r['arch'])]:.2f}" for r in group)
    return f"{library} {' '.join(times)}"


def _task_lines(sums: Iterable[Row]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for task in sums:
        within = f"at most {task['traffic_limit']}N in {task['launches_limit']}"
        note = within if task["ok"] else f"NOT {within}"
        counts = (f"{task['traffic']:g}N", str(task["launches"]), "0")
        lines.append((task["task"], "ours", *counts, *_times(task), "1", note))
        for peer in task["peers"]:
            ratio = f"{peer['predicted_ps']['H100'] / task['predicted_ps']['H100']:.1f}"
            small = "" if peer["small"] is None else str(peer["small"])
            counts = (f"{peer['traffic']:g}N", str(peer["launches"]), small)
            lines.append(("", peer["library"], *counts, *_times(peer), ratio, peer["note"]))
    return lines


def _times(found: Row) -> tuple[str, ...]:
    return tuple(f"{found['predicted_ps'][card]:.2f}" for card in CARDS)


def _class_lines(found: Iterable[Row]) -> list[tuple[str, ...]]:
    return [
        (
            r["op"],
            *(f"{r['instructions'][kind]:.2f}" for kind in _CLASSES[1:6]),
            f"{r['instructions_per_element']:.2f}",
            f"{r['longest_instructions_per_element']:.2f}: {r['rare']}" if r["rare"] else "",
        )
        for r in found
        if (r["dtype"], r["arch"]) == ("bf16", "sm_90")
    ]


def _cards() -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{card.bandwidth / 1e12:g}",
            str(card.units),
            str(card.lanes_per_clock),
            f"{card.clock / 1e9:g}",
            f"{card.issue_rate / 1e12:.1f}",
            card.source,
        )
        for name, card in CARDS.items()
    ]


def _markdown(names: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = [names, ["---"] * len(names)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*head, *lines])


def _table(names: Sequence[str], lines: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for line in lines:
        table.add_row(*map(escape, line), style="red" if "NO" in line[-1] else None)
    return table
