"""Which torchrun job began a run, so that the ranks it restarts go on with it."""

import os
import socket
from pathlib import Path

from ddpm.files import read_plain, write_atomically
from ddpm.runs.run_folder import JOB, RunFolder

LIMIT = 1 << 12
"""Bytes of the name of a job."""


def this_job() -> str | None:
    """A name of the torchrun job that this process belongs to, or None without torchrun.

    It is the same after a restart: the name that the job was given, or else its agent, which is the
    parent of every rank and outlives them.
    """
    given = os.environ.get("TORCHELASTIC_RUN_ID")
    if given is None:
        return None
    if given != "none":
        return f"job {given}"
    agent = os.getppid()
    return f"agent {agent} of {socket.gethostname()} begun at {_start(agent)}"


def note_job(folder: RunFolder) -> None:
    """Write down which job begins a run; without torchrun there is nothing to write."""
    job = this_job()
    if job is not None:
        write_atomically(folder.path / JOB, job.encode())


def was_begun_here(folder: RunFolder) -> bool:
    """Whether the run was begun by the job of this process, before it was restarted."""
    file, job = folder.path / JOB, this_job()
    return job is not None and file.exists() and read_plain(file, LIMIT) == job.encode()


def _start(process: int) -> str:
    """When a process began, in ticks since the machine did; numbers of processes are used again."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "an unknown time"
