"""How close pictures come to real ones where the sampler chooses its own steps.

    ddpm train --run runs/digits --preset digits
    python -m benchmarks.adaptive_quality --run runs/digits --num 2000

prints a row for each sampler and tolerance as it comes, with the network calls that a picture took
on average: the solvers choose one step for all pictures of a batch. Distances and real images are
those of `benchmarks.sampler_quality`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from benchmarks.sampler_quality import distance, real_distance, written
from ddpm.commands.trained import BATCH, TrainedRun, check_draw, open_run
from ddpm.data.images import to_levels
from ddpm.data.load import load_images
from ddpm.errors import InputError, check
from ddpm.keys import Key
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.samplers.adaptive import AdaptiveState, ode_progressive, sde_progressive
from ddpm.samplers.adaptive_catalogue import ADAPTIVE, check_adaptive
from ddpm.samplers.sampler import Sampler
from ddpm.samplers.solvers import check_tolerances

TOLERANCES = (0.1, 0.03, 0.01, 0.001)


def states(
    trained: TrainedGaussian, name: str, tolerance: float, x: Tensor, key: Key
) -> Iterator[AdaptiveState]:
    """The states of a batch at levels 1 and 0, from noise x [B, C, H, W] at level T."""
    process, network, levels = trained.diffusion, trained.model, [trained.levels, 1, 0]
    if name == "ode-adaptive":
        return ode_progressive(process, network, x, levels, rtol=tolerance, atol=tolerance)
    return sde_progressive(process, network, x, key, levels, rtol=tolerance, atol=tolerance)


def draw(run: TrainedRun, name: str, tolerance: float, num: int, seed: int) -> tuple[Tensor, float]:
    """Pictures 0..num-1 of a seed, uint8 [num, C, H, W], and the mean of their network calls."""
    trained, parts, calls = run.trained, [], 0
    if not isinstance(trained, TrainedGaussian) or trained.classes:
        raise InputError(f"run = {run.folder.path}: allowed is Gaussian diffusion without classes")
    check_adaptive(Sampler(name=name), trained.diffusion, trained.model)
    for first in range(0, num, BATCH):
        batch = range(first, min(num, first + BATCH))
        key = Key.of(seed, batch, device=run.device)
        x = trained.initial((len(batch), *run.config.image_shape), key)
        *_, last = states(trained, name, tolerance, x, key)
        parts.append(to_levels(last.x.cpu(), run.config.grey_levels))
        calls += last.calls * len(batch)
    return torch.cat(parts), calls / num


def main(
    run: Annotated[Path, typer.Option(help="A trained run.")],
    num: Annotated[int, typer.Option(help="Pictures for each distance.")] = 500,
    seed: Annotated[int, typer.Option(help="Key of the pictures.")] = 0,
    sampler: Annotated[list[str] | None, typer.Option(help="Which; default both.")] = None,
    tolerance: Annotated[
        list[float] | None, typer.Option(help="Of a step, relative and absolute.")
    ] = None,
) -> None:
    """Print distances and calls of every tolerance, as rows of a table."""
    names, tolerances = sampler or list(ADAPTIVE), tolerance or list(TOLERANCES)
    check_draw(num, seed)
    check(num >= 2, "num", num, "an integer of at least 2")
    for name in names:
        check(name in ADAPTIVE, "sampler", name, ", ".join(ADAPTIVE))
    for each in tolerances:
        check_tolerances(each, each, "dopri5")
    torch.set_num_threads(1)
    opened = open_run(run, "cpu")
    data = load_images(opened.config.data)
    real = written(real_distance(data, num))
    print(f"| sampler | tolerance | network calls | Fréchet distance, real images {real} |")
    print("| --- | ---: | ---: | ---: |", flush=True)
    for name in names:
        for each in tolerances:
            pictures, calls = draw(opened, name, each, num, seed)
            row = f"| {name} | {each:g} | {calls:.0f} | {written(distance(pictures, data))} |"
            print(row, flush=True)


if __name__ == "__main__":
    typer.run(main)
