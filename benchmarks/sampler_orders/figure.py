"""The figure: errors of laws against steps, and the bound's excess against levels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.sampler_orders.measure import Results

DRAWN = {
    "euler-maruyama ve": "o", "ancestral": "s", "ddim": "o", "euler-maruyama vp": "^",
    "predictor-corrector vp": "D", "euler sub-vp": "s", "stochastic-heun": "v",
    "dpm-solver-sde": "P", "heun": "v", "dpm-solver-2m": "P",
}  # fmt: skip
"""Samplers that are drawn, and their marks; the others lie on or between these."""
PLAIN, RANDOM, GREY = "#0072B2", "#D55E00", "0.5"
BOUND = {"posterior": ("#0072B2", "o"), "constant": ("#D55E00", "s"), "exact": ("#009E73", "^")}
MEANT = {
    "posterior": "variance of the posterior", "constant": "best constant variance",
    "exact": "exact variance",
}  # fmt: skip
LABEL = 8.0
APART = 0.034
"""Least distance of two labels, as a share of the height."""
ROUNDS = 400
"""Of pushing labels apart."""


def draw(results: Results, path: Path, dimensions: str = "64") -> None:
    """Write a PNG.

    Args:
        results: Of `everything`.
        path: Where to.
        dimensions: Of the data on the left.
    """
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _laws(left, results, dimensions)
    _bounds(right, results)
    figure.savefig(path, dpi=120)


def _laws(axes: Axes, results: Results, dimensions: str) -> None:
    steps, labels = results["steps"], []
    for row in results["laws"][dimensions]:
        if row["name"] in DRAWN:
            colour = RANDOM if row["noisy"] else PLAIN
            axes.plot(
                steps, row["errors"], color=colour, marker=DRAWN[row["name"]], markersize=4.5,
                linewidth=1.2, linestyle="--" if row["noisy"] else "-",
            )  # fmt: skip
            text = f"{row['name']}, {row['slope']:.2f}"
            labels.append((row["errors"][-1], text, colour))
    axes.set_title(
        f"Distance of the samples' law from the exact one, {dimensions} dimensions", fontsize=10
    )
    axes.set(xlabel="steps K", ylabel="Wasserstein distance of order 2")
    _scales(axes, steps, 7.0)
    _beside(axes, steps[-1], labels + _guides(axes, steps, (3.5, 0.03)))
    axes.text(
        0.02, 0.02, "name, slope over the last three;\nsolid: without noise, dashed: with noise",
        transform=axes.transAxes, fontsize=LABEL,
    )  # fmt: skip


def _bounds(axes: Axes, results: Results) -> None:
    steps, labels = results["steps"], []
    for row in results["bounds"]:
        colour, mark = BOUND[row["variance"]]
        axes.plot(steps, row["predicted"], color=colour, linewidth=1.2)
        axes.plot(steps, row["measured"], mark, color=colour, markersize=5, fillstyle="none")
        leading = row["constant"] / np.array(steps, dtype=np.float64) ** row["rate"]
        axes.plot(steps, leading, ":", color=colour, linewidth=1)
        power = "" if row["rate"] == 1 else f"$^{row['rate']}$"
        text = f"{MEANT[row['variance']]},\n{row['constant']:.2f} / n{power}"
        labels.append((row["measured"][-1], text, colour))
    axes.set_title("Excess of the variational bound over the exact entropy, nats", fontsize=10)
    axes.set(xlabel="steps n of the chain")
    _scales(axes, steps, 9.0)
    _beside(axes, steps[-1], labels)
    axes.text(
        0.02, 0.02, "marks: the library's bound\nlines: the exact reverse\ndotted: leading term",
        transform=axes.transAxes, fontsize=LABEL,
    )  # fmt: skip


def _scales(axes: Axes, steps: Sequence[int], room: float) -> None:
    """Logarithms on both, with room for labels on the right."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(steps[0] * 0.85, steps[-1] * room)
    axes.set_xticks(steps, [str(count) for count in steps])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _guides(
    axes: Axes, steps: Sequence[int], tops: Sequence[float]
) -> list[tuple[float, str, str]]:
    """Grey lines of order 1, 2, ..., and what to write beside them."""
    ends, labels = np.array([steps[0], steps[-1]], dtype=np.float64), []
    for order, top in enumerate(tops, start=1):
        values = top * (ends / ends[0]) ** -order
        axes.plot(ends, values, color=GREY, linewidth=0.8, zorder=0)
        labels.append((float(values[-1]), f"order {order}", GREY))
    return labels


def _beside(axes: Axes, last: int, labels: list[tuple[float, str, str]]) -> None:
    """Labels on the right of the last points, moved up or down until none covers another."""
    low, high = np.log(axes.get_ylim())
    ordered = sorted(labels)
    places = np.array([(np.log(y) - low) / (high - low) for y, *_ in ordered])
    heights = APART * np.array([1 + text.count("\n") for _, text, _ in ordered])
    wanted, moved = (heights[1:] + heights[:-1]) / 2, places.copy()
    for _ in range(ROUNDS):
        short = np.maximum(wanted - np.diff(moved), 0) / 2
        moved[:-1] -= short / 2
        moved[1:] += short / 2
    for place, at, (_, text, colour) in zip(places, moved, ordered, strict=True):
        axes.annotate(
            text, (last * 1.05, float(np.exp(low + place * (high - low)))),
            xytext=(last * 1.35, float(np.exp(low + at * (high - low)))), color=colour,
            fontsize=LABEL, va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "relpos": (0.0, 0.5)},
        )  # fmt: skip
