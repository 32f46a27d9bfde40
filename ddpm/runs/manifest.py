"""The list of a checkpoint's files: what each must contain, and that nothing else is there."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.errors import InputError
from ddpm.files import read_plain, reading, writing

MANIFEST = "checkpoint.json"
MANIFEST_LIMIT = 1 << 24
"""Bytes of a manifest, enough for a hundred thousand shards."""
SUFFIX = ".safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names of parts and files; none that climbs out of the folder, hides, or steers a terminal."""
STEP = re.compile(r"step-([0-9]{1,18})")


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    Attributes:
        step: Optimiser updates done.
        seconds: Time spent training so far.
        sums: SHA-256 of every file by its path inside the checkpoint.
    """

    step: int
    seconds: float
    sums: Mapping[str, str]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in alphabetical order."""
        tops = (name.partition("/")[0] for name in self.sums)
        return tuple(sorted({top.removesuffix(SUFFIX) for top in tops}))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the list of a checkpoint's files.

    Raises:
        InputError: it cannot be written.
    """
    content = {"step": manifest.step, "seconds": manifest.seconds, "sha256": dict(manifest.sums)}
    with writing(folder / MANIFEST):
        (folder / MANIFEST).write_text(_text(content), "utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read what a checkpoint says of itself, without looking at its other files.

    Raises:
        InputError: the manifest is missing, changed, or that of another checkpoint.
    """
    path = folder / MANIFEST
    with reading(path):
        absent = path.is_symlink() or not path.exists()
    if absent:
        raise InputError(f"{path}: missing; the checkpoint cannot be used")
    manifest = _parsed(read_plain(path, MANIFEST_LIMIT))
    if manifest is None:
        raise InputError(
            f"{path}: not the list of files that was written, so the checkpoint is damaged; "
            f"remove {folder} to go on from the one before it"
        )
    named = STEP.fullmatch(folder.name)
    if named and int(named[1]) != manifest.step:
        raise InputError(f"{path}: is that of update {manifest.step}; its folder was renamed")
    return manifest


def _text(content: dict[str, Any]) -> str:
    """The manifest with a checksum of its own, as the only text that is accepted for it."""
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "self": own}, indent=2) + "\n"


def _parsed(text: bytes) -> Manifest | None:
    """The manifest in a text, or nothing where that is not one that `finish` writes."""
    try:
        content = json.loads(text)
        del content["self"]
        if text.decode() != _text(content):
            return None
        step, seconds, sums = content.pop("step"), content.pop("seconds"), content.pop("sha256")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = (
        not content
        and type(step) is int
        and 0 <= step < 2**63
        and type(seconds) in (int, float)
        and 0 <= seconds < 2**63
        and isinstance(sums, dict)
        and all(_is_file_name(name) and isinstance(sums[name], str) for name in sums)
        and not any(f"{name.partition('/')[0]}{SUFFIX}" in sums for name in sums)
    )
    return Manifest(step, seconds, sums) if sound else None


def _is_file_name(name: str) -> bool:
    """Whether a path is PART.safetensors or PART/SHARD, and so lies inside the checkpoint."""
    top, _, rest = name.partition("/")
    if rest:
        return all(NAME.fullmatch(piece) for piece in (top, rest))
    return NAME.fullmatch(top) is not None and top.endswith(SUFFIX)
