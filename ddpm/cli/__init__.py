"""The command `ddpm`. Heavy libraries are imported by the commands, not here."""

import sys
from typing import Annotated

import typer

from ddpm.cli import proofs, samplers, trained, training
from ddpm.cli.options import app
from ddpm.commands.launch import leave, refuse
from ddpm.errors import InputError

__all__ = ["app", "main", "proofs", "samplers", "trained", "training"]


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


def main() -> None:
    """Entry point: one line and exit code 2 for bad input, 130 for Ctrl-C."""
    try:
        app()
    except SystemExit as stop:
        leave(stop.code)
    except InputError as error:
        refuse(error)
    except OSError as error:
        # A disk that is full, a folder that cannot be written: where nothing closer has named it.
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{error.strerror}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
