"""`ddpm verify`, `ddpm figures` and `ddpm bench`: what is proven and measured."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli.options import MACHINE, DeviceOption, app
from ddpm.errors import check

PROVERS = ("scipy", "hypothesis", "mpmath", "latex2mathml")
"""What the extra `verify` installs, without which no proof runs."""


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
    training: Annotated[
        bool,
        typer.Option("--training", help="Time whole training loops around one network instead."),
    ] = False,
    data: Annotated[str, typer.Option(help="Images of --training.")] = "fashion-mnist",
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
    timed = not (static or training)
    check(timed or out is None, "out", str(out), "a folder without --static or --training")
    check(not (static and training), "training", training, "one of --static and --training")
    if training:
        from ddpm.commands.bench_training import time_training

        time_training(data=data, device=device, rounds=rounds, threads=threads, as_json=as_json)
        holds = True
    elif static:
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
