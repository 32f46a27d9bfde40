"""Weights & Biases and Trackio, for those who have one of them: the same curves and pictures.

Both are asked only for the calls that they have in common. Neither is imported before it is used.
"""

import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ddpm.errors import InputError, check
from ddpm.extras import require_extra
from ddpm.files import write_atomically
from ddpm.runs.run_folder import RunFolder

NAMES = ("wandb", "trackio")
PROJECT = "ddpm"
IDENTITY = "tracker.json"
"""File of a run that holds its name at a service, so that a resumed run goes on there."""


def check_tracker(name: str) -> None:
    """Refuse a tracker that is unknown or not installed.

    Raises:
        InputError: saying what is allowed, or how to install it.
    """
    check(name in NAMES, "tracker", name, ", ".join(NAMES))
    require_extra(f"tracker = {name!r}", name, name)


class Tracker:
    """A run at a service.

    A run is worth more than its curves elsewhere: where the service fails on the way, a warning
    says so once, and the run goes on without it.

    Args:
        name: "wandb" or "trackio". Its environment variables hold as its documentation says; so
            WANDB_MODE=offline sends nothing, and WANDB_PROJECT or TRACKIO_PROJECT replace "ddpm".
        folder: The run, whose configuration has been written.

    Raises:
        InputError: the service is unknown, not installed, or refuses to begin.
    """

    def __init__(self, name: str, folder: RunFolder) -> None:
        check_tracker(name)
        self.name = name
        self.lost = False
        begin = _begin(name, folder)
        self.module: Any = import_module(name)
        # What a service raises is its own affair, and no type of it is common to both.
        try:
            self.module.init(**begin)
        except Exception as error:
            raise InputError(f"tracker = {name!r}: it does not begin: {error}") from None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the numbers of an update."""
        self._attempt(lambda: self.module.log(dict(values), step=step))

    def picture(self, step: int, pixels: NDArray[np.uint8]) -> None:
        """Send the samples of an update, one picture uint8 RGB [height, width, 3]."""
        self._attempt(lambda: self.module.log({"samples": self.module.Image(pixels)}, step=step))

    def close(self) -> None:
        """Send what is left, and end."""
        self._attempt(lambda: self.module.finish())

    def _attempt(self, call: Callable[[], object]) -> None:
        if self.lost:
            return
        try:
            call()
        except Exception as error:
            self.lost = True
            warnings.warn(
                f"{self.name} failed and gets nothing more of this run: {error}",
                RuntimeWarning,
                stacklevel=3,
            )


def _begin(name: str, folder: RunFolder) -> dict[str, Any]:
    """Arguments that begin a run at a service, or go on with it there."""
    arguments = {
        "project": os.environ.get(f"{name.upper()}_PROJECT", PROJECT),
        "config": dataclasses.asdict(folder.config()),
        "resume": "allow",
    }
    title, identity = folder.path.resolve().name, _identity(folder)
    if name == "wandb":
        return arguments | {"name": title, "id": identity, "dir": str(folder.path)}
    # Trackio knows a run by its name alone.
    return arguments | {"name": f"{title}-{identity}"}


def _identity(folder: RunFolder) -> str:
    """What this run is called at services; drawn once, and kept in the run.

    Raises:
        InputError: the file that keeps it is damaged.
    """
    file = folder.path / IDENTITY
    if not file.exists():
        write_atomically(file, (json.dumps({"id": uuid4().hex[:12]}) + "\n").encode())
    try:
        content = json.loads(file.read_bytes())
        identity = content["id"]
    except (ValueError, TypeError, KeyError):
        identity = None
    if not isinstance(identity, str) or not identity.isalnum():
        raise InputError(f"{file}: holds no id; remove it to begin anew at the service")
    return identity
