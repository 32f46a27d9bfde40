"""What metrics.jsonl tells, whatever version wrote it and whatever happened to it since."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.files import reading
from ddpm.runs.metrics import BUCKETS

CURVES = ("seconds", "loss", "gradient_norm", "learning_rate", "ema_decay", "images_per_second")
MOST_STEPS = 2**53
LIMIT = 1e100
"""Size from which a number is no measurement; below, sums and differences stay finite."""

Values = Sequence[float | None]


@dataclass(frozen=True)
class History:
    """The lines of a run.

    Attributes:
        steps: Updates of the lines.
        curves: For each name of CURVES, one value a line, None where there is none.
        by_level: For each bucket of levels, one value a line.
        unread: Number of lines that could not be read.
    """

    steps: Sequence[int]
    curves: dict[str, Values]
    by_level: Sequence[Values]
    unread: int

    def last(self, name: str) -> float | None:
        """The latest value of a curve that is known."""
        return next((value for value in reversed(self.curves[name]) if value is not None), None)


def read_history(file: Path) -> History:
    """Read metrics.jsonl; a missing file is an empty one, a damaged line is left out and counted.

    Raises:
        InputError: the file cannot be opened.
    """
    with reading(file):
        lines = file.read_bytes().splitlines() if file.exists() else []
    read = [record for line in lines if (record := _record(line)) is not None]
    return History(
        steps=[record["step"] for record in read],
        curves={name: [number(record.get(name)) for record in read] for name in CURVES},
        by_level=list(zip(*(_buckets(record) for record in read), strict=True)),
        unread=len(lines) - len(read),
    )


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if type(step) is int and 0 <= step < MOST_STEPS else None


def _buckets(record: dict[str, Any]) -> Values:
    """Losses by bucket of a line; lines of the first version have none."""
    values = record.get("loss_by_level")
    if not isinstance(values, list) or len(values) != BUCKETS:
        return [None] * BUCKETS
    return [number(value) for value in values]


def number(value: object) -> float | None:
    """What was read from JSON as a number, None where it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Compared as it is, since an integer may be too large for a float; False for what is no number.
    return float(value) if -LIMIT < value < LIMIT else None
