"""`ddpm train`: from images to checkpoints, with a bar that tells how it is going."""

import math
import signal
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import FrameType

import torch
from rich.progress import TextColumn

from ddpm.checkpoint import checkpoints
from ddpm.commands.request import Request, TrainOptions, canonical_source, check_same, make_config
from ddpm.commands.runtime import resolve_device
from ddpm.commands.terminal import console, progress
from ddpm.config import RunConfig
from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.errors import InputError
from ddpm.metrics import Metrics
from ddpm.run_folder import RunFolder
from ddpm.trainer import Record, Trainer

DEFAULT_MINUTES = 3.0
LOG_EVERY = 20
BAR_SECONDS = 0.3
CALIBRATION_UPDATES = 20
CALIBRATION_SECONDS = 5.0


def train_run(path: Path, request: Request, options: TrainOptions, *, resume: bool) -> None:
    """Train a new run, or go on with one, and tell what to do next.

    Raises:
        InputError: an argument, the data, the folder or the checkpoint cannot be used.
    """
    target, folder = resolve_device(options.device), RunFolder(path)
    if resume:
        config = folder.config()
        data = load_images(config.data)
        check_same(request, config, data)
    else:
        folder.check_free()
        source = canonical_source(request.data or "digits")
        data = load_images(source)
        config = make_config(request, data, source)
    torch.set_num_threads(config.threads)
    if not resume and request.steps is None:
        console.print("Measuring the speed of this machine ...")
        config = replace(config, steps=_calibrated(config, data, target, request.minutes))
    with folder.locked():
        trainer = Trainer(config, data.train, target)
        if not resume:
            folder.create(config)
        elif checkpoints(folder.checkpoints):
            trainer.restore(folder.last_checkpoint())
        _train(folder, trainer, options.checkpoint_every)


def _calibrated(
    config: RunConfig, data: ImageData, device: torch.device, minutes: float | None
) -> int:
    """Number of updates that take about the given time on this machine, by trying a few."""
    trial = Trainer(replace(config, steps=CALIBRATION_UPDATES), data.train, device)
    times: list[float] = []
    while len(times) < CALIBRATION_UPDATES and (len(times) < 3 or sum(times) < CALIBRATION_SECONDS):
        started = perf_counter()
        float(trial.update().loss)
        times.append(perf_counter() - started)
    seconds = 60 * (DEFAULT_MINUTES if minutes is None else minutes)
    return max(1, round(seconds / statistics.median(times[1:])))


def _train(folder: RunFolder, trainer: Trainer, checkpoint_every: int) -> None:
    config = trainer.config
    if trainer.step >= config.steps:
        console.print(f"{folder.path} is trained: {config.steps} updates are done.", soft_wrap=True)
        return
    parameters = sum(p.numel() for p in trainer.model.parameters())
    console.print(
        f"Training {parameters:,} parameters on {len(trainer.images):,} images of {config.data}, "
        f"from update {trainer.step} to {config.steps}, on {trainer.device} "
        f"with {config.threads} thread(s)."
    )
    folder.rewind_metrics(trainer.step)
    with Metrics(folder, trainer.step) as metrics, _stop_request() as stopped:
        for record in _with_bar(trainer):
            if record.step % LOG_EVERY == 0 or record.step == config.steps:
                _check_finite(record, config)
                metrics.write(record, trainer.seconds, config.batch_size)
            last = record.step == config.steps or bool(stopped)
            if last or record.step % checkpoint_every == 0:
                _check_finite(record, config)
                trainer.save(folder.checkpoints)
            if stopped:
                break
    _farewell(folder, trainer)


def _check_finite(record: Record, config: RunConfig) -> None:
    """Stop before a checkpoint of a network that has diverged replaces a good one."""
    if not math.isfinite(float(record.loss)):
        raise InputError(
            f"learning_rate = {config.optimiser.learning_rate}: the loss is {float(record.loss)} "
            f"at update {record.step}; allowed is a rate under which it stays finite"
        )


def _with_bar(trainer: Trainer) -> Iterator[Record]:
    """Pass the records on and show loss, images per second and remaining time."""
    columns = (TextColumn("loss {task.fields[loss]}"), TextColumn("{task.fields[speed]} images/s"))
    with progress(*columns) as bar:
        total, start = trainer.config.steps, trainer.step
        task = bar.add_task("train", total=total, completed=start, loss="-", speed="-")
        average, began, shown = None, perf_counter(), 0.0
        for record in trainer.run():
            # Reading the loss waits for the device, so it is read a few times a second only.
            if (now := perf_counter()) - shown > BAR_SECONDS or record.step == total:
                loss, shown = float(record.loss), now
                average = loss if average is None else 0.9 * average + 0.1 * loss
                speed = (record.step - start) * trainer.config.batch_size / (now - began)
                bar.update(task, completed=record.step, loss=f"{average:.4f}", speed=f"{speed:.0f}")
            yield record


def _farewell(folder: RunFolder, trainer: Trainer) -> None:
    if trainer.step < trainer.config.steps:
        console.print(
            f"Stopped and saved after update {trainer.step} of {trainer.config.steps}. "
            "Go on with:\n"
            f"  ddpm train --run {folder.path} --resume",
            soft_wrap=True,
        )
        raise KeyboardInterrupt
    console.print(
        f"Trained in {trainer.seconds:.0f} s. Next:\n"
        f"  ddpm sample --run {folder.path}\n"
        f"  ddpm eval --run {folder.path}",
        soft_wrap=True,
    )


@contextmanager
def _stop_request() -> Iterator[list[int]]:
    """Collect Ctrl-C and polite kills in a list, so that an update is never cut short."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
