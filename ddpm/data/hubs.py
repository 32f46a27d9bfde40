"""Data sets by name out of the libraries torchvision and datasets, where they are installed.

`torchvision:MNIST` is downloaded into $DDPM_DATA/torchvision or the cache. `hf:NAME` is a data set
of the Hugging Face hub, or a local folder of one; `hf:NAME:SPLIT/COLUMN` names the split and the
column of the images, `hf:NAME:SPLIT` and `hf:NAME:/COLUMN` one of the two. Without a split `train`
and `test` are used if both are there. Neither library is imported before it is asked for.
"""

import importlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.data.album import Album
from ddpm.data.decode import decode_bytes, decode_file, decode_image
from ddpm.errors import InputError, check

TORCHVISION, HUB = "torchvision:", "hf:"
PARTS = ("train", "test")

# How each class of torchvision names its two parts. Sets whose files are pickles, such as CIFAR10,
# are left out on purpose, because nothing is ever unpickled here.
BY_FLAG = ("MNIST", "FashionMNIST", "KMNIST", "USPS")
BY_SPLIT = ("SVHN", "STL10", "CelebA")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of data sets as pictures.

    Attributes:
        title: what a message calls the data set.
        parts: data sets, one after the other.
        decode: pixels [C, H, W] out of a row.
        stamp: changes whenever a picture may have changed, or None.
    """

    title: str
    parts: Sequence[Any]
    decode: Callable[[Any], np.ndarray]
    stamp: str | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def name(self, place: int) -> str:
        """Name of the set and number of the row."""
        part, row = self._find(place)
        return f"{self.title}, part {part}, row {row}"

    def pixels(self, place: int) -> np.ndarray:
        """The picture decoded, uint8 [C, H, W].

        Raises:
            ValueError: it is broken.
        """
        part, row = self._find(place)
        # The libraries read files while a row is asked for, and raise whatever they meet.
        try:
            return self.decode(self.parts[part][row])
        except Exception as error:
            raise ValueError(_reason(error)) from error

    def fingerprint(self) -> str | None:
        """What the library itself tells its versions apart by."""
        return self.stamp

    def _find(self, place: int) -> tuple[int, int]:
        for number, part in enumerate(self.parts):
            if place < len(part):
                return number, place
            place -= len(part)
        raise IndexError(place)


def is_hub(source: str) -> bool:
    """Whether a source is a name in one of the libraries."""
    return source.startswith((TORCHVISION, HUB))


def open_hub(source: str) -> Album:
    """The pictures of a named data set.

    Raises:
        InputError: the library is missing, or has no such set.
    """
    if source.startswith(TORCHVISION):
        return _torchvision(source, source.removeprefix(TORCHVISION))
    return _hub(source, source.removeprefix(HUB))


def canonical(source: str) -> str:
    """The same source, with an absolute path where it names a local folder."""
    path, *rest = source.removeprefix(HUB).split(":", 1)
    if not source.startswith(HUB) or not path or not Path(path).is_dir():
        return source
    return HUB + ":".join([str(Path(path).absolute()), *rest])


def _library(source: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"data = {source!r}: the library {name} is not installed ({error}); "
            f"install the extra: pip install 'ddpm-proven[{name}]'"
        ) from error
    except Exception as error:
        # A build for another version of torch fails in whatever way it does.
        raise InputError(
            f"data = {source!r}: the library {name} cannot be used: {_reason(error)}"
        ) from error


def _torchvision(source: str, name: str) -> Album:
    allowed = f"torchvision: and one of {', '.join(BY_FLAG + BY_SPLIT)}"
    check(name in BY_FLAG + BY_SPLIT, "data", source, allowed)
    library = _library(source, "torchvision")
    root = os.environ.get("DDPM_DATA")
    folder = (Path(root) if root else Path.home() / ".cache" / "ddpm") / "torchvision"
    flags = ({"train": True}, {"train": False})
    splits = tuple({"split": part} for part in PARTS)
    make = getattr(library.datasets, name)
    # Older versions left unpickled caches beside the downloads; they are not looked at.
    check(not (folder / name / "processed").exists(), "data", source, "a cache without `processed`")
    try:
        parts = [
            make(root=str(folder), download=True, **part)
            for part in (flags if name in BY_FLAG else splits)
        ]
    except Exception as error:
        raise InputError(f"data = {source!r}: {_reason(error)}") from error
    return Album(name, Rows(source, parts, _decode_pair), _targets(parts), len(parts[0]))


def _decode_pair(row: Any) -> np.ndarray:
    """Pixels of a row (image, class) of torchvision."""
    return decode_image(row[0])


def _targets(parts: list[Any]) -> Tensor | None:
    """Classes under either of the names in use, where a set has one a picture."""
    found = [np.asarray(getattr(p, "targets", getattr(p, "labels", ()))) for p in parts]
    if any(labels.shape != (len(part),) for labels, part in zip(found, parts, strict=True)):
        return None
    return torch.from_numpy(np.concatenate(found).astype(np.int64))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _hub(source: str, name: str) -> Album:
    match = re.fullmatch(r"([^:]+)(?::([^:/]*)(?:/([^:/]+))?)?", name)
    if match is None:
        raise InputError(f"data = {source!r}: allowed is hf:NAME[:SPLIT/COLUMN]")
    library = _library(source, "datasets")
    try:
        loaded = library.load_dataset(match[1])
    except Exception as error:
        raise InputError(f"data = {source!r}: {_reason(error)}") from error
    parts = [loaded[split] for split in _splits(source, list(loaded), match[2] or "")]
    features = parts[0].features
    column = _column(source, features, match[3])
    # What the library decodes it decodes with all of Pillow; here the bytes are wanted.
    raw = [part.select_columns([column]) for part in parts]
    raw = [part.cast_column(column, library.Image(decode=False)) for part in raw]
    stamp = " ".join([source, column, *(str(part._fingerprint) for part in parts)])
    own_train = len(parts[0]) if len(parts) == 2 else None
    rows = Rows(source, raw, _DecodeCell(column), stamp)
    return Album(Path(match[1]).name, rows, _labels(parts, features), own_train)


@dataclass(frozen=True)
class _DecodeCell:
    """Pixels out of a row of which one column holds an encoded image."""

    column: str

    def __call__(self, row: Any) -> np.ndarray:
        cell = row[self.column]
        if cell["bytes"] is None:
            return decode_file(Path(cell["path"]))
        return decode_bytes(cell["bytes"])


def _splits(source: str, have: list[str], asked: str) -> list[str]:
    if asked:
        check(asked in have, "data", source, f"one of the splits {', '.join(have)}")
        return [asked]
    if set(PARTS) <= set(have):
        return list(PARTS)
    check(len(have) == 1, "data", source, f"hf:NAME:SPLIT with one of {', '.join(have)}")
    return have


def _column(source: str, features: Any, asked: str | None) -> str:
    """The column of images asked for, or the only one."""
    found = [str(name) for name, feature in features.items() if type(feature).__name__ == "Image"]
    if asked is not None:
        check(asked in found, "data", source, f"one of the image columns {', '.join(found)}")
        return asked
    check(len(found) == 1, "data", source, f"hf:NAME:SPLIT/COLUMN with one of {', '.join(found)}")
    return found[0]


def _labels(parts: list[Any], features: Any) -> Tensor | None:
    """The only column of classes, if there is one and every row has a class."""
    found = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if len(found) != 1:
        return None
    labels = np.concatenate([np.asarray(part[found[0]]) for part in parts])
    if labels.dtype.kind != "i" or labels.min() < 0:
        return None
    return torch.from_numpy(labels.astype(np.int64))
