"""Kill a training run again and again, and see that nothing is lost.

    python -m tests.survival.kills --count 100

prints one JSON object: how many kills, how many of them inside the writing of a checkpoint, the
most updates lost, and how many runs ended with the weights of an undisturbed one, bit by bit.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from ddpm.files import is_partial
from ddpm.runs.checkpoint import checkpoints, load
from tests.survival import child
from tests.survival.child import Fault, Watch, errors_of, finish

STEPS = 90
OPTIONS = [
    "--steps", str(STEPS), "--channels", "4", "--levels", "10", "--batch-size", "16",
    "--dropout", "0.1", "--device", "cpu",
]  # fmt: skip
INTERVALS = (1, 2, 5)
"""Updates between the checkpoints of a run, in turn; its weights do not depend on them."""
KINDS = ("anywhere", "at a call", "anywhere", "while saving")
"""Moments of the kills, in turn: half of them aim at the writing of a checkpoint."""


@dataclass(frozen=True)
class Pace:
    """How long things take here, from the undisturbed run.

    Attributes:
        begin: Seconds from the start to the first checkpoint.
        update: Seconds of an update and its checkpoint.
        save: Seconds of a checkpoint.
        calls: Calls on files of a checkpoint.
    """

    begin: float
    update: float
    save: float
    calls: int


@dataclass
class Tally:
    """What was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    inside: int = 0
    lost: int = 0
    launches: int = 0
    runs: int = 0

    def text(self, seconds: float) -> str:
        return json.dumps(
            {
                "kills": self.kills.total(), **self.kills, "left a half-written checkpoint":
                self.inside, "most updates lost": self.lost, "launches": self.launches,
                "runs ended bit-identical": self.runs, "seconds": round(seconds, 1),
            },
            indent=2,
        )  # fmt: skip


class Run:
    """One run folder and the processes that train it, one after the other."""

    def __init__(self, path: Path, every: int, tally: Tally) -> None:
        self.path, self.every, self.tally = path, every, tally
        self.saved = 0

    def launch(self, fault: Fault | None = None) -> int:
        """Start or resume the run and return the exit code."""
        return finish(self.begin(None, fault))

    def killed(self, kind: str, pace: Pace, dice: random.Random) -> bool:
        """Launch, kill at a moment of the given kind, and examine; False where the run was over."""
        watch, fault = Watch(), Fault()
        if kind == "at a call":
            fault = Fault(save=dice.randint(1, 3), call=dice.randint(1, pace.calls))
        process = self.begin(watch, fault)
        if kind == "anywhere":
            process.join(dice.uniform(0, pace.begin + 15 * pace.update))
        elif kind == "while saving":
            self.await_save(process, watch, dice.randint(1, 3))
            time.sleep(dice.uniform(0, pace.save))
        if kind != "at a call":
            process.kill()
        if finish(process) != -signal.SIGKILL:
            assert process.exitcode == 0, self.log()
            return False
        self.examine(watch)
        self.tally.kills[kind] += 1
        return True

    def examine(self, watch: Watch) -> None:
        """Every checkpoint is whole, none went missing, at most one interval of updates is lost."""
        found = checkpoints(self.path / "checkpoints")
        steps = [load(folder).step for folder in found]
        last = steps[-1] if steps else 0
        assert last >= self.saved, f"{self.path}: had {self.saved}, has {last}"
        lost = watch.updates.value - last
        assert lost <= self.every, f"{self.path}: {lost} updates lost of an interval {self.every}"
        self.saved = last
        self.tally.lost = max(self.tally.lost, lost)
        self.tally.inside += any(map(is_partial, (self.path / "checkpoints").glob(".*")))

    def log(self) -> str:
        """What was printed, errors last."""
        log = self.path.with_suffix(".log")
        return log.read_text() + errors_of(log).read_text()

    def begin(self, watch: Watch | None, fault: Fault | None) -> ForkServerProcess:
        self.tally.launches += 1
        if watch is not None:
            watch.updates.value = self.saved
        resume = ["--resume"] if (self.path / "config.json").exists() else OPTIONS
        arguments = ["train", "--run", str(self.path), *resume, "--device", "cpu"]
        return child.begin(
            [*arguments, "--checkpoint-every", str(self.every)],
            self.path.with_suffix(".log"), watch, fault,
        )  # fmt: skip

    def await_save(self, process: ForkServerProcess, watch: Watch, number: int) -> None:
        for _ in range(number):
            while not watch.saves.acquire(timeout=0.05):
                if not process.is_alive():
                    return


def undisturbed(folder: Path, tally: Tally) -> tuple[Run, Pace]:
    """A run that nobody kills, and how long things took."""
    run, watch = Run(folder / "whole", 1, tally), Watch()
    process, started = run.begin(watch, None), time.perf_counter()
    run.await_save(process, watch, 1)
    first = time.perf_counter() - started
    assert finish(process) == 0, run.log()
    whole = time.perf_counter() - started
    seconds = load(checkpoints(run.path / "checkpoints")[-1]).seconds
    update = (whole - first) / STEPS
    return run, Pace(first, update, max(update - seconds / STEPS, 0.001), watch.calls.value)


def assert_same_end(run: Run, other: Run) -> None:
    """Weights, averages, optimiser and losses are the same, and nothing half-written is left."""
    name = f"checkpoints/step-{STEPS}"
    one, two = load(run.path / name).tensors, load(other.path / name).tensors
    assert one.keys() == two.keys()
    for part in one:
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(one[part][k], two[part][k]) for k in one[part]), part
    assert _losses(run) == _losses(other)
    partial = [path for path in run.path.rglob(".*") if is_partial(path)]
    assert not partial, partial
    assert len(checkpoints(run.path / "checkpoints")) <= 3


def _losses(run: Run) -> list[tuple[int, float]]:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [(record["step"], record["loss"]) for record in map(json.loads, lines)]


def campaign(folder: Path, count: int, seed: int = 0, per_run: int = 12) -> Tally:
    """Kill runs `count` times, up to `per_run` times each, and let each come to its end."""
    tally, dice = Tally(), random.Random(seed)
    whole, pace = undisturbed(folder, tally)
    while tally.kills.total() < count:
        run = Run(folder / f"run-{tally.runs}", INTERVALS[tally.runs % len(INTERVALS)], tally)
        going, here = True, 0
        while going and here < per_run and tally.kills.total() < count:
            going = run.killed(KINDS[tally.kills.total() % len(KINDS)], pace, dice)
            here += going
        assert run.launch() == 0, run.log()
        assert_same_end(run, whole)
        tally.runs += 1
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = campaign(Path(folder), chosen.count, chosen.seed)
    sys.stdout.write(tally.text(time.perf_counter() - started) + "\n")


if __name__ == "__main__":
    main()
