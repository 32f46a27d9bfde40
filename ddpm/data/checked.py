"""What a look through many pictures showed, kept so that a resumed run need not look again."""

import hashlib
import json
import os
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from ddpm.data.album import Survey
from ddpm.errors import InputError
from ddpm.files import write_atomically

VERSION = 1
"""Changes when decoding changes."""
MOST_BYTES = 1 << 28


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    count: int
    shape: tuple[int, int, int]
    mixed: bool
    broken: tuple[int, ...]
    names: tuple[str, ...]
    digest: str


def recall(fingerprint: str | None) -> tuple[Survey, str] | None:
    """What was found earlier on pictures of this fingerprint: the survey and the checksum."""
    if fingerprint is None:
        return None
    try:
        path = _path(fingerprint)
        if path.stat().st_size > MOST_BYTES:
            return None
        kept = _Kept.model_validate_json(path.read_bytes())
    except (OSError, RuntimeError, ValidationError):
        return None
    good = torch.ones(max(kept.count, 0), dtype=torch.bool)
    good[[place for place in kept.broken if 0 <= place < kept.count]] = False
    survey = Survey(kept.shape, kept.mixed, good.nonzero()[:, 0], kept.names)
    return survey, kept.digest


def remember(fingerprint: str | None, seen: Survey, digest: str) -> None:
    """Keep what was found; where that is impossible it is found again next time."""
    if fingerprint is None:
        return
    count = len(seen.kept) + len(seen.skipped)
    good = torch.zeros(count, dtype=torch.bool)
    good[seen.kept] = True
    broken = (~good).nonzero()[:, 0].tolist()
    content = {
        "count": count,
        "shape": seen.shape,
        "mixed": seen.mixed,
        "broken": broken,
        "names": seen.skipped,
        "digest": digest,
    }
    try:
        write_atomically(_path(fingerprint), json.dumps(content).encode())
    except (InputError, OSError, RuntimeError, ValueError):
        return


def _path(fingerprint: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    cache = Path(root) if root else Path.home() / ".cache"
    key = hashlib.sha256(f"{VERSION} {fingerprint}".encode()).hexdigest()[:32]
    return cache / "ddpm" / "checked" / f"{key}.json"
