"""Images that are read when they are asked for, by index and therefore in any order."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Source(Protocol):
    """A set of images of one size with random access; can be sent to another process."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: Tensor) -> Tensor:
        """The images of these indices.

        Args:
            index: int64 [n], 0..len - 1, in any order and with repetitions.

        Returns:
            uint8 [n, C, H, W] on the CPU.

        Raises:
            InputError: an image cannot be read; the message names its file.
        """


@dataclass(frozen=True, eq=False)
class Held:
    """Images in memory, as a source.

    Attributes:
        images: uint8 [N, C, H, W].
    """

    images: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: Tensor) -> Tensor:
        """The images of these indices."""
        return self.images[index]


@dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a source, in an order of their own.

    Attributes:
        whole: the source.
        index: int64 [n], where image i of the subset stands in the whole.
    """

    whole: Source
    index: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.whole.shape

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: Tensor) -> Tensor:
        """The images of these indices."""
        return self.whole.read(self.index[index])


def read_all(source: Source, most_at_once: int = 256) -> Tensor:
    """All images of a source, uint8 [N, C, H, W].

    Args:
        source: the images.
        most_at_once: how many to read at a time, so that nothing is held twice.

    Raises:
        InputError: an image cannot be read.
    """
    images = torch.empty((len(source), *source.shape), dtype=torch.uint8)
    for start in range(0, len(source), most_at_once):
        stop = min(start + most_at_once, len(source))
        images[start:stop] = source.read(torch.arange(start, stop))
    return images
