"""A folder of many pictures in shards: each whole or absent, the same whoever drew it and when."""

import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from ddpm.errors import InputError, check
from ddpm.files import (
    is_partial,
    read_plain,
    remove_partials,
    write_atomically,
    write_folder_atomically,
)

Format: TypeAlias = Literal["npz", "png"]
DESCRIPTION = "sampling.json"
GRID = "grid.png"
DESCRIPTION_LIMIT = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """All that the pictures of a folder depend on, and how they are kept."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    run: str
    """Name of the run's folder."""
    step: int
    """Updates of the checkpoint."""
    ema: float
    """Rate of the averaged weights."""
    sampler: str
    """Name of the sampler."""
    steps: int
    """Levels that it visits below its first."""
    eta: float
    """Share of fresh noise, for ddim; 1 for others."""
    spacing: str = "trailing"
    """Where the levels lie."""
    levels: tuple[int, ...] | None = None
    """The levels themselves, where they were given."""
    variance: str | None = None
    """Of an ancestral step; None for that of the training."""
    sde: str | None = None
    """Coordinates of a solver; None for its own."""
    ilvr: str | None = None
    """Checksum of the pictures whose coarse part was taken over."""
    ilvr_factor: int | None = None
    """Side of the squares of that coarse part."""
    ilvr_until: int | None = None
    """Last level at which it was taken over."""
    guidance: float = 1.0
    """Scale of classifier-free guidance."""
    label: int | None = None
    """Class of all pictures; None for each class in turn, or without classes."""
    seed: int
    """Key of the random numbers."""
    num: int
    """Number of pictures."""
    shard_size: int
    """Pictures in a shard; the last may have fewer."""
    format: str
    """How a shard is kept: one .npz file, or a folder of PNG files."""
    image_shape: tuple[int, int, int]
    """Channels, height and width."""
    grey_levels: int
    """Number of grey levels."""
    fingerprint: str
    """Checksum of weights and process."""

    def __post_init__(self) -> None:
        check(self.num >= 1, "num", self.num, "an integer of at least 1")
        check(self.shard_size >= 1, "shard_size", self.shard_size, "an integer of at least 1")
        check(self.format in get_args(Format), "format", self.format, " or ".join(get_args(Format)))
        check(2 <= self.grey_levels <= 256, "grey_levels", self.grey_levels, "2 to 256")
        channels, height, width = self.image_shape
        right = channels in (1, 3) and height >= 1 and width >= 1
        check(right, "image_shape", self.image_shape, "(1 or 3, H, W), both at least 1")


