"""How close drawn pictures come to real ones, against the number of network calls.

    ddpm train --run runs/digits --preset digits
    python -m benchmarks.sampler_quality --run runs/digits --out quality

draws the same number of pictures with every sampler and each number of network calls, writes the
Fréchet distances to `quality.json` as they come (the same command goes on where it was stopped),
and at the end prints a table and draws `quality.png`. A sampler takes as many steps as its calls
allow; it is left out where it has no table, and where a call asks for more levels than there are.
Rows whose steps have the same coefficients, as those that visit all levels, are drawn once.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator
from torch import Tensor

from ddpm.commands.trained import TrainedRun, open_run
from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.data.order import permutation
from ddpm.errors import InputError, check
from ddpm.evaluation.frechet import frechet_in_space, principal_space
from ddpm.files import write_atomically
from ddpm.kernels.streams import Stream
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.samplers.catalogue import CATALOGUE
from ddpm.samplers.sampler import Sampler

CALLS = (5, 10, 20, 50, 100, 500, 1000)
SPACED = ("ddim", "dpm-solver-2m", "heun")
"""Samplers that are also tried on levels that are not evenly spaced."""
SPACINGS = ("log_snr", "karras")
SHOWN = 10
"""Curves with a colour of their own."""


def choices(names: Sequence[str]) -> dict[str, Sampler]:
    """What is compared, by the name in the table."""
    found = {name: Sampler(name=name) for name in names}
    found |= {
        f"{name}, {spacing}": Sampler(name=name, spacing=spacing)
        for name in SPACED
        for spacing in SPACINGS
    }
    return found


def for_calls(run: TrainedRun, sampler: Sampler, calls: int) -> Sampler | None:
    """The sampler with the most steps that take no more calls; None where it has no such."""
    levels = run.trained.levels
    for steps in (calls, (calls + 1) // 2, calls // 2):
        if not 1 <= steps <= levels:
            continue
        chosen = Sampler(name=sampler.name, spacing=sampler.spacing, steps=steps)
        try:
            if run.trained.check(chosen) in (calls, calls - 1):
                return chosen
        except InputError:
            return None
    return None


def distance(pictures: Tensor, data: ImageData) -> float:
    """Fréchet distance to the test images in the main directions of the training images."""
    return frechet_in_space(principal_space(data.train), pictures, data.test)


def real_distance(data: ImageData, num: int) -> float:
    """The distance of as many training images, drawn without replacement."""
    order = permutation(len(data.train), 0, 0, Stream.EVALUATION_NOISE)
    return distance(data.train[order[:num]], data)


def missing(
    run: TrainedRun,
    calls: Sequence[int],
    compared: dict[str, Sampler],
    found: dict[str, dict[str, float]],
) -> Iterator[tuple[str, int, Sampler]]:
    """What has not been measured yet, the cheap ones first."""
    for count in calls:
        for name, sampler in compared.items():
            chosen = for_calls(run, sampler, count)
            if chosen is not None and str(count) not in found.get(name, {}):
                yield name, count, chosen


def as_measured(
    run: TrainedRun, sampler: Sampler, calls: int, found: dict[str, dict[str, float]]
) -> float | None:
    """The distance of a row whose steps are the same, number for number; None without such."""
    mine = steps_of(run, sampler)
    if mine is None:
        return None
    for name, row in found.items():
        bare, _, spacing = name.partition(", ")
        other = Sampler(name=bare, spacing=spacing or Sampler().spacing)
        chosen = for_calls(run, other, calls) if str(calls) in row else None
        if chosen is not None and steps_of(run, chosen) == mine:
            return row[str(calls)]
    return None


def steps_of(run: TrainedRun, sampler: Sampler) -> tuple[object, ...] | None:
    """All that a sampler's loop reads, as something to compare; None where there is no table."""
    if not isinstance(run.trained, TrainedGaussian):
        return None
    steps = run.trained.table(sampler)
    rows = (steps.coefficients.tolist(), steps.draws.tolist() if steps.noisy else None)
    return *rows, steps.path, steps.reads_history, steps.learned


def table(found: dict[str, dict[str, float]], calls: Sequence[int], real: float) -> str:
    """The distances as a table without empty columns, the closest of each column in bold."""
    calls = [n for n in calls if any(str(n) in row for row in found.values())]
    best = {n: min(row[str(n)] for row in found.values() if str(n) in row) for n in calls}
    lines = [
        f"| Fréchet distance, real images {written(real)} | "
        + " | ".join(f"{n}" for n in calls)
        + " |",
        "| --- |" + " ---: |" * len(calls),
    ]
    for name, row in found.items():
        cells = []
        for n in calls:
            value = row.get(str(n))
            text = "" if value is None else written(value)
            cells.append(f"**{text}**" if value == best[n] else text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written(value: float) -> str:
    """A distance with at least three digits, and no more than it has of use."""
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def plot(path: Path, found: dict[str, dict[str, float]], real: float) -> None:
    """Write a PNG of the distances against the calls, both on logarithmic scales."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, (name, row) in enumerate(found.items()):
        points = sorted((int(n), value) for n, value in row.items())
        style = ("o-", "s--", "^:")[i // SHOWN]
        axes.plot(*zip(*points, strict=True), style, color=f"C{i % SHOWN}", label=name, ms=4)
    axes.axhline(real, color="black", lw=1, ls="-.", label="real images")
    axes.set(xscale="log", yscale="log", xlabel="network calls", ylabel="Fréchet distance")
    measured = sorted({int(n) for row in found.values() for n in row})
    axes.xaxis.set(major_locator=FixedLocator(measured), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), minor_formatter=NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)


def main(
    run: Annotated[Path, typer.Option(help="A trained run.")],
    out: Annotated[Path, typer.Option(help="Name of the files to write, without ending.")],
    num: Annotated[int, typer.Option(help="Pictures for each distance.")] = 500,
    most: Annotated[int, typer.Option(help="Most network calls.")] = 1000,
    seed: Annotated[int, typer.Option(help="Key of the pictures.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Rows to measure; default all.")] = None,
) -> None:
    """Measure what is missing, then print the table and draw the plot."""
    check(num >= 2, "num", num, "an integer of at least 2")
    torch.set_num_threads(1)
    opened = open_run(run, "cpu")
    compared = choices([name for name in opened.trained.samplers if name in CATALOGUE])
    for name in only or ():
        check(name in compared, "only", name, "; ".join(compared))
    compared = {name: each for name, each in compared.items() if not only or name in only}
    data = load_images(opened.config.data)
    record = {"run": run.name, "weights": opened.fingerprint(), "num": num, "seed": seed}
    path = out.with_suffix(".json")
    kept: dict[str, Any] = {**record, "distances": {}}
    if path.exists():
        kept = json.loads(path.read_text())
    same = {name: kept.get(name) for name in record} == record
    check(same, "out", str(out), "a new name, or the figures of the same run, number and seed")
    found: dict[str, dict[str, float]] = kept["distances"]
    calls = [n for n in CALLS if n <= min(most, 2 * opened.trained.levels)]
    for name, count, sampler in missing(opened, calls, compared, found):
        value = as_measured(opened, sampler, count, found)
        if value is None:
            value = distance(opened.draw(num, seed, sampler), data)
        found.setdefault(name, {})[str(count)] = value
        write_atomically(path, (json.dumps(kept, indent=2) + "\n").encode())
    real = real_distance(data, num)
    print(table(found, calls, real))
    plot(out.with_suffix(".png"), found, real)


if __name__ == "__main__":
    typer.run(main)
