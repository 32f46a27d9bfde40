"""A data set whose training images are read while they are needed."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddpm.data.images import DIGEST_DIGITS, ImageData, count_classes, spaced
from ddpm.data.sources import Held, Source, Subset, read_all
from ddpm.errors import check

STREAM_BYTES = 2 << 30
"""Images that take more than this many bytes decoded are streamed, unless the user says no."""
TEST_IMAGES = 10_000
"""Of the images held out of a streamed set, so many at most are used for testing."""
READ_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class StreamedData:
    """The counterpart of `ImageData` for sets beyond memory; training sees the same images.

    Attributes:
        name: short name for reports.
        train: the training images.
        held_out: the images for testing, at most TEST_IMAGES.
        train_labels: int64 [len(train)], or None.
        test_labels: int64 [len(held_out)], or None.
        levels: number of grey levels, 2..256.
        skipped: names of the broken pictures that were left out.
        known_digest: the checksum of the training images where it is known already.
    """

    name: str
    train: Source
    held_out: Source
    train_labels: Tensor | None
    test_labels: Tensor | None
    levels: int
    skipped: tuple[str, ...] = ()
    known_digest: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.shape

    @property
    def count(self) -> int:
        """Number of training images."""
        return len(self.train)

    @property
    def classes(self) -> int | None:
        """Number of classes K, one more than the largest label; None without labels."""
        return count_classes(self.train_labels, self.test_labels)

    @cached_property
    def test(self) -> Tensor:
        """The images for testing, uint8 [M, C, H, W], read when they are first asked for."""
        return read_all(self.held_out)

    def digest(self) -> str:
        """Checksum of the training images, the same as if they were in memory."""
        return self.known_digest or self._computed_digest

    @cached_property
    def _computed_digest(self) -> str:
        checksum = hashlib.sha256()
        for start in range(0, self.count, READ_AT_ONCE):
            index = torch.arange(start, min(start + READ_AT_ONCE, self.count))
            checksum.update(self.train.read(index).numpy().tobytes())
        return checksum.hexdigest()[:DIGEST_DIGITS]

    def sample(self, most: int) -> ImageData:
        """At most so many images of each part, evenly spaced in their order, in memory.

        Raises:
            InputError: an image cannot be read any more.
        """
        train, test = spaced(self.count, most), spaced(len(self.held_out), most)
        return ImageData(
            self.name,
            read_all(Subset(self.train, train)),
            self.test[test],
            None if self.train_labels is None else self.train_labels[train],
            None if self.test_labels is None else self.test_labels[test],
            self.levels,
            self.skipped,
        )


def streamed(
    name: str,
    source: Source,
    train: Tensor,
    test: Tensor,
    labels: Tensor | None,
    levels: int,
    skipped: tuple[str, ...] = (),
    digest: str | None = None,
) -> StreamedData:
    """A streamed set out of one source.

    Args:
        name: for reports.
        source: all images.
        train: int64, where the training images stand in it.
        test: int64, where the images for testing stand in it.
        labels: int64 [len(source)], or None.
        levels: number of grey levels, 2..256.
        skipped: names of the broken pictures that were left out.
        digest: checksum of the training images where it is known.

    Raises:
        InputError: a label is negative.
    """
    if labels is not None:
        least = int(labels.min())
        check(least >= 0, f"{name}: smallest label", least, "0 or more")
    test = test[spaced(len(test), TEST_IMAGES)]
    return StreamedData(
        name,
        Subset(source, train),
        Subset(source, test),
        None if labels is None else labels[train],
        None if labels is None else labels[test],
        levels,
        skipped,
        digest,
    )


def streamed_from_memory(data: ImageData) -> StreamedData:
    """Images that are in memory anyway, served as if they were not."""
    return StreamedData(
        data.name,
        Held(data.train),
        Held(data.test),
        data.train_labels,
        data.test_labels,
        data.levels,
        data.skipped,
    )