class ShardFolder:
    """The shards of a sampling.

    Args:
        path: The folder; nothing is created before `begin`.
        sampling: What its pictures depend on.
    """

    def __init__(self, path: Path, sampling: Sampling) -> None:
        self.path = path
        self.sampling = sampling
        self.count = math.ceil(sampling.num / sampling.shard_size)

    @staticmethod
    def open(path: Path) -> "ShardFolder":
        """The folder of an earlier sampling, which must be complete.

        Raises:
            InputError: there is none, it is broken, or pictures are missing.
        """
        folder = ShardFolder(path, _described(path))
        if missing := folder.missing():
            raise InputError(
                f"samples = {path}: {len(missing)} of {folder.count} shards are missing, the first "
                f"{folder.shard(missing[0]).name}; give the same ddpm sample again to go on"
            )
        return folder

    def begin(self) -> None:
        """Start the folder, or go on with one of the same sampling.

        Raises:
            InputError: something else is there, or it cannot be written.
        """
        file = self.path / DESCRIPTION
        if file.exists():
            self._check_same(_described(self.path))
            remove_partials(self.path)
            return
        if self.path.exists() and not (self.path.is_dir() and self._is_free()):
            raise InputError(
                f"out = {self.path}: is something else than a sampling; allowed is a new name, an "
                "empty folder, or one of the same sampling to go on with"
            )
        write_atomically(file, (json.dumps(asdict(self.sampling), indent=2) + "\n").encode())

    def _is_free(self) -> bool:
        return all(is_partial(entry) for entry in self.path.iterdir())

    def _check_same(self, other: Sampling) -> None:
        theirs = asdict(other)
        for name, value in asdict(self.sampling).items():
            if name != "run" and theirs[name] != value:
                raise InputError(
                    f"out = {self.path}: holds another sampling, with {name} = {theirs[name]!r} "
                    f"in place of {value!r}; allowed is a new folder, or the same again to go on"
                )

    def indices(self, number: int) -> range:
        """The pictures of a shard."""
        first = number * self.sampling.shard_size
        return range(first, min(self.sampling.num, first + self.sampling.shard_size))

    def shard(self, number: int) -> Path:
        """Where a shard lies."""
        suffix = ".npz" if self.sampling.format == "npz" else ""
        return self.path / f"samples-{number:05d}-of-{self.count:05d}{suffix}"

    def missing(self) -> list[int]:
        """Numbers of the shards that are not there yet."""
        return [number for number in range(self.count) if not self.shard(number).exists()]

    def write(self, number: int, images: Tensor) -> None:
        """Write a shard, whole or not at all.

        Args:
            number: Which.
            images: uint8 [n, C, H, W], grey levels, in the order of `indices`.

        Raises:
            InputError: it cannot be written.
        """
        if self.sampling.format == "npz":
            write_atomically(self.shard(number), self._npz(number, images))
            return

        def fill(temporary: Path) -> None:
            for index, pixels in zip(self.indices(number), self._pixels(images), strict=True):
                Image.fromarray(pixels).save(temporary / f"{index:08d}.png")

        write_folder_atomically(self.shard(number), fill)

    def read(self, most: int | None = None) -> Tensor:
        """The pictures, uint8 [n, C, H, W], all or the first `most`.

        Raises:
            InputError: a shard is missing or is not what was written.
        """
        wanted = self.sampling.num if most is None else min(most, self.sampling.num)
        shards = math.ceil(wanted / self.sampling.shard_size)
        parts = [self._read(number) for number in range(shards)]
        images = torch.from_numpy(np.concatenate(parts))[:wanted]
        top = int(images.max())
        check(top < self.sampling.grey_levels, f"{self.path}: largest grey level", top,
              f"0 to {self.sampling.grey_levels - 1}")  # fmt: skip
        return images

    def _npz(self, number: int, images: Tensor) -> bytes:
        arrays = io.BytesIO()
        np.savez_compressed(
            arrays, images=images.numpy(), levels=np.array(self.sampling.grey_levels),
            seed=np.array(self.sampling.seed), step=np.array(self.sampling.step),
            first=np.array(self.indices(number).start),
        )  # fmt: skip
        return arrays.getvalue()

    def _pixels(self, images: Tensor) -> np.ndarray:
        """What a PNG file holds: uint8 [n, H, W] or [n, H, W, 3] in 0..255."""
        top = self.sampling.grey_levels - 1
        wide = np.round(images.numpy() * (255 / top)).astype(np.uint8)
        return wide[:, 0] if wide.shape[1] == 1 else wide.transpose(0, 2, 3, 1)

    def _read(self, number: int) -> np.ndarray:
        shard, shape = self.shard(number), (len(self.indices(number)), *self.sampling.image_shape)
        try:
            if self.sampling.format == "npz":
                return _read_npz(shard, shape)
            return np.stack([self._read_png(shard / f"{i:08d}.png") for i in self.indices(number)])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, Image.DecompressionBombError,
                NotImplementedError, SyntaxError, RuntimeError) as error:  # fmt: skip
            raise InputError(f"{shard}: not the shard that was written: {error}") from None

    def _read_png(self, file: Path) -> np.ndarray:
        channels, height, width = self.sampling.image_shape
        with Image.open(file, formats=("PNG",)) as picture:
            if (picture.size, picture.mode) != ((width, height), "L" if channels == 1 else "RGB"):
                raise ValueError(f"{file.name} is {picture.mode} {picture.size}")
            pixels = np.asarray(picture)
        top = self.sampling.grey_levels - 1
        levels = np.round(pixels * (top / 255)).astype(np.uint8)
        return levels[None] if channels == 1 else levels.transpose(2, 0, 1)


def _described(path: Path) -> Sampling:
    file = path / DESCRIPTION
    if not file.is_file():
        raise InputError(f"samples = {path}: holds no {DESCRIPTION}; allowed is a folder that "
                         "ddpm sample made")  # fmt: skip
    try:
        return TypeAdapter(Sampling).validate_json(read_plain(file, DESCRIPTION_LIMIT))
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{file}: {where}: {reason}") from None


def _read_npz(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The images of a shard; what its header promises is looked at before memory is asked for."""
    with ZipFile(file) as archive, archive.open("images.npy") as member:
        if npy.read_magic(member) != (1, 0):
            raise ValueError("its images are not an array of version 1.0")
        found, fortran, dtype = npy.read_array_header_1_0(member)
        if (found, fortran, dtype) != (shape, False, np.dtype(np.uint8)):
            raise ValueError(f"its images are {dtype} {found}: allowed is uint8 {shape}")
        content = member.read(math.prod(shape))
        # Reading on to the end makes the archive compare its checksum.
        if member.read(1) or len(content) != math.prod(shape):
            raise ValueError("its images are more or fewer than its header says")
    return np.frombuffer(content, np.uint8).reshape(shape)
