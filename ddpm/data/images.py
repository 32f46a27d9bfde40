"""Images as grey levels, and the straight line between grey levels and [-1, 1].

A pixel is an integer k = 0..levels-1; the process works on x = 2 k / (levels - 1) - 1.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ddpm.errors import check

CHANNELS = (1, 3)
DIGEST_DIGITS = 16


@dataclass(frozen=True, eq=False)
class ImageData:
    """A training set and a test set of images of one size, with or without labels.

    Attributes:
        name: short name for reports, such as "digits".
        train: uint8 [N, C, H, W], N >= 1, grey levels 0..levels-1, C = 1 or 3.
        test: uint8 [M, C, H, W], M >= 1, the same C, H and W.
        train_labels: int64 [N], classes 0, 1, ..., or None.
        test_labels: int64 [M], or None; both have labels or neither.
        levels: number of grey levels, 2..256.
        skipped: names of the broken pictures that were left out.

    Raises:
        InputError: if a part does not fit this description.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None
    test_labels: Tensor | None
    levels: int
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(2 <= self.levels <= 256, f"{self.name}: levels", self.levels, "2 to 256")
        _check_images(f"{self.name}: train", self.train, self.levels)
        _check_images(f"{self.name}: test", self.test, self.levels)
        sizes = (tuple(self.train.shape[1:]), tuple(self.test.shape[1:]))
        check(sizes[0] == sizes[1], f"{self.name}: (C, H, W) of train and test", sizes, "one size")
        given = (self.train_labels is not None, self.test_labels is not None)
        check(
            given[0] == given[1],
            f"{self.name}: labels given for (train, test)",
            given,
            "both or neither",
        )
        _check_labels(f"{self.name}: train_labels", self.train_labels, len(self.train))
        _check_labels(f"{self.name}: test_labels", self.test_labels, len(self.test))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int | None:
        """Number of classes K, one more than the largest label; None without labels."""
        return count_classes(self.train_labels, self.test_labels)

    @property
    def count(self) -> int:
        """Number of training images."""
        return len(self.train)

    def digest(self) -> str:
        """Checksum of the training images, so that a run never goes on with other data."""
        return hashlib.sha256(self.train.numpy().tobytes()).hexdigest()[:DIGEST_DIGITS]

    def sample(self, most: int) -> "ImageData":
        """The same with at most so many images in each part, evenly spaced in their order."""
        train, test = spaced(len(self.train), most), spaced(len(self.test), most)
        return replace(
            self,
            train=self.train[train],
            test=self.test[test],
            train_labels=None if self.train_labels is None else self.train_labels[train],
            test_labels=None if self.test_labels is None else self.test_labels[test],
        )


def count_classes(train_labels: Tensor | None, test_labels: Tensor | None) -> int | None:
    """Number of classes K, one more than the largest of all labels; None without labels."""
    if train_labels is None or test_labels is None:
        return None
    return 1 + int(max(train_labels.max(), test_labels.max()))


def spaced(count: int, most: int) -> Tensor:
    """At most `most` >= 1 of the indices 0..count - 1, evenly spaced; int64, increasing."""
    chosen = min(count, most)
    return torch.arange(chosen) * count // max(chosen, 1)


def to_float(images: Tensor | np.ndarray, levels: int) -> Tensor:
    """Grey levels to float32 in [-1, 1]: x = 2 k / (levels - 1) - 1.

    Args:
        images: uint8, any shape, grey levels 0..levels-1.
        levels: number of grey levels, 2..256.

    Returns:
        float32 of the same shape, correctly rounded, so that k and levels-1-k are exact opposites.
    """
    top = levels - 1
    numerator = 2 * torch.as_tensor(images).to(torch.float32) - top
    return numerator / top


def to_levels(x: Tensor | np.ndarray, levels: int) -> Tensor:
    """The nearest grey level of each value; values outside [-1, 1] take the end levels.

    Args:
        x: floating point, any shape, finite.
        levels: number of grey levels, 2..256.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: if a value is not finite.
    """
    values = torch.as_tensor(x).to(torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("x holds a value that is not finite: allowed are finite values")
    top = levels - 1
    return ((values + 1) * (top / 2)).round().clamp(0, top).to(torch.uint8)


def _check_images(argument: str, images: Tensor, levels: int) -> None:
    check(images.dtype == torch.uint8, f"{argument}: dtype", str(images.dtype), "uint8")
    shape = tuple(images.shape)
    right = len(shape) == 4 and shape[1] in CHANNELS and min(shape) >= 1
    check(right, f"{argument}: shape", shape, "(N, C, H, W), none of them 0, C = 1 or 3")
    largest = int(images.max())
    check(largest < levels, f"{argument}: largest value", largest, f"0 to {levels - 1}")


def _check_labels(argument: str, labels: Tensor | None, count: int) -> None:
    if labels is None:
        return
    check(labels.dtype == torch.int64, f"{argument}: dtype", str(labels.dtype), "int64")
    shape = tuple(labels.shape)
    check(shape == (count,), f"{argument}: shape", shape, f"({count},), one label an image")
    check(int(labels.min()) >= 0, f"{argument}: smallest value", int(labels.min()), "0 or more")
