"""What a run was trained with: versions and machine of every session, kept in the run."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ddpm.files import keep_old, write_atomically
from ddpm.runs.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Session:
    """One start of the training of a run."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    from_update: int
    """Updates that had been done before."""
    device: str
    """Name of the device of the first rank."""
    ranks: int
    """Processes that trained together."""
    ddpm: str
    """Version of this package."""
    torch: str
    """Version of torch."""
    python: str
    """Version of Python."""
    system: str
    """Operating system and processor."""


def environment_file(folder: RunFolder) -> Path:
    """Where the sessions of a run are kept."""
    return folder.path / "environment.json"


def note_session(folder: RunFolder, step: int, device: torch.device, ranks: int) -> None:
    """Add this process to the sessions of a run.

    Sessions that began where this one begins, or later, left nothing behind and are forgotten. A
    file that cannot be read is moved aside.

    Args:
        folder: The run.
        step: Updates done before.
        device: Where this rank computes.
        ranks: Number of processes.
    """
    file = environment_file(folder)
    earlier = sessions(folder)
    if earlier is None:
        keep_old(file)
    kept = [session for session in earlier or [] if session.from_update < step]
    listed = [asdict(session) for session in [*kept, _this_session(step, device, ranks)]]
    write_atomically(file, (json.dumps(listed, indent=2) + "\n").encode())


def sessions(folder: RunFolder) -> list[Session] | None:
    """Sessions of a run in their order; None where the file cannot be read."""
    file = environment_file(folder)
    if not file.exists():
        return []
    try:
        return TypeAdapter(list[Session]).validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _this_session(step: int, device: torch.device, ranks: int) -> Session:
    from ddpm import __version__

    cuda = device.type == "cuda"
    return Session(
        from_update=step,
        device=torch.cuda.get_device_name(device) if cuda else device.type,
        ranks=ranks,
        ddpm=__version__,
        torch=str(torch.__version__),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
    )
