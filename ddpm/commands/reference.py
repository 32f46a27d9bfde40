"""The pictures that `ddpm sample --ilvr` follows: one file, a folder of them, or arrays."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.commands.shards import DESCRIPTION, ShardFolder
from ddpm.data import npz
from ddpm.data.decode import decode_file
from ddpm.data.folder import open_folder
from ddpm.data.images import to_float
from ddpm.errors import InputError
from ddpm.samplers.ilvr import Ilvr

FACTOR = 4
"""Side of the squares that are averaged, where none is given."""
ALLOWED = "a PNG or JPEG file, a folder of them or of ddpm sample, or an .npz file with `images`"
GREY_LEVELS = 256
"""Of image files."""


def open_reference(path: Path | None, factor: int | None) -> Ilvr | None:
    """What `--ilvr` and `--ilvr-factor` ask for.

    Args:
        path: Where the pictures are; None for no such sampling.
        factor: Side of the squares that are averaged; None for the usual one.

    Raises:
        InputError: nothing can be read there, or the factor does not fit.
    """
    if path is None:
        if factor is not None:
            raise InputError(f"ilvr_factor = {factor}: allowed without --ilvr is none")
        return None
    try:
        images, levels = _read(path)
        return Ilvr(to_float(images, levels), FACTOR if factor is None else factor)
    except ValueError as error:
        raise InputError(f"ilvr = {path}: {error}") from None


def checksum(reference: Tensor) -> str:
    """Of the pictures themselves, wherever they were read from."""
    values = reference.detach().cpu().contiguous()
    digest = hashlib.sha256(str(tuple(values.shape)).encode())
    digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[np.ndarray | Tensor, int]:
    """Grey levels, uint8 [N, C, H, W], and how many there are.

    Raises:
        ValueError: nothing of the kind is there.
    """
    if not path.exists():
        raise ValueError(f"is not there; allowed is {ALLOWED}")
    if path.is_dir() and (path / DESCRIPTION).exists():
        folder = ShardFolder.open(path)
        return folder.read(), folder.sampling.grey_levels
    if path.is_dir():
        return _read_folder(path), GREY_LEVELS
    if path.suffix == ".npz":
        return npz.load_images(path)
    try:
        return np.array(decode_file(path)[None]), GREY_LEVELS
    except ValueError as error:
        raise ValueError(f"cannot be read: {error}; allowed is {ALLOWED}") from None


def _read_folder(path: Path) -> Tensor:
    """Pictures of a folder in the order of their names."""
    pictures, found = open_folder(path).pictures, []
    for place in range(len(pictures)):
        name = Path(pictures.name(place)).name
        try:
            found.append(torch.from_numpy(pictures.pixels(place).copy()))
        except ValueError as error:
            raise ValueError(f"{name}: {error}; allowed is {ALLOWED}") from None
        first, shape = tuple(found[0].shape), tuple(found[-1].shape)
        if shape != first:
            raise ValueError(f"{name} has shape {shape}: allowed is one for all, here {first}")
    return torch.stack(found)
