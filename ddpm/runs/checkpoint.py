"""Checkpoints: a folder of safetensors with checksums, complete or absent, never unpickled.

A checkpoint has parts, such as "model", "ema", "ema-0.9999" and "optimiser". A part is the file
PART.safetensors, or the folder PART/ of the shards that several processes wrote. The manifest names
every file by its path inside the checkpoint; a file that it does not name is refused like one that
it names and that is not there.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpm.errors import InputError, check
from ddpm.files import reading, remove_folder, sha256, write_folder_atomically, writing
from ddpm.runs.manifest import MANIFEST, NAME, STEP, SUFFIX, Manifest, read_manifest, write_manifest

Tensors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        step: Optimiser updates done.
        seconds: Time spent training so far, over all resumptions.
        tensors: For each part, such as "model", "ema" and "optimiser", its tensors by name.
    """

    step: int
    seconds: float
    tensors: Mapping[str, Tensors]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint as folder/step-N and remove all but the last `keep`.

    Returns:
        The folder of the new checkpoint.

    Raises:
        InputError: it cannot be written; the checkpoints that were there still are.
    """
    target = folder / f"step-{checkpoint.step}"

    def fill(temporary: Path) -> None:
        for part, tensors in checkpoint.tensors.items():
            check(NAME.fullmatch(part) is not None, "part", part, "letters, digits, . _ and -")
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, temporary / f"{part}{SUFFIX}")
        finish(temporary, checkpoint.step, checkpoint.seconds)

    write_folder_atomically(target, fill)
    keep_last(folder, keep)
    return target


def finish(temporary: Path, step: int, seconds: float) -> None:
    """Write the manifest of a checkpoint whose other files are all written.

    Args:
        temporary: The folder, of `ddpm.files.begin_folder`.
        step: Optimiser updates done.
        seconds: Time spent training so far.

    Raises:
        InputError: it cannot be written.
    """
    with writing(temporary / MANIFEST):
        sums = {name: sha256(temporary / name) for name in sorted(_files(temporary))}
    write_manifest(temporary, Manifest(step, seconds, sums))


def keep_last(folder: Path, keep: int) -> None:
    """Remove all but the last `keep` checkpoints."""
    for old in checkpoints(folder)[:-keep]:
        remove_folder(old)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders in the order of their steps; none where the folder is not there.

    Raises:
        InputError: the folder cannot be read.
    """
    with reading(folder):
        entries = list(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in entries if STEP.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load(folder: Path, parts: tuple[str, ...] | None = None) -> Checkpoint:
    """Read a checkpoint after comparing every checksum.

    Args:
        folder: The checkpoint, .../step-N.
        parts: Which parts to read; all of them if not given.

    Raises:
        InputError: a file is missing, unknown, differs from its checksum, or is no safetensors
            file, or the checkpoint lacks a part.
    """
    manifest = verify(folder)
    wanted = manifest.parts if parts is None else parts
    for part in wanted:
        if part not in manifest.parts:
            raise InputError(f"{folder}: holds no {part!r}; it has {', '.join(manifest.parts)}")
    return Checkpoint(
        manifest.step,
        manifest.seconds,
        {part: _tensors(part_path(folder, part)) for part in wanted},
    )


def verify(folder: Path) -> Manifest:
    """Compare the files of a checkpoint with its manifest, without reading a tensor.

    Raises:
        InputError: naming the first file that is missing, unknown, a link, or changed.
    """
    if folder.is_symlink():
        raise InputError(f"{folder}: a link; allowed is the folder that was written")
    manifest = read_manifest(folder)
    with reading(folder):
        found = set(_files(folder))
    for name in sorted({*found, *manifest.sums}):
        file = folder / name
        if name not in found:
            raise InputError(f"{file}: missing; the checkpoint cannot be used")
        if name not in manifest.sums:
            raise InputError(f"{str(file)!r}: not a file of this checkpoint; move it elsewhere")
        with reading(file):
            same = sha256(file) == manifest.sums[name]
        if not same:
            raise InputError(
                f"{file}: its content differs from its checksum, so the checkpoint is damaged; "
                f"remove {folder} to go on from the one before it"
            )
    return manifest


def part_path(folder: Path, part: str) -> Path:
    """Where a part lies: its file, or the folder of its shards."""
    shards = folder / part
    return shards if shards.is_dir() else folder / f"{part}{SUFFIX}"


def restore(module: torch.nn.Module, tensors: Tensors, source: Path) -> None:
    """Load tensors into a module whose names and shapes must be the same.

    Raises:
        InputError: naming the first tensor that is missing, unknown, or of another shape or dtype.
    """
    check_fit(module.state_dict(), tensors, source)
    module.load_state_dict(tensors)


def check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: Path) -> None:
    """Refuse tensors that are not those of a network.

    Args:
        own: The network's tensors by name, on any device, "meta" included.
        tensors: What is to take their place.
        source: The file that they come from.

    Raises:
        InputError: naming the first tensor that is missing, unknown, or of another shape or dtype.
    """
    for name in [*own, *tensors]:
        if name not in own or name not in tensors:
            where = "the network" if name not in own else "the checkpoint"
            raise InputError(f"{source}: tensor {name!r} is not in {where}")
        have, want = tensors[name], own[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            raise InputError(
                f"{source}: tensor {name!r} is {have.dtype} {list(have.shape)}: "
                f"allowed is {want.dtype} {list(want.shape)}"
            )


def _files(folder: Path, inside: str = "") -> Iterator[str]:
    """Paths, relative to a checkpoint, of every file but the manifest; links are not followed.

    Raises:
        InputError: something is a link, a pipe, a device, or a folder inside a part.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{inside}{entry.name}"
            if not inside and entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), f"{name}/")
            elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                raise InputError(
                    f"{entry.path!r}: not a file; allowed are files and folders of shards"
                )
            elif name != MANIFEST:
                yield name


def _tensors(path: Path) -> Tensors:
    if path.is_dir():
        from ddpm.runs.sharded import read_full

        return read_full(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError) as error:
        # With a checksum that fits, this is a file that somebody made to look like one of ours.
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from None
