"""`ddpm sample`, `ddpm eval` and `ddpm report`: what is done with a run."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import DeviceOption, RanksOption, RunOption, SeedOption, app, sizes
from ddpm.commands.launch import launch

EmaOption = Annotated[
    float | None,
    typer.Option(help="Rate of the averaged weights to use.", show_default="the run's main one"),
]


HOW = "How to draw"
WHAT = "What to draw"


@app.command(epilog="Example: ddpm sample --run runs/digits --num 50000 --out pictures")
def sample(
    run: RunOption = Path("runs/digits"),
    num: Annotated[int, typer.Option(help="How many pictures.")] = 64,
    seed: SeedOption = 0,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="One of those that ddpm samplers lists.",
            show_default="the model's usual one",
            rich_help_panel=HOW,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Levels to visit, 1 to T; some samplers call the network twice for each.",
            show_default="all T; 50 of the usual sampler",
            rich_help_panel=HOW,
        ),
    ] = None,
    spacing: Annotated[
        str,
        typer.Option(
            help="Where they lie: trailing, leading, uniform, quadratic, log_snr or karras.",
            rich_help_panel=HOW,
        ),
    ] = "trailing",
    levels: Annotated[
        str | None,
        typer.Option(
            help="The levels themselves, down to 0, such as 500,100,10,0; in place of --steps.",
            show_default=False,
            rich_help_panel=HOW,
        ),
    ] = None,
    eta: Annotated[
        float,
        typer.Option(help="For ddim: 0 is deterministic, 1 ancestral.", rich_help_panel=HOW),
    ] = 0.0,
    variance: Annotated[
        str | None,
        typer.Option(
            help="For ancestral: posterior, beta, or the learned one.",
            show_default="as trained",
            rich_help_panel=HOW,
        ),
    ] = None,
    sde: Annotated[
        str | None,
        typer.Option(
            help="Equation of a solver that has several: vp, ve or sub-vp.",
            show_default="the sampler's own",
            rich_help_panel=HOW,
        ),
    ] = None,
    label: Annotated[
        int | None,
        typer.Option(
            help="Class of all pictures.", show_default="each class in turn", rich_help_panel=WHAT
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            help="How strongly to follow the class: 0 ignores it, above 1 exaggerates.",
            rich_help_panel=WHAT,
        ),
    ] = 1.0,
    ilvr: Annotated[
        Path | None,
        typer.Option(
            help="Picture whose coarse part the samples take over (ILVR), or a folder or .npz file "
            "of some, taken in turn.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    ilvr_factor: Annotated[
        int | None,
        typer.Option(
            help="Side of the squares of pixels whose means are that coarse part.",
            show_default="4",
            rich_help_panel=WHAT,
        ),
    ] = None,
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
    trajectory: Annotated[
        bool,
        typer.Option(
            "--trajectory",
            help="Also keep the way there: an animated GIF, a PNG of some levels, and all states "
            "as .npz.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    ranks: RanksOption = 1,
) -> None:
    """Draw pictures from a trained model: a PNG grid, and the grey levels in .npz files.

    `ddpm samplers` lists the samplers, with their cost and when to use them.
    Many pictures are drawn in shards; the same command again goes on where it was stopped, and
    under torchrun its processes share the work.
    """
    launch(ranks)
    from ddpm.commands.reference import open_reference
    from ddpm.commands.sample import Wanted, sample_run
    from ddpm.samplers.sampler import Sampler

    chosen = Sampler(
        name=Sampler.name if sampler is None else sampler, steps=steps, spacing=spacing,
        levels=sizes("levels", levels), eta=eta, variance=variance, sde=sde, guidance=guidance,
        label=label, ilvr=open_reference(ilvr, ilvr_factor),
    )  # fmt: skip
    wanted = Wanted(
        num=num, seed=seed, sampler=chosen, usual=sampler is None, ema=ema, shard_size=shard_size,
        format=image_format, trajectory=trajectory,
    )  # fmt: skip
    sample_run(run, wanted, out=out, device=device)


@app.command("eval")
def evaluate(
    run: RunOption = Path("runs/digits"),
    num: Annotated[int, typer.Option(help="How many pictures to draw and compare.")] = 360,
    seed: SeedOption = 0,
    likelihood: Annotated[
        str,
        typer.Option(
            help="vlb: the variational bound; ode: beside it the exact density of the probability "
            "flow, of images dequantised by the noise of level 1."
        ),
    ] = "vlb",
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
        features=features, likelihood_by=likelihood,
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
