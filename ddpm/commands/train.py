"""`ddpm train`: from images to checkpoints, on one process or on those that torchrun started."""

import statistics
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from ddpm.commands.defaults import make_config
from ddpm.commands.jobs import note_job, was_begun_here
from ddpm.commands.loop import train
from ddpm.commands.request import Request, TrainOptions, check_same
from ddpm.commands.terminal import console
from ddpm.config import RunConfig, from_json, to_json
from ddpm.data.batches import Batches, batches_of
from ddpm.data.images import ImageData
from ddpm.data.load import canonical_source, open_source
from ddpm.data.streamed import StreamedData
from ddpm.distributed import Ranks, joined
from ddpm.errors import check
from ddpm.files import write_atomically
from ddpm.presets import completed
from ddpm.runs.checkpoint import checkpoints
from ddpm.runs.run_folder import RunFolder
from ddpm.training.trainer import Trainer, check_divisible

DEFAULT_MINUTES = 3.0
CALIBRATION_UPDATES = 20
CALIBRATION_SECONDS = 5.0
SKIPPED_SHOWN = 3

Data = ImageData | StreamedData


def train_run(path: Path, request: Request, options: TrainOptions, *, resume: bool) -> None:
    """Train a new run, or go on with one, and tell what to do next.

    Under torchrun every rank calls it. Where torchrun restarts its ranks, the run that they began
    is gone on with.

    Raises:
        InputError: an argument, the data, the folder or the checkpoint cannot be used.
    """
    with joined(options.device) as ranks:
        folder = RunFolder(path)
        begun = ranks.first(lambda: _is_begun(folder, resume))
        if begun:
            # What a restarted job was told to begin with, the run has followed already.
            asked = request if resume else replace(request, minutes=None)
            config, data = _reopened(folder, asked, options, ranks)
        else:
            request = completed(request)
            config, data = _opened(request, options, ranks)
        torch.set_num_threads(config.threads)
        if not begun and request.steps is None:
            config = _calibrated(config, data, options, request.minutes, ranks)
        _train(folder, config, data, options, ranks, begun=begun)


def _is_begun(folder: RunFolder, resume: bool) -> bool:
    """Whether there is a run to go on with; otherwise the folder is free.

    Raises:
        InputError: neither is the case.
    """
    if resume:
        folder.config()
        return True
    if folder.exists and was_begun_here(folder):
        return True
    folder.check_free()
    return False


def _reopened(
    folder: RunFolder, request: Request, options: TrainOptions, ranks: Ranks
) -> tuple[RunConfig, Data]:
    """Configuration and images of a run that was begun."""
    text = ranks.first(lambda: to_json(folder.config()))
    config = from_json(text.encode(), folder.config_file)
    check_divisible(config, ranks)
    data = _open(config.data, config.skip_broken, options, ranks)
    check_same(request, config, data)
    return config, data


def _opened(request: Request, options: TrainOptions, ranks: Ranks) -> tuple[RunConfig, Data]:
    """Configuration and images of a new run; all ranks follow the configuration of the first."""
    source = canonical_source(request.data or "digits")
    data = _open(source, bool(request.skip_broken), options, ranks)
    own = make_config(request, data, source)
    config = from_json(ranks.agree(to_json(own)).encode(), Path("config.json"))
    check(
        own.data_digest == config.data_digest, "data", source,
        "the same images on every rank; these are not those of rank 0",
    )  # fmt: skip
    check_divisible(config, ranks)
    return config, data


def _open(source: str, skip_broken: bool, options: TrainOptions, ranks: Ranks) -> Data:
    data = open_source(
        source, skip_broken=skip_broken, stream=options.stream, workers=options.workers
    )
    if data.skipped and ranks.main:
        names = ", ".join(data.skipped[:SKIPPED_SHOWN])
        more = ", ..." if len(data.skipped) > SKIPPED_SHOWN else ""
        # A name may hold what a terminal would obey instead of show.
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in names)
        text = f"Left out {len(data.skipped):,} broken images: {shown}{more}"
        console.print(text, markup=False, soft_wrap=True)
    return data


def _batches(config: RunConfig, data: Data, options: TrainOptions, ranks: Ranks) -> Batches:
    return batches_of(data, config.batch_size, config.seed, ranks.device, options.workers)


def _calibrated(
    config: RunConfig, data: Data, options: TrainOptions, minutes: float | None, ranks: Ranks
) -> RunConfig:
    """The configuration with as many updates as take about the given time on this machine."""
    if ranks.main:
        console.print("Measuring the speed of this machine ...")
    trial = replace(config, steps=CALIBRATION_UPDATES)
    times: list[float] = []
    with closing(_batches(trial, data, options, ranks)) as batches:
        trainer = Trainer(trial, batches, ranks.device, ranks, options.parallel)
        while ranks.agree(_too_few(times)):
            started = perf_counter()
            float(trainer.update().loss)
            times.append(perf_counter() - started)
    seconds = 60 * (DEFAULT_MINUTES if minutes is None else minutes)
    steps = ranks.agree(max(1, round(seconds / statistics.median(times[1:]))))
    return replace(config, steps=steps)


def _too_few(times: list[float]) -> bool:
    return len(times) < CALIBRATION_UPDATES and (len(times) < 3 or sum(times) < CALIBRATION_SECONDS)


def _train(
    folder: RunFolder,
    config: RunConfig,
    data: Data,
    options: TrainOptions,
    ranks: Ranks,
    *,
    begun: bool,
) -> None:
    """Begin a run or go on with it, while rank 0 holds its lock."""
    with ExitStack() as held:
        ranks.first(lambda: held.enter_context(folder.locked()))
        batches = held.enter_context(closing(_batches(config, data, options, ranks)))
        trainer = Trainer(config, batches, ranks.device, ranks, options.parallel)
        if not begun:
            ranks.first(lambda: _create(folder, config, data))
        last = ranks.first(lambda: _last_checkpoint(folder))
        if last is not None:
            trainer.restore(Path(last))
        train(folder, trainer, options)


def _create(folder: RunFolder, config: RunConfig, data: Data) -> None:
    # The job comes first: a run without one could not be gone on with after a restart.
    folder.check_free()
    note_job(folder)
    folder.create(config)
    if data.skipped:
        text = "".join(f"{name}\n" for name in data.skipped)
        write_atomically(folder.path / "skipped.txt", text.encode())


def _last_checkpoint(folder: RunFolder) -> str | None:
    found = checkpoints(folder.checkpoints)
    return str(found[-1]) if found else None
