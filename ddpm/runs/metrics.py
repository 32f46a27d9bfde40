"""Where the numbers of a run go: one JSON line each, TensorBoard, and a tracker where asked for."""

import io
import math
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import cached_property
from types import TracebackType
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ddpm.config import RunConfig
from ddpm.distributed import ALONE, Ranks
from ddpm.errors import InputError
from ddpm.evaluation.figures import grid_pixels
from ddpm.files import write_atomically
from ddpm.runs.curves import Curves
from ddpm.runs.environment import note_session
from ddpm.runs.run_folder import RunFolder
from ddpm.runs.trackers import Tracker

BUCKETS = 8
"""Equal parts of the levels 1..T whose losses are told apart."""
Value = float | list[float | None] | None


class Update(Protocol):
    """What `write` needs of an update; tensors are read only there."""

    @property
    def step(self) -> int:
        """Number of the update, from 1."""

    @property
    def loss(self) -> Tensor:
        """Mean loss of the global batch, 0-d."""

    @property
    def gradient_norm(self) -> Tensor:
        """Norm of the gradient before clipping, 0-d."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of the update."""


class Losses(Protocol):
    """What `observe` needs of an update: the loss of each image of this rank, and its level."""

    @property
    def losses(self) -> Tensor:
        """float32 [rows]."""

    @property
    def levels(self) -> Tensor:
        """int64 [rows], in 1..T."""


class Metrics:
    """Writer of metrics.jsonl, TensorBoard events and a tracker.

    A line tells the loss of its own update, and for each bucket of levels the mean loss of all
    images since the line before it (since the start, for the first line after a resumption), null
    where there were none.

    Under torchrun every rank has one, and calls `observe` and `write` alike; rank 0 alone gets a
    tracker, calls `pictures`, and writes anything.

    Args:
        folder: The run.
        step: Updates done before; TensorBoard forgets what an interrupted run wrote after it.
        tracker: "wandb", "trackio", or None.

    Raises:
        InputError: the tracker is not installed or does not begin.
    """

    def __init__(self, folder: RunFolder, step: int, tracker: str | None = None) -> None:
        self.folder = folder
        self.first = step
        self.tracker = None if tracker is None else Tracker(tracker, folder)
        self.sums: Tensor | None = None
        self.before: tuple[int, float] | None = None

    @cached_property
    def board(self) -> Curves:
        """TensorBoard's writer, which makes its folder when it is first used."""
        return Curves(self.folder.tensorboard, self.first + 1)

    @cached_property
    def config(self) -> RunConfig:
        """Configuration of the run."""
        return self.folder.config()

    def observe(self, record: Losses) -> None:
        """Add the losses of an update to their buckets, without waiting for the device."""
        added = bucket_sums(record.losses, record.levels, self.config.schedule.levels)
        self.sums = added if self.sums is None else self.sums + added

    def write(
        self,
        record: Update,
        seconds: float,
        batch_size: int,
        ema_decay: float | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Write one record; every rank calls it at the same updates.

        Args:
            record: The update.
            seconds: Time spent training so far.
            batch_size: Images in an update, over all ranks.
            ema_decay: Share of the averaged weights that the update kept.
            ranks: This process among the others.
        """
        device = record.loss.device
        empty = torch.zeros(2, BUCKETS, device=device)
        sums = ranks.total(empty if self.sums is None else self.sums)
        self.sums = None
        if not ranks.main:
            return
        if self.before is None:
            note_session(self.folder, self.first, device, ranks.world)
        scalars = torch.stack([record.loss.detach(), record.gradient_norm.detach()]).float()
        # One transfer for all numbers, since each would wait for the device.
        loss, norm, *rest = torch.cat([scalars, sums.flatten()]).tolist()
        by_level = [
            total / count if count else None
            for total, count in zip(rest[:BUCKETS], rest[BUCKETS:], strict=True)
        ]
        values: dict[str, float | None] = {
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": record.learning_rate,
            "ema_decay": ema_decay,
            "images_per_second": self._speed(record.step, seconds, batch_size),
        }
        self._send(record.step, seconds, values, by_level)

    def pictures(self, step: int, images: Tensor) -> None:
        """Write a grid of samples as a PNG in the run, and to TensorBoard and the tracker.

        Args:
            step: Updates done.
            images: uint8 [N, C, H, W], N >= 1, grey levels of the run.
        """
        pixels = grid_pixels(images, self.config.grey_levels)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        write_atomically(self.folder.samples / "progress" / f"{step:08}.png", file.getvalue())
        self.board.add_image("samples", pixels, step, dataformats="HWC")
        if self.tracker is not None:
            self.tracker.picture(step, pixels)

    def _speed(self, step: int, seconds: float, batch_size: int) -> float | None:
        """Images per second since the line before; for the first line, over the whole run."""
        step_before, seconds_before = self.before or (0, 0.0)
        self.before = step, seconds
        passed = seconds - seconds_before
        return (step - step_before) * batch_size / passed if passed > 0 else None

    def _send(
        self,
        step: int,
        seconds: float,
        values: Mapping[str, float | None],
        by_level: list[float | None],
    ) -> None:
        # JSON has no word for infinity, which a gradient in float16 may reach.
        finite = {name: _finite(value) for name, value in values.items()}
        buckets = [_finite(value) for value in by_level]
        line = {"step": step, "seconds": round(seconds, 3), **finite, "loss_by_level": buckets}
        self.folder.append_metrics(line)
        named = dict(zip(bucket_names(self.config.schedule.levels), buckets, strict=True))
        curves = finite | {f"loss_by_level/t_{name}": value for name, value in named.items()}
        shown = {name: value for name, value in curves.items() if value is not None}
        for name, value in shown.items():
            self.board.add_scalar(name, value, step)
        if self.tracker is not None:
            self.tracker.log(step, shown)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.tracker is not None:
            self.tracker.close()
        if "board" in self.__dict__:
            # Where something else has failed already, that is what the user is told.
            with suppress(InputError) if error else nullcontext():
                self.board.close()


def bucket_sums(losses: Tensor, levels: Tensor, total: int) -> Tensor:
    """Sum of the losses of each bucket of levels, and how many there are, in a fixed order.

    Args:
        losses: float32 [rows].
        levels: int64 [rows], in 1..total.
        total: T, number of levels; bucket k of 0..7 holds the t with (t - 1) * 8 // T = k.

    Returns:
        float32 [2, 8]: sums, counts.
    """
    index = (levels - 1) * BUCKETS // total
    member = index[:, None] == torch.arange(BUCKETS, device=levels.device)
    # A loss that is not finite spoils its own bucket, and not by a product with zero the others.
    sums = torch.where(member, losses.detach().float()[:, None], 0.0).sum(0)
    return torch.stack([sums, member.sum(0).float()])


def bucket_names(total: int) -> list[str]:
    """First and last level of each bucket, "1-62"; a chain of fewer than 8 levels leaves gaps."""
    names = []
    for bucket in range(BUCKETS):
        first = 1 + -(-bucket * total // BUCKETS)
        last = -(-(bucket + 1) * total // BUCKETS)
        names.append(f"{first}-{last}" if first <= last else f"none-{bucket + 1}")
    return names


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
