"""Images in one NumPy .npy file, mapped into memory: what is not looked at is not read.

The array is uint8 [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3 (channels first if both
readings fit). A fifth is held out.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.data.album import Survey
from ddpm.data.checked import recall, remember
from ddpm.data.images import ImageData
from ddpm.data.npz import LEVELS, channels_first
from ddpm.data.sources import Subset, read_all
from ddpm.data.split import split_indices
from ddpm.data.streamed import STREAM_BYTES, StreamedData, streamed
from ddpm.errors import InputError, check


@dataclass(frozen=True)
class Mapped:
    """The images of an .npy file as a source.

    Attributes:
        path: the file.
        stamp: its size and time of change.
        shape: channels, height and width of one image.
        count: number of images.
    """

    path: Path
    stamp: tuple[int, int]
    shape: tuple[int, int, int]
    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: Tensor) -> Tensor:
        """The images of these indices.

        Raises:
            InputError: the file is gone or has changed.
        """
        images = _mapped(self.path, self.stamp)
        return torch.from_numpy(np.ascontiguousarray(images[index.numpy()]))


def open_file(path: Path, *, stream: bool | None = False) -> ImageData | StreamedData:
    """The images of one .npy file.

    Args:
        path: the file.
        stream: whether images are read when they are needed; None decides by size.

    Raises:
        InputError: the file is damaged, or its array is of a wrong type or shape.
    """
    stamp = _stamp(path)
    images = _mapped(path, stamp)
    channels, height, width = images.shape[1:]
    source = Mapped(path, stamp, (channels, height, width), len(images))
    check(len(source) >= 2, f"{path.name}: number of images", len(source), "2 or more")
    train, test = split_indices(len(source))
    if images.nbytes > STREAM_BYTES if stream is None else stream:
        return _streamed(source, train, test)
    parts = [read_all(Subset(source, part)) for part in (train, test)]
    return ImageData(path.name, parts[0], parts[1], None, None, LEVELS)


def _streamed(source: Mapped, train: Tensor, test: Tensor) -> StreamedData:
    """The streamed set with its checksum, which is kept because it takes reading all images."""
    fingerprint = f"{source.path} {source.stamp}"
    known = recall(fingerprint)
    data = streamed(
        source.path.name, source, train, test, None, LEVELS, digest=known[1] if known else None
    )
    if known is None:
        remember(
            fingerprint,
            Survey(source.shape, False, torch.arange(len(source)), ()),
            data.digest(),
        )
    return data


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=2)
def _mapped(path: Path, stamp: tuple[int, int]) -> np.ndarray:
    """The file's array as [N, C, H, W]; a process maps it once."""
    # NumPy raises a dozen unrelated exceptions on damaged files, and warns of odd headers;
    # whichever it is, the file is what is wrong.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            array = np.lib.format.open_memmap(path, mode="r")
        if array.offset + array.nbytes != stamp[0] or _stamp(path) != stamp:
            raise ValueError(f"{stamp[0]} bytes do not fit to its shape {array.shape}")
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an .npy file: {reason}") from error
    return channels_first(path, array, "its array")
