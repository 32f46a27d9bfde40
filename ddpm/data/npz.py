"""Images in a NumPy .npz file.

Keys: either `images` (a fifth is held out) or `train` and `test`; with them, if wanted, `labels` or
`train_labels` and `test_labels`, and `levels`, the number of grey levels, 256 if absent. Images are
uint8 [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3 (channels first if both readings fit);
labels are integers [N]. Nothing is ever unpickled.
"""

from pathlib import Path

import numpy as np
import torch

from ddpm.data.images import CHANNELS, ImageData
from ddpm.data.split import split_images
from ddpm.errors import InputError, check

LEVELS = 256
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
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {key: archive[key] for key in KEYS if key in archive.files}
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an .npz file: {reason}") from error


def _levels(path: Path, arrays: Arrays) -> int:
    if "levels" not in arrays:
        return LEVELS
    value = arrays["levels"]
    whole = value.ndim == 0 and value.dtype.kind in "iu"
    check(whole, f"{path}: levels", value.tolist(), "one integer, 2 to 256")
    check(2 <= int(value) <= 256, f"{path}: levels", int(value), "2 to 256")
    return int(value)


def _images(path: Path, arrays: Arrays, key: str) -> np.ndarray:
    """The array as contiguous uint8 [N, C, H, W]."""
    array = arrays[key]
    check(array.dtype == np.uint8, f"{path}: dtype of `{key}`", str(array.dtype), "uint8")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in CHANNELS and array.shape[3] in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    fits = array.ndim == 4 and array.shape[1] in CHANNELS and array.size > 0
    allowed = "(N, H, W), (N, C, H, W) or (N, H, W, C), none of them 0, C = 1 or 3"
    check(fits, f"{path}: shape of `{key}`", arrays[key].shape, allowed)
    return np.ascontiguousarray(array)


def _labels(path: Path, arrays: Arrays, key: str, count: int) -> np.ndarray | None:
    if key not in arrays:
        return None
    labels = arrays[key]
    check(labels.dtype.kind in "iu", f"{path}: dtype of `{key}`", str(labels.dtype), "integer")
    check(labels.shape == (count,), f"{path}: shape of `{key}`", labels.shape, f"({count},)")
    return labels.astype(np.int64)
