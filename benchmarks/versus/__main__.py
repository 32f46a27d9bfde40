"""`python -m benchmarks.versus`: train one of the loops, or evaluate what they left behind."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ddpm.errors import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def train(
    loop: Annotated[str, typer.Option(help="ours, diffusers or lucidrains.")],
    minutes: Annotated[float, typer.Option(help="Processor time for updates.")],
    out: Annotated[Path, typer.Option(help="New folder for weights and record.")],
    seed: Annotated[int, typer.Option(help="Of weights and random numbers.")] = 0,
    data: Annotated[str, typer.Option(help="Name or path of square images.")] = "fashion-mnist",
    batch_size: Annotated[int, typer.Option(help="Images in an update.")] = 64,
    tuned: Annotated[bool, typer.Option("--tuned", help="A peer with our learning rate.")] = False,
) -> None:
    """Train one loop until its process has used so many minutes of processor time."""
    from benchmarks.versus.train import Request
    from benchmarks.versus.train import train as run

    run(
        Request(
            loop=loop, minutes=minutes, out=out, seed=seed, data=data, batch_size=batch_size,
            tuned=tuned,
        )
    )  # fmt: skip


@app.command()
def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="What train or ddpm train wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for rows, grids and table.md.")],
    images: Annotated[int, typer.Option(help="Test images at each level.")] = 64,
    samples: Annotated[int, typer.Option(help="Pictures to draw of each.")] = 1000,
    sampler: Annotated[str, typer.Option(help="ddim or ancestral.")] = "ancestral",
    steps: Annotated[int, typer.Option(help="Network calls of the sampler.")] = 100,
    seed: Annotated[int, typer.Option(help="Of evaluation noise and samples.")] = 0,
    weights: Annotated[str, typer.Option(help="ema, raw or both.")] = "both",
) -> None:
    """Evaluate loops alike: bits per dimension, Frechet distances, grids of samples."""
    from benchmarks.versus.evaluate import Options
    from benchmarks.versus.evaluate import evaluate as run

    options = Options(images=images, samples=samples, sampler=sampler, steps=steps, seed=seed)
    run(folders, out, ["ema", "raw"] if weights == "both" else [weights], options)


def main() -> None:
    """Entry point: one line and exit code 2 for bad input."""
    try:
        app()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
