"""The loop of `ddpm train`: records to the bar and the curves, checkpoints, and polite stops."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import FrameType

from rich.progress import TextColumn

from ddpm.commands.request import TrainOptions
from ddpm.commands.terminal import console, progress
from ddpm.config import RunConfig
from ddpm.distributed import AgreedError
from ddpm.runs.metrics import Metrics
from ddpm.runs.run_folder import RunFolder
from ddpm.training.pictures import progress_grid
from ddpm.training.trainer import Record, Trainer

LOG_EVERY = 20
BAR_SECONDS = 0.3
AGREE_EVERY = 4
"""Updates after which ranks tell each other whether one was asked to stop."""
PICTURES = 16
PICTURE_STEPS = 20


def train(folder: RunFolder, trainer: Trainer, options: TrainOptions) -> None:
    """Train to the last update or until a signal asks to stop, and say what to do next.

    Every rank calls it. Rank 0 alone prints and writes; what the ranks do together depends on
    nothing but the number of the update.

    Raises:
        InputError: the loss is not finite any more, or something cannot be written.
        KeyboardInterrupt: it was stopped, and has saved.
    """
    config, ranks = trainer.config, trainer.ranks
    if trainer.step >= config.steps:
        _say(trainer, f"{folder.path} is trained: {config.steps} updates are done.")
        return
    _say(trainer, _greeting(trainer))
    ranks.first(lambda: _rewind(folder, trainer.step))
    tracker = options.tracker if ranks.main else None
    with Metrics(folder, trainer.step, tracker) as metrics, stop_request() as received:
        for record in _with_bar(trainer) if ranks.main else trainer.run():
            metrics.observe(record)
            if record.step % LOG_EVERY == 0 or record.step == config.steps:
                _check_finite(record, config)
                decay = trainer.ema.current_decay
                metrics.write(record, trainer.seconds, config.batch_size, decay, ranks)
            if options.sample_every and record.step % options.sample_every == 0:
                _draw(trainer, metrics)
            stopped = _agreed(trainer, received)
            last = record.step == config.steps or stopped
            if last or record.step % options.checkpoint_every == 0:
                _check_finite(record, config)
                trainer.save(folder.checkpoints)
            if stopped:
                break
    _farewell(folder, trainer)


def _greeting(trainer: Trainer) -> str:
    config, world = trainer.config, trainer.ranks.world
    parameters = sum(p.numel() for p in trainer.model.parameters())
    where = f"on {trainer.device}" if world == 1 else f"on {world} ranks like {trainer.device}"
    return (
        f"Training {parameters:,} parameters on {trainer.batches.count:,} images of {config.data}, "
        f"from update {trainer.step} to {config.steps}, {where} with {config.threads} thread(s)."
    )


def _say(trainer: Trainer, text: str) -> None:
    if trainer.ranks.main:
        console.print(text, soft_wrap=True)


def _rewind(folder: RunFolder, step: int) -> None:
    copy = folder.rewind_metrics(step)
    if copy is not None:
        console.print(f"metrics.jsonl holds lines that no run has written; see {copy}.")


def _agreed(trainer: Trainer, received: list[int]) -> bool:
    """Whether to stop now: at once for one process, at the next meeting for several."""
    if trainer.ranks.world == 1:
        return bool(received)
    return trainer.step % AGREE_EVERY == 0 and trainer.ranks.any(bool(received))


def _draw(trainer: Trainer, metrics: Metrics) -> None:
    """Draw a grid with the averaged weights; where these are sharded every rank takes part."""
    if not (trainer.sharded or trainer.ranks.main):
        return
    config = trainer.config
    with trainer.averaged() as model:
        images = progress_grid(
            trainer.process.trained(model), model, config.image_shape, PICTURES, config.seed,
            PICTURE_STEPS, grey_levels=config.grey_levels,
        )  # fmt: skip
    if trainer.ranks.main:
        metrics.pictures(trainer.step, images)


def _check_finite(record: Record, config: RunConfig) -> None:
    """Stop before a checkpoint of a network that has diverged replaces a good one."""
    if not math.isfinite(float(record.loss)):
        raise AgreedError(
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
        _say(
            trainer,
            f"Stopped and saved after update {trainer.step} of {trainer.config.steps}. "
            "Go on with:\n"
            f"  ddpm train --run {folder.path} --resume",
        )
        raise KeyboardInterrupt
    _say(
        trainer,
        f"Trained in {trainer.seconds:.0f} s. Next:\n"
        f"  ddpm sample --run {folder.path}\n"
        f"  ddpm eval --run {folder.path}",
    )


@contextmanager
def stop_request() -> Iterator[list[int]]:
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
