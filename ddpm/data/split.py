"""Holding out a fifth of the images where a source has no test set of its own."""

import numpy as np
import torch
from torch import Tensor

from ddpm.data.images import ImageData
from ddpm.data.order import permutation
from ddpm.errors import check
from ddpm.kernels.streams import Stream

HELD_OUT = 5

# Everybody must hold out the same images, whatever the seed of the training run, and no epoch of
# a training run may reuse the draw: hence a seed of its own and an epoch that no run reaches.
SPLIT_SEED = 0
SPLIT_EPOCH = (1 << 32) - 1


def split_indices(n: int) -> tuple[Tensor, Tensor]:
    """Which of `n` images are for training and which are held out, the same for everybody.

    Args:
        n: number of images, >= 2.

    Returns:
        (train, test): int64, each increasing, disjoint, together 0..n-1; test has ceil(n / 5).

    Raises:
        InputError: if `n` < 2.
    """
    check(n >= 2, "number of images", n, "2 or more, because a fifth is held out for testing")
    order = permutation(n, SPLIT_EPOCH, SPLIT_SEED, Stream.DATA_ORDER)
    held_out = -(-n // HELD_OUT)
    return order[held_out:].sort().values, order[:held_out].sort().values


def split_images(
    name: str, images: np.ndarray, labels: np.ndarray | None, levels: int
) -> ImageData:
    """An `ImageData` of which a fifth, drawn once and for all, is the test set.

    Args:
        name: name for reports.
        images: uint8 [n, C, H, W], n >= 2, grey levels 0..levels-1.
        labels: int64 [n] or None.
        levels: number of grey levels, 2..256.

    Raises:
        InputError: if there are fewer than two images or they are not as described.
    """
    check(len(images) >= 2, f"{name}: number of images", len(images), "2 or more")
    pixels = torch.from_numpy(images)
    train, test = split_indices(len(images))
    if labels is None:
        return ImageData(name, pixels[train], pixels[test], None, None, levels)
    classes = torch.from_numpy(labels)
    return ImageData(name, pixels[train], pixels[test], classes[train], classes[test], levels)
