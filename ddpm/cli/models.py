"""Options of `ddpm train` that shape the model and its training."""

from typing import Annotated

import typer

from ddpm.cli.options import MODEL, NETWORK, PRESETS

BatchSizeOption = Annotated[
    int | None,
    typer.Option(help="Images in an update.", show_default="by size", rich_help_panel=MODEL),
]
LearningRateOption = Annotated[
    float | None, typer.Option(help="Peak rate.", show_default="by size", rich_help_panel=MODEL)
]
WarmupOption = Annotated[
    int | None,
    typer.Option(
        help="Updates over which the rate rises.", show_default="100", rich_help_panel=MODEL
    ),
]
WeightDecayOption = Annotated[
    float | None,
    typer.Option(help="Of AdamW.", show_default="0.01, for vae 0.2", rich_help_panel=MODEL),
]
PresetOption = Annotated[
    str | None,
    typer.Option(help=f"Settings under one name, which other options change: {PRESETS}."),
]
ProcessOption = Annotated[
    str | None,
    typer.Option(
        help="gaussian diffusion, discrete diffusion of grey levels, or vae, a baseline.",
        show_default="gaussian",
        rich_help_panel=MODEL,
    ),
]
PredictionOption = Annotated[
    str | None,
    typer.Option(
        help="What the network outputs: eps (the noise), x0 (the clean image), v or score.",
        show_default="eps",
        rich_help_panel=MODEL,
    ),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        help="How noise grows: log_snr_linear, cosine, linear or learned.",
        show_default="log_snr_linear",
        rich_help_panel=MODEL,
    ),
]
LevelsOption = Annotated[
    int | None,
    typer.Option(
        help="Number of noise levels T.",
        show_default="500, for discrete 100, for untied 20",
        rich_help_panel=MODEL,
    ),
]
BetaStartOption = Annotated[
    float | None,
    typer.Option(help="First beta of linear.", show_default="0.0001", rich_help_panel=MODEL),
]
BetaEndOption = Annotated[
    float | None,
    typer.Option(help="Last beta of linear.", show_default="0.02", rich_help_panel=MODEL),
]
ZeroTerminalSnrOption = Annotated[
    bool | None,
    typer.Option(
        "--zero-terminal-snr",
        help="Leave no signal at the last level; for x0 and v.",
        rich_help_panel=MODEL,
    ),
]
VarianceOption = Annotated[
    str | None,
    typer.Option(
        help="Of the reverse steps: posterior, beta, or by the network learned, learned_range "
        "or learned_sigmoid.",
        show_default="posterior",
        rich_help_panel=MODEL,
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        help="simple (weighted squared error), hybrid (with a share of the bound, for learned "
        "variances) or vlb (the bound).",
        show_default="simple or hybrid",
        rich_help_panel=MODEL,
    ),
]
WeightingOption = Annotated[
    str | None,
    typer.Option(
        help="Of the squared error by level: simple, eps, snr_drop, min_snr, p2 or truncated.",
        show_default="simple, for score eps",
        rich_help_panel=MODEL,
    ),
]
BoundRateOption = Annotated[
    float | None,
    typer.Option(
        help="Share of the bound, for hybrid.", show_default="0.001", rich_help_panel=MODEL
    ),
]
LevelSamplingOption = Annotated[
    str | None,
    typer.Option(
        help="How training draws levels: uniform, low_discrepancy or loss_aware.",
        show_default="uniform",
        rich_help_panel=MODEL,
    ),
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        help="What noise ends as: standard, or with mean and variances of the data.",
        show_default="standard",
        rich_help_panel=MODEL,
    ),
]
TransitionOption = Annotated[
    str | None,
    typer.Option(
        help="For discrete: absorbing or uniform.",
        show_default="absorbing",
        rich_help_panel=MODEL,
    ),
]
AuxiliaryOption = Annotated[
    float | None,
    typer.Option(
        help="For discrete: share of the cross-entropy.",
        show_default="0.001",
        rich_help_panel=MODEL,
    ),
]
ConditionalOption = Annotated[
    bool | None,
    typer.Option(
        "--conditional",
        help="Tell the network the classes of labelled images.",
        rich_help_panel=MODEL,
    ),
]
LabelDropoutOption = Annotated[
    float | None,
    typer.Option(
        help="Share of the classes that are hidden, for guidance.",
        show_default="0.1",
        rich_help_panel=MODEL,
    ),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        help="unet, mlp, transformer, or untied: one for each of few levels.",
        show_default="unet",
        rich_help_panel=NETWORK,
    ),
]
ChannelsOption = Annotated[
    int | None,
    typer.Option(
        help="U-Net: channels of the largest images.",
        show_default="by size",
        rich_help_panel=NETWORK,
    ),
]
MultipliersOption = Annotated[
    str | None,
    typer.Option(
        help="U-Net: multiples of these at each halving, such as 1,2,2.",
        show_default="by size",
        rich_help_panel=NETWORK,
    ),
]
BlocksOption = Annotated[
    int | None,
    typer.Option(
        help="U-Net: residual blocks at each size.",
        show_default="by size",
        rich_help_panel=NETWORK,
    ),
]
AttentionOption = Annotated[
    str | None,
    typer.Option(
        help="U-Net: which of the sizes get attention, 0 the largest, such as 1,2.",
        show_default="the smallest",
        rich_help_panel=NETWORK,
    ),
]
FourierOption = Annotated[
    str | None,
    typer.Option(
        help="U-Net: powers n of waves sin and cos 2^n pi x that it sees too, such as 7,8.",
        show_default="none",
        rich_help_panel=NETWORK,
    ),
]
PatchOption = Annotated[
    int | None,
    typer.Option(help="Transformer: side of a patch.", show_default="2", rich_help_panel=NETWORK),
]
WidthOption = Annotated[
    int | None,
    typer.Option(
        help="MLP and transformer: units.", show_default="500 and 128", rich_help_panel=NETWORK
    ),
]
DepthOption = Annotated[
    int | None,
    typer.Option(
        help="MLP and transformer: blocks.", show_default="3 and 4", rich_help_panel=NETWORK
    ),
]
HeadsOption = Annotated[
    int | None,
    typer.Option(
        help="Transformer: heads of the attention.", show_default="4", rich_help_panel=NETWORK
    ),
]
HiddenOption = Annotated[
    str | None,
    typer.Option(
        help="Untied and vae: units of the hidden layers, such as 128,128.",
        show_default="128,128 and 500",
        rich_help_panel=NETWORK,
    ),
]
LatentOption = Annotated[
    int | None,
    typer.Option(help="Vae: latent coordinates.", show_default="16", rich_help_panel=NETWORK),
]
DropoutOption = Annotated[
    float | None,
    typer.Option(
        help="Of activations.", show_default="0.1 in a U-Net, else 0", rich_help_panel=NETWORK
    ),
]
DecayOption = Annotated[
    str | None,
    typer.Option(
        help="Of the learning rate: cosine, linear or constant.",
        show_default="cosine",
        rich_help_panel=MODEL,
    ),
]
EmaOption = Annotated[
    list[float] | None,
    typer.Option(
        help="Decay of the averaged weights; again for more averages, the first is used "
        "unless another is asked for.",
        show_default="0.999",
        rich_help_panel=MODEL,
    ),
]
