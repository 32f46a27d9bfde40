"""The application and the options that several of its commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
NETWORK = "Network"
PRESETS = "digits, fashion-mnist, cifar10 or imagenet64"
SPEED = "Speed and memory"
MACHINE = "Machine"
WATCH = "Keeping and watching"

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", help="auto (a GPU where there is one), cpu or cuda.", rich_help_panel=MACHINE
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same pictures.")]
RanksOption = Annotated[
    int,
    typer.Option(
        help="Processes that share the work, one for each GPU: torchrun starts them, and starts "
        "them again when one fails.",
        rich_help_panel=MACHINE,
    ),
]


def sizes(option: str, text: str | None) -> tuple[int, ...] | None:
    """Integers out of a text such as 1,2,2; an empty one is none of them.

    Raises:
        InputError: it is something else.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        from ddpm.errors import InputError

        raise InputError(f"{option} = {text!r}: allowed are integers, such as 1,2,2") from None
