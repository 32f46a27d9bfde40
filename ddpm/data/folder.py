"""A folder of image files: flat, or with one sub-folder for each class.

If the folder holds exactly the sub-folders `train` and `test`, each is such a folder and the
split is theirs; otherwise a fifth of the images is held out. Names that begin with a dot, and
files without an image's ending, are passed over; deeper folders are not searched. What becomes of
the pixels is told in `ddpm.data.decode`.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ddpm.data.album import Album
from ddpm.data.decode import ENDINGS, decode_file
from ddpm.data.names import Names
from ddpm.errors import InputError

PARTS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Files:
    """Image files as pictures.

    Attributes:
        paths: their paths.
    """

    paths: Names

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, place: int) -> str:
        """The path of the file."""
        return self.paths[place]

    def pixels(self, place: int) -> np.ndarray:
        """The picture decoded, uint8 [C, H, W].

        Raises:
            ValueError: it is broken.
        """
        return decode_file(Path(self.paths[place]))

    def fingerprint(self) -> str | None:
        """Of names, sizes and times of change."""
        checksum = hashlib.sha256()
        try:
            for path in self.paths:
                state = Path(path).stat()
                checksum.update(os.fsencode(f"{path}\0{state.st_size} {state.st_mtime_ns}\0"))
        except OSError:
            return None
        return checksum.hexdigest()


def open_folder(folder: Path) -> Album:
    """All images of a folder, with the names of its sub-folders, sorted, as classes 0, 1, ...

    Raises:
        InputError: there is no image, images and folders are mixed, or the classes of the parts
            differ.
    """
    if set(_visible(folder)) == set(PARTS) and all((folder / part).is_dir() for part in PARTS):
        return _own_split(folder)
    paths, labels, classes = _list(folder)
    return _album(folder, paths, labels, classes, None)


def _own_split(folder: Path) -> Album:
    """The split that `train` and `test` make."""
    train, train_labels, train_classes = _list(folder / "train")
    test, test_labels, test_classes = _list(folder / "test")
    if train_classes != test_classes:
        raise InputError(
            f"{folder}: classes of train {train_classes} and test {test_classes} differ"
        )
    return _album(folder, train + test, train_labels + test_labels, train_classes, len(train))


def _album(
    folder: Path, paths: list[str], labels: list[int], classes: list[str], own_train: int | None
) -> Album:
    return Album(
        folder.name, Files(Names(paths)), torch.tensor(labels) if classes else None, own_train
    )


def _list(folder: Path) -> tuple[list[str], list[int], list[str]]:
    """Paths in a fixed order, the class of each, and the classes' names (none if it is flat)."""
    entries = _visible(folder)
    flat = _images(entries)
    inner = [name for name, is_folder in entries.items() if is_folder]
    if flat and inner:
        raise InputError(f"{folder}: holds both images and folders ({flat[0]}, {inner[0]})")
    if not inner:
        return _paths(folder, flat), [0] * len(flat), []
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(inner):
        found = _paths(folder / name, _images(_visible(folder / name)))
        paths += found
        labels += [label] * len(found)
    return paths, labels, inner


def _paths(folder: Path, names: list[str]) -> list[str]:
    if not names:
        raise InputError(f"{folder}: holds no image ({', '.join(ENDINGS)})")
    return [f"{folder}{os.sep}{name}" for name in names]


def _images(entries: dict[str, bool]) -> list[str]:
    return [n for n, is_folder in entries.items() if not is_folder and n.lower().endswith(ENDINGS)]


def _visible(folder: Path) -> dict[str, bool]:
    """Names in a folder, sorted, each with whether it is a folder itself."""
    try:
        with os.scandir(folder) as entries:
            found = {e.name: e.is_dir() for e in entries if not e.name.startswith(".")}
    except OSError as error:
        raise InputError(f"{folder}: cannot be read as a folder: {error}") from error
    return dict(sorted(found.items()))
