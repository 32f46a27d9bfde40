"""`ddpm sample`, `ddpm eval` and `ddpm report`: what is done with a run."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import DeviceOption, RanksOption, RunOption, SeedOption, app
from ddpm.commands.launch import launch

EmaOption = Annotated[
    float | None,
    typer.Option(help="Rate of the averaged weights to use.", show_default="the run's main one"),
]


@app.command(epilog="Example: ddpm sample --run runs/digits --num 50000 --out pictures")
def sample(
    run: RunOption = Path("runs/digits"),
    num: Annotated[int, typer.Option(help="How many pictures.")] = 64,
    seed: SeedOption = 0,
    sampler: Annotated[str, typer.Option(help="ancestral or ddim.")] = "ancestral",
    steps: Annotated[
        int | None, typer.Option(help="Network calls per picture; default all levels.")
    ] = None,
    eta: Annotated[float, typer.Option(help="For ddim: 0 is deterministic, 1 ancestral.")] = 0.0,
    label: Annotated[
        int | None,
        typer.Option(help="Class of all pictures.", show_default="each class in turn"),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(help="How strongly to follow the class: 0 ignores it, above 1 exaggerates."),
    ] = 1.0,
    ema: EmaOption = None,
    shard_size: Annotated[
        int, typer.Option(help="Pictures in a file; more of them make a folder of such files.")
    ] = 1000,
    image_format: Annotated[
        str, typer.Option("--format", help="npz, or png for a folder of PNG files.")
    ] = "npz",
    out: Annotated[
        Path | None,
        typer.Option(
            help="PNG to write, or a folder for many; default a new name in the run's samples/."
        ),
    ] = None,
    device: DeviceOption = "auto",
    ranks: RanksOption = 1,
) -> None:
    """Draw pictures from a trained model: a PNG grid, and the grey levels in .npz files.

    Many pictures are drawn in shards; the same command again goes on where it was stopped, and
    under torchrun its processes share the work.
    """
    launch(ranks)
    from ddpm.commands.sample import Wanted, sample_run
    from ddpm.samplers.sampler import Sampler

    chosen = Sampler(name=sampler, steps=steps, eta=eta, guidance=guidance, label=label)
    wanted = Wanted(
        num=num, seed=seed, sampler=chosen, ema=ema, shard_size=shard_size, format=image_format
    )
    sample_run(run, wanted, out=out, device=device)


@app.command("eval")
def evaluate(
    run: RunOption = Path("runs/digits"),
    num: Annotated[int, typer.Option(help="How many pictures to draw and compare.")] = 360,
    seed: SeedOption = 0,
    max_images: Annotated[
        int, typer.Option(help="At most this many held-out images for the likelihood.")
    ] = 1000,
    ema: EmaOption = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="Folder of ddpm sample to compare instead of drawing pictures."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="What images are compared by: small, pixels, inception, or MODULE:ATTRIBUTE of "
            "your own; none leaves it out.",
            show_default="small, where torchmetrics is installed",
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Score a trained model: bits/dim beside baselines, and the quality of its samples."""
    from ddpm.commands.evaluate import evaluate_run

    evaluate_run(
        run, num=num, seed=seed, max_images=max_images, device=device, ema=ema, samples=samples,
        features=features,
    )  # fmt: skip


@app.command(epilog="Example: ddpm report runs/digits")
def report(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")] = Path("runs/digits"),
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.", show_default="report.html in the run")
    ] = None,
) -> None:
    """Write a run as one page: curves, samples, losses by level, figures, configuration."""
    from ddpm.commands.report import report_run

    report_run(run, out)
