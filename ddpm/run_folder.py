"""A run is a folder: configuration, metrics, checkpoints, samples, evaluation."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddpm.checkpoint import checkpoints
from ddpm.config import RunConfig, from_json, to_json
from ddpm.errors import InputError
from ddpm.files import write_atomically

LOCK = ".lock"


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
        if self.path.is_dir() and all(entry.name == LOCK for entry in self.path.iterdir()):
            return
        if self.path.exists():
            what = "already exists and is not a run"
            if self.exists:
                what = "already holds a run; add --resume to go on with it"
            raise InputError(f"run = {self.path}: {what}; allowed is a new or an empty folder")

    def create(self, config: RunConfig) -> None:
        """Start a run by writing its configuration.

        Raises:
            InputError: the folder is not free.
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
        return from_json(self.config_file.read_bytes(), self.config_file)

    def last_checkpoint(self) -> Path:
        """The latest checkpoint.

        Raises:
            InputError: there is none yet.
        """
        found = checkpoints(self.checkpoints)
        if not found:
            raise InputError(f"run = {self.path}: holds no checkpoint yet; train it first")
        return found[-1]

    def append_metrics(self, record: dict[str, float]) -> None:
        """Add one line to metrics.jsonl."""
        with self.metrics_file.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Drop the lines after a step, which a resumed run is going to write again."""
        if not self.metrics_file.exists():
            return
        lines = self.metrics_file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_atomically(self.metrics_file, "".join(kept).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for one training process.

        Raises:
            InputError: another process is training it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"run = {self.path}: another process is training it") from None
            yield
