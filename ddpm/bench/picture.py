"""The picture of a benchmark: every contender's time over ours, one line an operation."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib.figure import Figure

from ddpm.bench.assemble import COMPILED, EAGER, NUMPY, OURS
from ddpm.bench.peer_calls import DIFFUSERS, LUCIDRAINS
from ddpm.bench.targets import RANDN
from ddpm.bench.timed import Row

MARKS = {
    DIFFUSERS: ("#d55e00", "o"),
    LUCIDRAINS: ("#0072b2", "D"),
    EAGER: ("#009e73", "s"),
    COMPILED: ("#cc79a7", "^"),
    RANDN: ("#e69f00", "P"),
    NUMPY: ("#999999", "x"),
}
"""Colour, of a set that the colour-blind tell apart, and shape of each contender."""

LINE_INCHES = 0.26


def png(rows: Sequence[Row], title: str) -> bytes:
    """Draw the ratios of the rows that ran.

    Args:
        rows: Of any number of workloads.
        title: Above the picture.
    """
    ran = [row for row in rows if row.ratio is not None and row.contender != OURS]
    lines = list(dict.fromkeys(_line(row) for row in ran))
    figure = Figure(figsize=(9.0, 1.6 + LINE_INCHES * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    for name, (colour, shape) in MARKS.items():
        mine = [row for row in ran if row.contender.removesuffix(", graph") == name]
        axes.scatter(
            [row.ratio or 0.0 for row in mine], [lines.index(_line(row)) for row in mine],
            c=colour, marker=shape, s=34, label=name, zorder=3,
        )  # fmt: skip
    # Above the whole figure, whose left third is names.
    figure.suptitle(title, fontsize="medium")
    axes.axvline(1.0, color="black", linewidth=1.0)
    axes.set(
        xscale="log", xlabel="time over ours (right of 1: slower than ours)",
        yticks=range(len(lines)), yticklabels=lines, ylim=(len(lines) - 0.5, -0.5),
    )  # fmt: skip
    axes.grid(axis="both", color="#dddddd", zorder=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _line(row: Row) -> str:
    shape = "x".join(map(str, row.shape))
    graph = ", graph" if row.contender.endswith(", graph") else ""
    dtype = "" if row.dtype == "float32" else f", {row.dtype}"
    return f"{row.op}  {shape}{dtype}{graph}"
