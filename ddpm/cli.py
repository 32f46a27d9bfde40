"""The command `ddpm`. Heavy libraries are imported by the commands, not here."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ddpm.errors import InputError, check

app = typer.Typer(
    name="ddpm",
    help="Train, sample and evaluate denoising diffusion models.",
    epilog="Start with: ddpm train --data digits --run runs/first --minutes 3",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

MODEL = "Model and training, fit for the data if not given"
MACHINE = "Machine"

PROVERS = ("scipy", "hypothesis", "mpmath", "latex2mathml")
"""What the extra `verify` installs, without which no proof runs."""

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", help="auto (a GPU where there is one), cpu or cuda.", rich_help_panel=MACHINE
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same pictures.")]


def _print_version(asked: bool) -> None:
    if asked:
        from ddpm import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print it.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: ddpm train --data my-photos --run runs/photos --steps 20000")
def train(
    run: RunOption = Path("runs/digits"),
    data: Annotated[
        str | None,
        typer.Option(
            help="digits (the default), fashion-mnist, or a path: a folder of images, IDX files "
            "or an .npz file."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser updates; give this or --minutes.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="About how long to train, 3 if not given; the speed is measured first."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, bit by bit.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Key of every random number.", show_default="0")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images in an update.", show_default="by size", rich_help_panel=MODEL),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak rate.", show_default="by size", rich_help_panel=MODEL)
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option(
            help="What the network outputs: eps (the noise), x0 (the clean image), v or score.",
            show_default="eps",
            rich_help_panel=MODEL,
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="How noise grows: log_snr_linear, cosine or linear.",
            show_default="log_snr_linear",
            rich_help_panel=MODEL,
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(help="Number of noise levels T.", show_default="500", rich_help_panel=MODEL),
    ] = None,
    beta_start: Annotated[
        float | None,
        typer.Option(help="First beta of linear.", show_default="0.0001", rich_help_panel=MODEL),
    ] = None,
    beta_end: Annotated[
        float | None,
        typer.Option(help="Last beta of linear.", show_default="0.02", rich_help_panel=MODEL),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(help="Width of the U-Net.", show_default="by size", rich_help_panel=MODEL),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Of the U-Net.", show_default="0.1", rich_help_panel=MODEL)
    ] = None,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads; by default by the size of the work.", rich_help_panel=MACHINE
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option(help="Updates between checkpoints.", rich_help_panel=MACHINE)
    ] = 500,
) -> None:
    """Train a model and write checkpoints; Ctrl-C saves and says how to go on."""
    from ddpm.commands.request import Request
    from ddpm.commands.train import train_run

    request = Request(
        data=data, steps=steps, minutes=minutes, seed=seed, batch_size=batch_size,
        learning_rate=learning_rate, prediction=prediction, schedule=schedule, levels=levels,
        beta_start=beta_start, beta_end=beta_end, channels=channels, dropout=dropout,
        threads=threads,
    )  # fmt: skip
    train_run(run, request, resume=resume, device=device, checkpoint_every=checkpoint_every)


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


@app.command(epilog="Example: ddpm verify K-58..60 T-eq2")
def verify(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Ids, ranges of ids, papers (T K V L G) or subjects; default all."),
    ] = None,
    paper: Annotated[
        list[str] | None, typer.Option(help="Letter of a paper, T K V L or G; again for more.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write every formula and its proof as one page.")
    ] = None,
    accuracy: Annotated[
        bool,
        typer.Option(
            "--accuracy", help="Print the rounding errors of every coefficient instead of proofs."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Other random examples for another seed.")] = 0,
    examples: Annotated[
        int | None, typer.Option(help="Examples of each proof.", show_default="its own")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes.", show_default="cores", rich_help_panel=MACHINE)
    ] = None,
) -> None:
    """Prove every formula of the papers and refute every misprint; exit code 1 if one fails."""
    from ddpm.extras import require_extra

    require_extra("ddpm verify", "verify", *PROVERS)
    if accuracy:
        from ddpm.commands.accuracy import print_accuracy

        holds = print_accuracy(as_json)
    else:
        from ddpm.commands.verify import verify_ledger

        holds = verify_ledger(
            [*(ids or []), *(paper or [])],
            jobs=jobs, seed=seed, examples=examples, as_json=as_json, html=html,
        )  # fmt: skip
    if not holds:
        raise typer.Exit(1)


@app.command()
def figures(
    out: Annotated[Path, typer.Option(help="Folder to write the pictures to.")] = Path("figures"),
) -> None:
    """Recompute the papers' figures with the proven formulas, as PNG files."""
    from ddpm.extras import require_extra

    require_extra("ddpm figures", "verify", *PROVERS)
    from ddpm.commands.figures import draw_figures

    draw_figures(out)


@app.command(epilog="Example: ddpm bench --only step --rounds 50 --out bench")
def bench(
    only: Annotated[str, typer.Option(help="Part of the names of the operations.")] = "",
    static: Annotated[
        bool,
        typer.Option(
            "--static", help="Compile the kernels for every GPU and count, instead of timing."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of the table.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for bench.json, bench.md and bench.png.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the table of --static to this file.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Turns of each contender; medians are shown.")] = 25,
    compile_too: Annotated[
        bool,
        typer.Option("--compile/--no-compile", help="Whether torch.compile takes part."),
    ] = True,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads.", show_default="torch's", rich_help_panel=MACHINE),
    ] = None,
    processor_time: Annotated[
        bool,
        typer.Option(
            "--processor-time",
            help="Stop the clock while other processes run; with one thread.",
            rich_help_panel=MACHINE,
        ),
    ] = False,
) -> None:
    """Time every operation beside torch, torch.compile, NumPy and the peers, on equal results."""
    check(static or markdown is None, "markdown", str(markdown), "a file together with --static")
    check(not static or out is None, "out", str(out), "a folder without --static")
    if static:
        from ddpm.bench.static import print_static

        holds = print_static(as_json=as_json, markdown=markdown)
    else:
        from ddpm.commands.bench import time_operations

        holds = time_operations(
            device=device, only=only, rounds=rounds, threads=threads, compile_too=compile_too,
            processor_time=processor_time, as_json=as_json, out=out,
        )  # fmt: skip
    if not holds:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: one line and exit code 2 for bad input, 130 for Ctrl-C."""
    try:
        app()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
