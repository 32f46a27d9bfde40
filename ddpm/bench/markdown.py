"""The table of a benchmark for a document."""

from collections.abc import Sequence
from itertools import groupby

from ddpm.bench.assemble import OURS
from ddpm.bench.targets import compared
from ddpm.bench.timed import Row

HEADINGS = (
    "operation", "contender", "ms", "over ours", "quartiles", "GB/s", "% of copy", "launches",
    "traffic / N", "waits", "peak MiB",
)  # fmt: skip


def markdown(rows: Sequence[Row], title: str) -> str:
    """One table of all rows, and one of the ratios to reach.

    Args:
        rows: Of any number of workloads.
        title: What is said of the machine.
    """
    lines = [title, "", _line(HEADINGS), _line(["---", "---", *["---:"] * (len(HEADINGS) - 2)])]
    for head, group in groupby(rows, _operation):
        lines += [_line([head if i == 0 else "", *_cells(row)]) for i, row in enumerate(group)]
    if targets := compared(rows):
        lines += ["", _line(("to reach", "at least", "reached")), _line(("---", "---:", "---:"))]
    for target in targets:
        shape = _shape(target.shape)
        reached = "not run" if target.reached is None else f"{target.reached:.2f}"
        what = f"{target.op}, {shape}, against {target.against}"
        lines.append(_line((what, f"{target.at_least:g}", reached)))
    return "\n".join(lines) + "\n"


def _operation(row: Row) -> str:
    dtype = "" if row.dtype == "float32" else f", {row.dtype}"
    return f"{row.op}, {_shape(row.shape)}{dtype}"


def _cells(row: Row) -> list[str]:
    name = f"**{row.contender}**" if row.contender == OURS else row.contender
    if not row.ran or row.seconds is None or row.ratio is None or row.quartiles is None:
        return [f"{name}: {row.remark}", *[""] * (len(HEADINGS) - 2)]
    counted = row.launches is not None
    return [
        f"{name} ({row.remark})" if row.remark else name,
        f"{1e3 * row.seconds:.3g}",
        f"{row.ratio:.2f}",
        "" if row.contender == OURS else f"{row.quartiles[0]:.2f} to {row.quartiles[1]:.2f}",
        f"{row.gigabytes_per_second:.2f}",
        f"{row.percent_of_copy:.0f}",
        f"{row.launches} + {row.small}" if counted else "",
        f"{row.traffic:g}" if counted else "",
        f"{row.waits}" if counted else "",
        "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.2f}",
    ]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
