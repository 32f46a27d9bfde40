"""`ddpm train`."""

from pathlib import Path
from typing import Annotated

import typer

from ddpm.cli import models
from ddpm.cli.options import (
    MACHINE,
    SPEED,
    WATCH,
    DeviceOption,
    RanksOption,
    RunOption,
    app,
    sizes,
)
from ddpm.commands.launch import launch


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
    batch_size: models.BatchSizeOption = None,
    learning_rate: models.LearningRateOption = None,
    warmup: models.WarmupOption = None,
    weight_decay: models.WeightDecayOption = None,
    preset: models.PresetOption = None,
    process: models.ProcessOption = None,
    prediction: models.PredictionOption = None,
    schedule: models.ScheduleOption = None,
    levels: models.LevelsOption = None,
    beta_start: models.BetaStartOption = None,
    beta_end: models.BetaEndOption = None,
    zero_terminal_snr: models.ZeroTerminalSnrOption = None,
    variance: models.VarianceOption = None,
    objective: models.ObjectiveOption = None,
    weighting: models.WeightingOption = None,
    bound_rate: models.BoundRateOption = None,
    level_sampling: models.LevelSamplingOption = None,
    prior: models.PriorOption = None,
    transition: models.TransitionOption = None,
    auxiliary: models.AuxiliaryOption = None,
    conditional: models.ConditionalOption = None,
    label_dropout: models.LabelDropoutOption = None,
    network: models.NetworkOption = None,
    channels: models.ChannelsOption = None,
    multipliers: models.MultipliersOption = None,
    blocks: models.BlocksOption = None,
    attention: models.AttentionOption = None,
    fourier: models.FourierOption = None,
    patch: models.PatchOption = None,
    width: models.WidthOption = None,
    depth: models.DepthOption = None,
    heads: models.HeadsOption = None,
    hidden: models.HiddenOption = None,
    latent: models.LatentOption = None,
    dropout: models.DropoutOption = None,
    decay: models.DecayOption = None,
    ema: models.EmaOption = None,
    skip_broken: Annotated[
        bool | None,
        typer.Option("--skip-broken", help="Leave out images that cannot be read, and count them."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16, of the network's passes.",
            show_default="float32",
            rich_help_panel=SPEED,
        ),
    ] = None,
    compile_network: Annotated[
        bool | None,
        typer.Option("--compile", help="torch.compile the network.", rich_help_panel=SPEED),
    ] = None,
    channels_last: Annotated[
        bool | None,
        typer.Option("--channels-last", help="Memory layout.", rich_help_panel=SPEED),
    ] = None,
    checkpoint_activations: Annotated[
        bool | None,
        typer.Option(
            "--checkpoint-activations",
            help="Less memory: compute activations twice.",
            rich_help_panel=SPEED,
        ),
    ] = None,
    accumulation: Annotated[
        int | None,
        typer.Option(
            help="Less memory: equal parts of a batch, one after the other.",
            show_default="1",
            rich_help_panel=SPEED,
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads.",
            show_default="1, for large layers OMP_NUM_THREADS or all cores",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    ranks: RanksOption = 1,
    parallel: Annotated[
        str, typer.Option(help="How ranks share the network: ddp or fsdp.", rich_help_panel=MACHINE)
    ] = "ddp",
    workers: Annotated[
        int,
        typer.Option(help="Processes that read streamed images ahead.", rich_help_panel=MACHINE),
    ] = 0,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Read images while training instead of before.",
            show_default="by size",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option(help="Updates between checkpoints.", rich_help_panel=WATCH)
    ] = 500,
    sample_every: Annotated[
        int,
        typer.Option(help="Updates between grids of samples; 0 is none.", rich_help_panel=WATCH),
    ] = 0,
    tracker: Annotated[
        str | None,
        typer.Option(help="wandb or trackio, beside TensorBoard.", rich_help_panel=WATCH),
    ] = None,
) -> None:
    """Train a model and write checkpoints; Ctrl-C saves and says how to go on."""
    launch(ranks)
    from ddpm.commands.request import Request, TrainOptions
    from ddpm.commands.train import train_run

    request = Request(
        data=data, steps=steps, minutes=minutes, seed=seed, batch_size=batch_size,
        learning_rate=learning_rate, warmup=warmup, weight_decay=weight_decay, preset=preset,
        process=process, prediction=prediction,
        variance=variance, objective=objective, weighting=weighting, bound_rate=bound_rate,
        schedule=schedule, levels=levels, level_sampling=level_sampling, beta_start=beta_start,
        beta_end=beta_end, zero_terminal_snr=zero_terminal_snr, prior=prior,
        transition=transition, auxiliary=auxiliary, conditional=conditional,
        label_dropout=label_dropout, network=network, channels=channels,
        multipliers=sizes("multipliers", multipliers), blocks=blocks,
        attention=sizes("attention", attention), fourier=sizes("fourier", fourier),
        patch=patch, width=width, depth=depth, heads=heads, hidden=sizes("hidden", hidden),
        latent=latent, dropout=dropout, threads=threads, decay=decay, ema=tuple(ema or ()),
        skip_broken=skip_broken,
        precision=precision, compile=compile_network, channels_last=channels_last,
        checkpoint_activations=checkpoint_activations, accumulation=accumulation,
    )  # fmt: skip
    options = TrainOptions(
        device=device, checkpoint_every=checkpoint_every, parallel=parallel, workers=workers,
        stream=stream, sample_every=sample_every, tracker=tracker,
    )  # fmt: skip
    train_run(run, request, options, resume=resume)
