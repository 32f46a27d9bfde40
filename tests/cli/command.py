"""Running `ddpm` inside a test: in this process where that is enough, as a real one where not."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ddpm.cli import main

SMALL = ["--channels", "4", "--levels", "10", "--batch-size", "16", "--dropout", "0.1"]
"""Options of a run that trains in a second."""


def run_here(*arguments: str | Path) -> int:
    """Exit code of a command run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ddpm", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    command: Sequence[str] = [sys.executable, "-m", "ddpm", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def everything_below(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, to see that nothing was written."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
