"""Images in a NumPy .npz file.

Keys: either `images` (a fifth is held out) or `train` and `test`; with them, if wanted, `labels` or
`train_labels` and `test_labels`, and `levels`, the number of grey levels, 256 if absent. Images are
uint8 [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3 (channels first if both readings fit);
labels are integers [N]. Nothing is ever unpickled.
"""

import math
import warnings
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import torch

from ddpm.data.images import CHANNELS, ImageData
from ddpm.data.split import split_images
from ddpm.errors import InputError, check

LEVELS = 256
DEFLATE_RATIO = 1032
KEYS = ("images", "labels", "train", "test", "train_labels", "test_labels", "levels")

Arrays = dict[str, np.ndarray]


def load_file(path: Path) -> ImageData:
    """The images of one .npz file, by the keys that the module describes.

    Raises:
        InputError: if the file is damaged, or its arrays are missing, of a wrong type or shape.
    """
    arrays = _read(path)
    levels = _levels(path, arrays)
    if "images" in arrays:
        images = _images(path, arrays, "images")
        labels = _labels(path, arrays, "labels", len(images))
        return split_images(path.name, images, labels, levels)
    if not {"train", "test"} <= arrays.keys():
        raise InputError(f"{path}: has neither `images` nor both `train` and `test`")
    return _own_split(path, arrays, levels)


def load_images(path: Path) -> tuple[np.ndarray, int]:
    """All images of one .npz file with the key `images`, in their order, and their grey levels.

    Returns:
        uint8 [N, C, H, W] in 0..levels-1, and levels.

    Raises:
        InputError: as `load_file`, or there is no such key.
    """
    arrays = _read(path)
    levels = _levels(path, arrays)
    if "images" not in arrays:
        raise InputError(f"{path}: has no `images`")
    images = _images(path, arrays, "images")
    largest = int(images.max())
    check(largest < levels, f"{path}: largest value of `images`", largest, f"0 to {levels - 1}")
    return images, levels


def _own_split(path: Path, arrays: Arrays, levels: int) -> ImageData:
    train, test = (_images(path, arrays, key) for key in ("train", "test"))
    train_labels = _labels(path, arrays, "train_labels", len(train))
    test_labels = _labels(path, arrays, "test_labels", len(test))
    return ImageData(
        path.name,
        torch.from_numpy(train),
        torch.from_numpy(test),
        None if train_labels is None else torch.from_numpy(train_labels),
        None if test_labels is None else torch.from_numpy(test_labels),
        levels,
    )


def _read(path: Path) -> Arrays:
    # NumPy, zipfile and zlib raise a dozen unrelated exceptions on damaged files, and more to come;
    # whichever it is, the file is what is wrong.
    try:
        with warnings.catch_warnings(), ZipFile(path) as archive:
            warnings.simplefilter("error")
            names, whole = [f"{key}.npy" for key in KEYS], path.stat().st_size
            return {n[:-4]: _array(archive, n, whole) for n in names if n in archive.namelist()}
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an .npz file: {reason}") from error


def _array(archive: ZipFile, name: str, whole: int) -> np.ndarray:
    """One array, once its header promises no more than a file of `whole` bytes can hold."""
    entry = archive.getinfo(name)
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{name}: compression {entry.compress_type}: allowed are none and deflate")
    with archive.open(entry) as member:
        shape, _, dtype = _header(member)
        promised = math.prod(shape) * dtype.itemsize
        # Of a byte deflate makes at most 1,032; what claims more is no archive.
        most = min(entry.file_size, DEFLATE_RATIO * min(entry.compress_size, whole))
        if min(shape, default=0) < 0 or promised > most:
            raise ValueError(f"{name}: its shape {shape} promises more than it holds, {most} bytes")
    with archive.open(entry) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    reader = {(1, 0): np.lib.format.read_array_header_1_0}
    return reader.get(version, np.lib.format.read_array_header_2_0)(member)


def _levels(path: Path, arrays: Arrays) -> int:
    if "levels" not in arrays:
        return LEVELS
    value = arrays["levels"]
    whole = value.ndim == 0 and value.dtype.kind in "iu"
    check(whole, f"{path}: levels", value.tolist(), "one integer, 2 to 256")
    check(2 <= int(value) <= 256, f"{path}: levels", int(value), "2 to 256")
    return int(value)


def channels_first(path: Path, array: np.ndarray, name: str) -> np.ndarray:
    """A view of an array of images as [N, C, H, W].

    Args:
        path: the file that it comes from.
        array: uint8 [N, H, W], [N, C, H, W] or [N, H, W, C], C = 1 or 3.
        name: what a message calls it.

    Raises:
        InputError: it is not as described.
    """
    check(array.dtype == np.uint8, f"{path}: dtype of {name}", str(array.dtype), "uint8")
    shape = array.shape
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in CHANNELS and array.shape[3] in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    fits = array.ndim == 4 and array.shape[1] in CHANNELS and array.size > 0
    allowed = "(N, H, W), (N, C, H, W) or (N, H, W, C), none of them 0, C = 1 or 3"
    check(fits, f"{path}: shape of {name}", shape, allowed)
    return array


def _images(path: Path, arrays: Arrays, key: str) -> np.ndarray:
    """The array as contiguous uint8 [N, C, H, W]."""
    return np.ascontiguousarray(channels_first(path, arrays[key], f"`{key}`"))


def _labels(path: Path, arrays: Arrays, key: str, count: int) -> np.ndarray | None:
    if key not in arrays:
        return None
    labels = arrays[key]
    check(labels.dtype.kind in "iu", f"{path}: dtype of `{key}`", str(labels.dtype), "integer")
    check(labels.shape == (count,), f"{path}: shape of `{key}`", labels.shape, f"({count},)")
    return labels.astype(np.int64)
