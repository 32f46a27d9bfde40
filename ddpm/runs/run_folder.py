"""A run is a folder: configuration, metrics, checkpoints, samples, evaluation."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

from ddpm.config import RunConfig, from_json, to_json
from ddpm.errors import InputError
from ddpm.files import (
    STALE_SECONDS,
    free_path,
    is_partial,
    read_plain,
    reading,
    remove_partials,
    write_atomically,
    writing,
)
from ddpm.runs.checkpoint import checkpoints

LOCK = ".lock"
JOB = ".job"
"""Says which torchrun job began the run, so that a restart of it goes on with the run."""
CONFIG_LIMIT = 1 << 20
"""Bytes of a configuration; a real one has two thousand."""
METRICS_LIMIT = 1 << 31
"""Bytes of metrics.jsonl, enough for a hundred million updates."""


class RunFolder:
    """Paths and rules of a run.

    Args:
        path: The folder; nothing is created before `create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.tensorboard = path / "tensorboard"
        self.evaluation_file = path / "eval.json"

    @property
    def exists(self) -> bool:
        """Whether the folder already holds a run."""
        return self.config_file.exists()

    def check_free(self) -> None:
        """Refuse a folder that something else lives in.

        Raises:
            InputError: the path is a file, or a folder that is not empty.
        """
        with reading(self.path):
            # A process killed before it wrote the configuration leaves these alone.
            if self.path.is_dir() and all(
                entry.name in (LOCK, JOB) or is_partial(entry) for entry in self.path.iterdir()
            ):
                return
            if not self.path.exists():
                return
        what = "already exists and is not a run"
        if self.exists:
            what = "already holds a run; add --resume to go on with it"
        raise InputError(f"run = {self.path}: {what}; allowed is a new or an empty folder")

    def create(self, config: RunConfig) -> None:
        """Start a run by writing its configuration.

        Raises:
            InputError: the folder is not free, or cannot be written to.
        """
        self.check_free()
        write_atomically(self.config_file, to_json(config).encode())

    def config(self) -> RunConfig:
        """Read the configuration.

        Raises:
            InputError: there is no run here, or its configuration is broken.
        """
        if not self.exists:
            raise InputError(f"run = {self.path}: holds no config.json; allowed is a run folder")
        return from_json(read_plain(self.config_file, CONFIG_LIMIT), self.config_file)

    def last_checkpoint(self) -> Path:
        """The latest checkpoint.

        Raises:
            InputError: there is none yet.
        """
        found = checkpoints(self.checkpoints)
        if not found:
            raise InputError(f"run = {self.path}: holds no checkpoint yet; train it first")
        return found[-1]

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl.

        Raises:
            InputError: it cannot be written.
        """
        with writing(self.metrics_file), self.metrics_file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def rewind_metrics(self, step: int) -> Path | None:
        """Drop the lines after a step, which a resumed run is going to write again.

        The last line may have been cut short by a kill and is dropped too. Any other line that no
        run has written is dropped only after the whole file was copied to a free name.

        Returns:
            The copy, or None where none was needed.

        Raises:
            InputError: the file cannot be read or written.
        """
        if not self.metrics_file.exists():
            return None
        content = read_plain(self.metrics_file, METRICS_LIMIT)
        lines = [line + b"\n" for line in content.split(b"\n")[:-1]]
        steps = [step_of(line) for line in lines]
        kept = [
            line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step
        ]
        copy = free_path(self.metrics_file) if None in steps else None
        if copy is not None:
            write_atomically(copy, content)
        write_atomically(self.metrics_file, b"".join(kept))
        return copy

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for one training process, and clear away what killed ones left.

        Raises:
            InputError: another process is training it, or the folder cannot be written to.
        """
        with writing(self.path / LOCK):
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / LOCK).open("wb")
        with file:
            _lock(file, self.path)
            remove_partials(self.path, self.config_file.name, self.metrics_file.name)
            remove_partials(self.checkpoints)
            # Evaluation writes into the folder too, without the lock.
            remove_partials(self.path, older_than=STALE_SECONDS)
            yield


def _lock(file: IO[bytes], run: Path) -> None:
    with writing(run / LOCK):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"run = {run}: another process is training it") from None
    _held.add(file)


_held: WeakSet[IO[bytes]] = WeakSet()
"""Locks of this process. A worker process that it forks would hold them on after it was killed."""


def _let_go() -> None:
    for file in list(_held):
        file.close()


os.register_at_fork(after_in_child=_let_go)


def step_of(line: bytes) -> int | None:
    """The update that a line of metrics.jsonl is about, or None where it is no such line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return step if type(step) is int else None
