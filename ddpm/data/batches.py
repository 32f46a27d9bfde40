"""Which images an update sees, and how they come to the device.

The images of all updates are one endless sequence of epochs, each a permutation of the training
set; update u of batch size B takes places u B to (u + 1) B - 1. So a batch is a function of
(number of images, seed, update) alone: any process can compute any part of any batch, and going on
at an update needs no state.
"""

import itertools
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from ddpm.data.images import ImageData
from ddpm.data.order import permutation
from ddpm.data.sources import Source
from ddpm.data.streamed import StreamedData
from ddpm.data.workers import prepared
from ddpm.errors import check
from ddpm.kernels.streams import Stream


class Batches(Protocol):
    """Training images by update, on the device."""

    @property
    def count(self) -> int:
        """Number of training images."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""

    def at(self, update: int, rows: slice) -> Tensor:
        """Rows of the global batch of an update.

        Args:
            update: number of the update, from 0.
            rows: which rows of the batch, without a step; slice(None) means all.

        Returns:
            uint8 [rows, C, H, W] on the device.

        Raises:
            InputError: an image cannot be read any more.
        """

    def labels(self, update: int, rows: slice) -> Tensor | None:
        """Classes of the images that `at` gives, int64 [rows] on the device; None without labels.

        Args:
            update: number of the update, from 0.
            rows: which rows of the batch.
        """

    def close(self) -> None:
        """End worker processes, if there are any; `at` starts them again."""


def places(count: int, batch_size: int, seed: int, update: int, rows: slice) -> Tensor:
    """Indices of the images in some rows of a batch, a window on the sequence of epochs.

    Args:
        count: number of training images, >= 1.
        batch_size: images in an update, >= 1.
        seed: -2^63..2^63 - 1.
        update: number of the update, from 0.
        rows: which rows of the batch, without a step.

    Returns:
        int64 [rows], 0..count - 1.

    Raises:
        InputError: if `rows` has a step, or the update lies beyond the last epoch.
    """
    check(rows.step in (None, 1), "rows", rows, "a slice without a step")
    first, last, _ = rows.indices(batch_size)
    begin, end = update * batch_size + first, update * batch_size + max(first, last)
    epochs = range(begin // count, max(begin, end - 1) // count + 1)
    windows = [
        _order(count, epoch, seed)[max(begin - epoch * count, 0) : end - epoch * count]
        for epoch in epochs
    ]
    return windows[0] if len(windows) == 1 else torch.cat(windows)


@lru_cache(maxsize=4)
def _order(count: int, epoch: int, seed: int) -> Tensor:
    return permutation(count, epoch, seed, Stream.DATA_ORDER)


class InMemory:
    """Batches of images that lie in the device's memory.

    Args:
        images: uint8 [N, C, H, W].
        batch_size: images in an update, all ranks together.
        seed: key of the order.
        device: where the images are kept.
        known: their classes, int64 [N], or None.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        seed: int,
        device: torch.device,
        known: Tensor | None = None,
    ) -> None:
        self.images = images.to(device)
        self.known = None if known is None else known.to(device)
        self.batch_size, self.seed = batch_size, seed

    @property
    def count(self) -> int:
        """Number of training images."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def at(self, update: int, rows: slice) -> Tensor:
        """Rows of the global batch of an update, uint8 [rows, C, H, W]."""
        chosen = places(self.count, self.batch_size, self.seed, update, rows)
        return self.images[chosen.to(self.images.device)]

    def labels(self, update: int, rows: slice) -> Tensor | None:
        """Classes of the images of `at`, int64 [rows]."""
        if self.known is None:
            return None
        chosen = places(self.count, self.batch_size, self.seed, update, rows)
        return self.known[chosen.to(self.known.device)]

    def close(self) -> None:
        """Nothing to end."""


class Streamed:
    """Batches of images that are read when they are needed, ahead of time by worker processes.

    A process asks for the same rows of one update after the other. Which rows these are shows in
    the first update, which is therefore read without workers; from the second on the workers
    prepare the updates to come. Asking for anything else is answered rightly, and begins anew.

    Args:
        source: the images.
        batch_size: images in an update, all ranks together.
        seed: key of the order.
        device: where the batches go; on a GPU by way of pinned memory.
        workers: processes that read ahead; with 0 every batch is read when it is asked for.
        known: classes of the images, int64 [N], or None.

    Raises:
        InputError: if `workers` is negative.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        device: torch.device,
        workers: int = 0,
        known: Tensor | None = None,
    ) -> None:
        check(workers >= 0, "workers", workers, "0 or more")
        self.source, self.device, self.workers = source, device, workers
        self.batch_size, self.seed = batch_size, seed
        self.known = None if known is None else known.to(device)
        self._seen: list[tuple[int, slice]] = []
        self._ahead: _Ahead | None = None

    @property
    def count(self) -> int:
        """Number of training images."""
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.source.shape

    def at(self, update: int, rows: slice) -> Tensor:
        """Rows of the global batch of an update, uint8 [rows, C, H, W].

        Raises:
            InputError: an image cannot be read any more, or a worker process was killed.
        """
        images = self._prepared(update, rows)
        if images is None:
            images = self.source.read(self._places(update, rows))
        return images.to(self.device, non_blocking=True)

    def labels(self, update: int, rows: slice) -> Tensor | None:
        """Classes of the images of `at`, int64 [rows]."""
        if self.known is None:
            return None
        return self.known[self._places(update, rows).to(self.known.device)]

    def close(self) -> None:
        """End the worker processes; the next batch is read without them."""
        self._ahead, self._seen = None, []

    def _places(self, update: int, rows: slice) -> Tensor:
        return places(self.count, self.batch_size, self.seed, update, rows)

    def _prepared(self, update: int, rows: slice) -> Tensor | None:
        """The batch from a worker, or None where none has prepared it."""
        if self.workers == 0:
            return None
        if self._ahead is not None and self._ahead.follows(update, rows):
            return self._ahead.next()
        self._ahead = None
        if self._seen and self._seen[0] == (update - 1, rows):
            plan = [part for _, part in self._seen]
            self._ahead = _Ahead(self, update, plan)
            return self._ahead.next()
        if not self._seen or self._seen[0][0] != update:
            self._seen = []
        self._seen.append((update, rows))
        return None


