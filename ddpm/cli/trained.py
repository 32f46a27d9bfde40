"""`ddpm sample` and `ddpm eval`: what is done with a trained run."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import DeviceOption, RunOption, SeedOption, app


@app.command()
def sample(
    run: RunOption = Path("runs/digits"),
    num: Annotated[int, typer.Option(help="How many pictures.")] = 64,
    seed: SeedOption = 0,
    sampler: Annotated[str, typer.Option(help="ancestral or ddim.")] = "ancestral",
    steps: Annotated[
        int | None, typer.Option(help="Network calls per picture; default all levels.")
    ] = None,
    eta: Annotated[float, typer.Option(help="For ddim: 0 is deterministic, 1 ancestral.")] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="PNG to write; default a new name in the run's samples/.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw pictures from a trained model: a PNG grid, and an .npz with the grey levels."""
    from ddpm.commands.sample import sample_run

    sample_run(
        run, num=num, seed=seed, sampler=sampler, steps=steps, eta=eta, out=out, device=device
    )


@app.command("eval")
def evaluate(
    run: RunOption = Path("runs/digits"),
    num: Annotated[int, typer.Option(help="How many pictures to draw and compare.")] = 360,
    seed: SeedOption = 0,
    max_images: Annotated[
        int, typer.Option(help="At most this many held-out images for the likelihood.")
    ] = 1000,
    device: DeviceOption = "auto",
) -> None:
    """Score a trained model: bits/dim beside baselines, and the quality of its samples."""
    from ddpm.commands.evaluate import evaluate_run

    evaluate_run(run, num=num, seed=seed, max_images=max_images, device=device)
