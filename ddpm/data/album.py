"""Pictures of any origin, looked through once, and what becomes of broken ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ddpm.data.decode import to_channels
from ddpm.data.split import split_indices
from ddpm.data.workers import prepared
from ddpm.errors import InputError, check

LOOKED_AT_ONCE = 64
"""Pictures that a worker process decodes for one answer."""


class Pictures(Protocol):
    """Encoded pictures with random access; can be sent to another process."""

    def __len__(self) -> int:
        """Number of pictures."""

    def name(self, place: int) -> str:
        """What a message calls the picture."""

    def pixels(self, place: int) -> np.ndarray:
        """The picture decoded, uint8 [C, H, W], C = 1 or 3.

        Raises:
            ValueError: it is broken; the message does not name it.
        """

    def fingerprint(self) -> str | None:
        """Changes whenever a picture may have changed; None where nobody can know."""


@dataclass(frozen=True, eq=False)
class Album:
    """Pictures with their classes and, where the user made one, their split.

    Attributes:
        name: for reports.
        pictures: all pictures, those for training first where they have a split of their own.
        labels: int64 [len(pictures)], or None.
        own_train: how many are for training by the user's split, or None.
    """

    name: str
    pictures: Pictures
    labels: Tensor | None = None
    own_train: int | None = None

    def split(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Which pictures are for training and which for testing, of those kept.

        Raises:
            InputError: one of the two would be empty.
        """
        if self.own_train is not None:
            train, test = kept[kept < self.own_train], kept[kept >= self.own_train]
            for part, places in (("train", train), ("test", test)):
                check(len(places) >= 1, f"{self.name}: images of {part}", len(places), "1 or more")
            return train, test
        check(len(kept) >= 2, f"{self.name}: number of images", len(kept), "2 or more")
        train, test = split_indices(len(kept))
        return kept[train], kept[test]


@dataclass(frozen=True, eq=False)
class Survey:
    """What looking through all pictures of an album showed.

    Attributes:
        shape: channels, height and width of every picture; 3 channels if any has colour.
        mixed: whether only some have colour.
        kept: int64, the places of the pictures that can be read, increasing.
        skipped: names of the others.
    """

    shape: tuple[int, int, int]
    mixed: bool
    kept: Tensor
    skipped: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pictures as a source, decoded whenever they are read.

    Attributes:
        pictures: all of them.
        shape: channels, height and width of every picture that will be read.
    """

    pictures: Pictures
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: Tensor) -> Tensor:
        """The pictures of these places, uint8 [n, C, H, W].

        Raises:
            InputError: a picture cannot be read; the message names it.
        """
        images = torch.empty((len(index), *self.shape), dtype=torch.uint8)
        for row, place in zip(images.numpy(), index.tolist(), strict=True):
            pixels = _pixels_or_reason(self.pictures, place)
            if isinstance(pixels, str):
                raise InputError(_broken(self.pictures, place, pixels))
            if pixels.shape[1:] != self.shape[1:] or pixels.shape[0] > self.shape[0]:
                raise InputError(f"{self.pictures.name(place)}: has changed since it was checked")
            row[:] = to_channels(pixels, self.shape[0])
        return images


def survey(
    pictures: Pictures,
    visit: Callable[[int, np.ndarray], None],
    *,
    skip_broken: bool,
    workers: int = 0,
) -> Survey:
    """Decode every picture once.

    Args:
        pictures: what to look through.
        visit: called with place and pixels of every picture that can be read, in order.
        skip_broken: whether a picture that cannot be decoded is left out.
        workers: processes that decode; with 0 this one does.

    Raises:
        InputError: a picture is broken and not to be left out, two differ in size, or none is left.
    """
    kept: list[int] = []
    skipped: list[str] = []
    kinds: set[int] = set()
    size: tuple[int, ...] = ()
    for place, pixels in enumerate(_look(pictures, workers)):
        if isinstance(pixels, str):
            if not skip_broken:
                raise InputError(_broken(pictures, place, pixels))
            skipped.append(pictures.name(place))
            continue
        size = size or pixels.shape[1:]
        if pixels.shape[1:] != size:
            first, other = pictures.name(kept[0]), pictures.name(place)
            sizes = f"{first} is {_size(size)} and {other} is {_size(pixels.shape[1:])}"
            raise InputError(f"images of different sizes: {sizes}")
        kept.append(place)
        kinds.add(pixels.shape[0])
        visit(place, pixels)
    if not kept:
        raise InputError(f"{pictures.name(0)} and all others: none can be read as an image")
    return Survey(
        (max(kinds), size[0], size[1]), len(kinds) > 1, torch.tensor(kept), tuple(skipped)
    )


def first_shape(pictures: Pictures, *, skip_broken: bool) -> tuple[int, ...]:
    """Channels, height and width of the first picture that can be read.

    Raises:
        InputError: it is broken and broken ones are not to be left out, or none can be read.
    """
    for place in range(len(pictures)):
        pixels = _pixels_or_reason(pictures, place)
        if not isinstance(pixels, str):
            return pixels.shape
        if not skip_broken:
            raise InputError(_broken(pictures, place, pixels))
    raise InputError(f"{pictures.name(0)} and all others: none can be read as an image")


def _look(pictures: Pictures, workers: int) -> Iterator[np.ndarray | str]:
    """Pixels of every picture, in order, or what is wrong with it."""
    parts = (
        torch.arange(start, min(start + LOOKED_AT_ONCE, len(pictures)))
        for start in range(0, len(pictures), LOOKED_AT_ONCE)
    )
    read = partial(_look_at, pictures)
    answers = map(read, parts) if workers == 0 else prepared(read, parts, workers)
    for answer in answers:
        yield from answer


def _look_at(pictures: Pictures, index: Tensor) -> list[np.ndarray | str]:
    return [_pixels_or_reason(pictures, place) for place in index.tolist()]


def _pixels_or_reason(pictures: Pictures, place: int) -> np.ndarray | str:
    try:
        return pictures.pixels(place)
    except ValueError as error:
        return str(error)


def _broken(pictures: Pictures, place: int, reason: str) -> str:
    return f"{pictures.name(place)}: cannot be read as an image: {reason}"


def _size(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