def batches_of(
    data: ImageData | StreamedData,
    batch_size: int,
    seed: int,
    device: torch.device,
    workers: int = 0,
) -> Batches:
    """Batches of the training images of a data set, whichever way it is kept.

    Args:
        data: the data set.
        batch_size: images in an update, all ranks together.
        seed: key of the order.
        device: where the batches go.
        workers: processes that read ahead where the set is streamed.

    Raises:
        InputError: if `workers` is negative.
    """
    check(workers >= 0, "workers", workers, "0 or more")
    if isinstance(data, ImageData):
        return InMemory(data.train, batch_size, seed, device, data.train_labels)
    return Streamed(data.train, batch_size, seed, device, workers, data.train_labels)


class _Ahead:
    """Worker processes that prepare the same rows of consecutive updates.

    Args:
        batches: what is read.
        first: the first update.
        plan: rows of every update, in the order in which they are asked for.
    """

    def __init__(self, batches: Streamed, first: int, plan: list[slice]) -> None:
        self._requests = ((u, rows) for u in itertools.count(first) for rows in plan)
        self._next = next(self._requests)
        wanted = (
            places(batches.count, batches.batch_size, batches.seed, u, rows)
            for u in itertools.count(first)
            for rows in plan
        )
        self._images = prepared(
            batches.source.read, wanted, batches.workers, pinned=batches.device.type == "cuda"
        )

    def follows(self, update: int, rows: slice) -> bool:
        """Whether this is what the workers deliver next."""
        return self._next == (update, rows)

    def next(self) -> Tensor:
        """The next batch."""
        self._next = next(self._requests)
        return next(self._images)
