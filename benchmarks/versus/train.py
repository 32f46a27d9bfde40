"""Train one loop until its process has used so much processor time, and keep its weights."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

import torch
from safetensors.torch import save_file

from benchmarks.versus.common import Loop, Start, configure, require
from benchmarks.versus.loops import CPU, LOOPS, NEVER
from ddpm.bench.machine import describe
from ddpm.commands.terminal import console
from ddpm.data.load import canonical_source, load_images
from ddpm.errors import check
from ddpm.files import begin_folder, write_folder_atomically

CALIBRATION_SHARE = 0.02
"""Share of the budget that goes into measuring the speed, where a learning rate is planned."""
FEWEST = 3
"""Updates that a speed is measured by, the first of them left out."""
EVERY_SECONDS = 120.0
"""Processor time between two writings."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be trained.

    Attributes:
        loop: "ours", "diffusers" or "lucidrains".
        minutes: Processor time that the process may spend on updates.
        out: Folder to write, which is not there yet.
        seed: Of the initial weights and of the loop's own random numbers.
        data: Name or path of the images.
        batch_size: Images in an update.
        tuned: Whether a peer gets our learning rate and warm-up.

    Raises:
        InputError: one of them cannot be used.
    """

    loop: str
    minutes: float
    out: Path
    seed: int = 0
    data: str = "fashion-mnist"
    batch_size: int = 64
    tuned: bool = False

    def __post_init__(self) -> None:
        check(self.loop in LOOPS, "loop", self.loop, ", ".join(LOOPS))
        check(0 < self.minutes < 1e6, "minutes", self.minutes, "a positive number")
        check(0 <= self.seed < 2**63, "seed", self.seed, "0 to 2^63 - 1")
        check(self.batch_size >= 16, "batch_size", self.batch_size, "an integer of at least 16")
        check(not self.out.exists(), "out", str(self.out), "a folder that is not there yet")
        allowed = "no --tuned for our own loop, which trains with its defaults"
        check(not (self.tuned and self.loop == "ours"), "tuned", self.tuned, allowed)


def train(request: Request) -> None:
    """Train, and write the folder every two minutes and at the end.

    Raises:
        InputError: the data or the folder cannot be used, or the library is not there.
    """
    kind = LOOPS[request.loop]
    if kind.peer is not None:
        require(kind.peer)
    torch.set_num_threads(1)
    # A folder that cannot be written is refused now, not after the first two minutes.
    begin_folder(request.out).rmdir()
    data = load_images(request.data)
    source = canonical_source(request.data)
    config = configure(data, source, request.seed, request.batch_size)
    seconds = 60 * request.minutes
    with tempfile.TemporaryDirectory() as folder:
        start = Start(config, data, NEVER, Path(folder), request.tuned)
        planned, spent = _planned(kind.make, start, seconds) if kind.plans else (NEVER, 0.0)
        loop = kind.make(replace(start, planned=planned))
        _run(loop, request, start, planned, seconds, spent)


def _planned(make: Callable[[Start], Loop], start: Start, seconds: float) -> tuple[int, float]:
    """Updates that fit into the budget, and what of it was spent on finding out."""
    loop, times = make(start), list[float]()
    while len(times) < FEWEST or sum(times) < CALIBRATION_SHARE * seconds:
        times.append(_timed(loop))
    spent = sum(times)
    usual = (spent - times[0]) / (len(times) - 1)
    return max(1, int((seconds - spent) / usual)), spent


def _timed(loop: Loop) -> float:
    """Processor time of one update, all threads of the process added up."""
    began = process_time()
    loop.update()
    return process_time() - began


def _run(
    loop: Loop, request: Request, start: Start, planned: int, seconds: float, spent: float
) -> None:
    """Update until the plan is fulfilled or the budget used up."""
    began, updates, written = perf_counter(), 0, spent
    finished = False
    while not finished:
        spent += _timed(loop)
        updates += 1
        finished = updates >= planned or spent >= seconds
        if finished or spent - written >= EVERY_SECONDS:
            written = spent
            record = {
                "loop": request.loop,
                "tuned": request.tuned,
                "updates": updates,
                "planned_updates": None if planned == NEVER else planned,
                "finished": finished,
                "cpu_seconds": round(spent, 2),
                "budget_seconds": seconds,
                "wall_seconds": round(perf_counter() - began, 2),
            }
            _write(request.out, loop, start, record)
            console.print(
                f"{request.loop}: {updates} updates, {spent / 60:.2f} of {seconds / 60:g} minutes "
                f"of processor time",
                soft_wrap=True,
            )


def _write(out: Path, loop: Loop, start: Start, record: dict[str, object]) -> None:
    """Put the weights of now in the place of those written before."""
    config = start.config
    text = {
        **record,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "data": config.data,
        "data_digest": config.data_digest,
        "network": asdict(config.model),
        "prediction": loop.process.prediction,
        "first_level": loop.process.first_level,
        "settings": loop.settings,
        "machine": describe(CPU, compile_too=False, processor_time=True),
    }

    def fill(folder: Path) -> None:
        for kind, weights in loop.weights().items():
            save_file(weights, folder / f"{kind}.safetensors")
        process = {"log_alpha_bar": loop.process.log_alpha_bar.contiguous()}
        save_file(process, folder / "process.safetensors")
        (folder / "run.json").write_text(json.dumps(text, indent=2) + "\n")

    write_folder_atomically(out, fill)
