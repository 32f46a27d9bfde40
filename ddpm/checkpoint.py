"""Checkpoints: a folder of safetensors with checksums, complete or absent, never unpickled."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpm.errors import InputError
from ddpm.files import sha256, write_folder_atomically

MANIFEST = "checkpoint.json"
PARTS = ("model", "ema", "optimiser")
Tensors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        step: Optimiser updates done.
        seconds: Time spent training so far, over all resumptions.
        tensors: For each of "model", "ema" and "optimiser", its tensors by name.
    """

    step: int
    seconds: float
    tensors: Mapping[str, Tensors]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint as folder/step-N and remove all but the last `keep`.

    Returns:
        The folder of the new checkpoint.
    """
    target = folder / f"step-{checkpoint.step}"

    def fill(temporary: Path) -> None:
        sums = {}
        for part in PARTS:
            file = temporary / f"{part}.safetensors"
            save_file({k: v.contiguous() for k, v in checkpoint.tensors[part].items()}, file)
            sums[file.name] = sha256(file)
        content = {"step": checkpoint.step, "seconds": checkpoint.seconds, "sha256": sums}
        (temporary / MANIFEST).write_text(_manifest_text(content))

    write_folder_atomically(target, fill)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders in the order of their steps."""
    found = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load(folder: Path, parts: tuple[str, ...] = PARTS) -> Checkpoint:
    """Read a checkpoint after comparing every checksum.

    Args:
        folder: The checkpoint, .../step-N.
        parts: Which parts to read.

    Raises:
        InputError: a file is missing, differs from its checksum, or is no safetensors file.
    """
    step, seconds, sums = _manifest(folder / MANIFEST)
    for name, expected in sums.items():
        file = folder / name
        if not file.is_file():
            raise InputError(f"{file}: missing; the checkpoint cannot be used")
        if sha256(file) != expected:
            raise InputError(
                f"{file}: its content differs from its checksum, so the checkpoint is damaged; "
                f"remove {folder} to go on from the one before it"
            )
    return Checkpoint(
        step, seconds, {part: _tensors(folder / f"{part}.safetensors") for part in parts}
    )


def restore(module: torch.nn.Module, tensors: Tensors, source: Path) -> None:
    """Load tensors into a module whose names and shapes must be the same.

    Raises:
        InputError: naming the first tensor that is missing, unknown, or of another shape or dtype.
    """
    own = module.state_dict()
    for name in [*own, *tensors]:
        if name not in own or name not in tensors:
            where = "the network" if name not in own else "the checkpoint"
            raise InputError(f"{source}: tensor {name} is not in {where}")
        have, want = tensors[name], own[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            raise InputError(
                f"{source}: tensor {name} is {have.dtype} {list(have.shape)}: "
                f"allowed is {want.dtype} {list(want.shape)}"
            )
    module.load_state_dict(tensors)


def _manifest_text(content: dict[str, Any]) -> str:
    """The manifest with a checksum of its own, as the only text that is accepted for it."""
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "self": own}, indent=2) + "\n"


def _manifest(path: Path) -> tuple[int, float, dict[str, str]]:
    try:
        text = path.read_text()
        content = json.loads(text)
        del content["self"]
        if text == _manifest_text(content):
            return content["step"], content["seconds"], content["sha256"]
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the checkpoint cannot be used") from None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(
        f"{path}: not the list of files that was written, so the checkpoint is damaged; "
        f"remove {path.parent} to go on from the one before it"
    )


def _tensors(file: Path) -> Tensors:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read as safetensors: {error}") from None
