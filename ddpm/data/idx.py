"""IDX files, the format of MNIST and Fashion-MNIST, plain or compressed with gzip.

Layout: two zero bytes, a type byte (8 = unsigned byte), the number of dimensions, each dimension
as a big-endian 32-bit integer, then the values, last dimension fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ddpm.data.images import ImageData
from ddpm.data.split import split_images
from ddpm.errors import InputError

LEVELS = 256
UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20

ENDINGS = ("-ubyte", ".ubyte", ".idx", "-ubyte.gz", ".ubyte.gz", ".idx.gz")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in one IDX file of unsigned bytes.

    Args:
        path: the file; compression is recognised by content, whatever the name.
        dimensions: how many dimensions are expected: 3 for images, 1 for labels.

    Returns:
        uint8 array with that many dimensions.

    Raises:
        InputError: if the file cannot be read, is damaged, or holds something else.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                return _parse(raw, path, dimensions)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse(stream, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an IDX file: {error}") from error


def find_idx(folder: Path, part: str, kind: str) -> Path | None:
    """The IDX file of one part of a data set, under any of the names in use.

    Args:
        folder: where to look.
        part: "train" or "t10k".
        kind: "images" or "labels".

    Returns:
        The path, or None if there is no such file.
    """
    dimensions = {"images": 3, "labels": 1}[kind]
    stems = (f"{part}-{kind}-idx{dimensions}-ubyte", f"{part}-{kind}.idx{dimensions}-ubyte")
    candidates = (folder / (stem + ending) for stem in stems for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def load_folder(folder: Path, name: str) -> ImageData:
    """Images named as MNIST's: train-images-idx3-ubyte and, if present, its labels and t10k pair.

    Args:
        folder: where the files are, plain or .gz.
        name: name for reports.

    Raises:
        InputError: if the training images are missing or a file is damaged.
    """
    train, train_labels = _load_part(folder, "train")
    if find_idx(folder, "t10k", "images") is None:
        return split_images(name, train, train_labels, LEVELS)
    test, test_labels = _load_part(folder, "t10k")
    return ImageData(
        name,
        torch.from_numpy(train),
        torch.from_numpy(test),
        None if train_labels is None else torch.from_numpy(train_labels),
        None if test_labels is None else torch.from_numpy(test_labels),
        LEVELS,
    )


def load_file(path: Path) -> ImageData:
    """The images of one IDX file without labels; a fifth is held out as the test set.

    Raises:
        InputError: if the file is damaged or holds something other than images.
    """
    return split_images(path.name, read_idx(path, 3)[:, None], None, LEVELS)


def _load_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray | None]:
    path = find_idx(folder, part, "images")
    if path is None:
        raise InputError(f"{folder}: no {part}-images-idx3-ubyte, plain or .gz")
    images = read_idx(path, 3)[:, None]
    label_path = find_idx(folder, part, "labels")
    if label_path is None:
        return images, None
    labels = read_idx(label_path, 1).astype(np.int64)
    if len(labels) != len(images):
        raise InputError(f"{label_path}: {len(labels)} labels for {len(images)} images")
    return images, labels


def _parse(stream: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> np.ndarray:
    """Header and values of an IDX stream; never reads more than the header promises."""
    magic = _read(stream, 4)
    expected = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    if magic != expected:
        what = f"unsigned bytes in {dimensions} dimension(s)"
        raise InputError(f"{path}: magic {magic.hex()}: allowed is {expected.hex()}, {what}")
    header = _read(stream, 4 * dimensions)
    if len(header) != 4 * dimensions:
        raise InputError(f"{path}: ends inside its header")
    shape = struct.unpack(f">{dimensions}I", header)
    size = math.prod(shape)
    values = _read(stream, size + 1)
    if len(values) != size:
        relation = "more than" if len(values) > size else f"{len(values)} of"
        raise InputError(f"{path}: holds {relation} the {size} values of its shape {shape}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read(stream: BinaryIO | gzip.GzipFile, count: int) -> bytearray:
    """At most `count` bytes, in pieces: a damaged header may promise more than any memory holds."""
    result = bytearray()
    while len(result) < count:
        piece = stream.read(min(CHUNK_BYTES, count - len(result)))
        if not piece:
            break
        result += piece
    return result
