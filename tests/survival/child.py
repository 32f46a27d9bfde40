"""`ddpm` in a process forked from one that has imported torch: a real process, quickly begun."""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Semaphore
from pathlib import Path

CAPABILITIES_VERSION = 0x20080522
"""The layout of `capset(2)` with two words a set, from linux/capability.h."""
TOUCHING = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree"}
"""Python's audit events of calls that change or read a folder."""


def server() -> ForkServerContext:
    """The context that forks runs; the first one waits until everything is imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.survival.warm"])
    return context


@dataclass
class Watch:
    """What a parent sees of a run while it trains.

    Attributes:
        updates: Updates done.
        calls: Calls on files since the last checkpoint was begun.
        saves: Released whenever a checkpoint is begun.
    """

    updates: "Synchronized[int]" = field(default_factory=lambda: server().Value("q", 0))
    calls: "Synchronized[int]" = field(default_factory=lambda: server().Value("q", 0))
    saves: Semaphore = field(default_factory=lambda: server().Semaphore(0))


@dataclass(frozen=True)
class Fault:
    """What happens to a run.

    Attributes:
        save: Number of the checkpoint, from 1, inside which it dies; 0 for none.
        call: Number of the call on files, from 1, within that checkpoint.
        file_bytes: Largest file that it may write, or None.
        powerless: Whether it gives up root's right to write anywhere.
    """

    save: int = 0
    call: int = 0
    file_bytes: int | None = None
    powerless: bool = False


def begin(
    arguments: list[str], log: Path, watch: Watch | None = None, fault: Fault | None = None
) -> ForkServerProcess:
    """Start `ddpm` with its output in one file and its errors in another."""
    process = server().Process(target=_command, args=(arguments, log, watch, fault or Fault()))
    process.start()
    return process


def errors_of(log: Path) -> Path:
    """Where the errors go of a command that prints to `log`."""
    return log.with_suffix(".err")


def finish(process: ForkServerProcess, seconds: float = 300) -> int:
    """Exit code of a command, minus the signal where one killed it."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"still running after {seconds} s")
    return process.exitcode


def _command(arguments: list[str], log: Path, watch: Watch | None, fault: Fault) -> None:
    for number, path in ((1, log), (2, errors_of(log))):
        with path.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    if fault.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, fault.file_bytes))
    if fault.powerless and os.geteuid() == 0:
        _drop_capabilities()
    if watch is not None:
        _observe(watch, fault)
    from ddpm.cli import main

    sys.argv = ["ddpm", *arguments]
    main()


def _drop_capabilities() -> None:
    """Let root obey the modes of files, as the same user: Python itself may lie in root's home."""
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _observe(watch: Watch, fault: Fault) -> None:
    """Count updates and calls on files, and die where the fault says."""
    from ddpm.training.trainer import Record, Trainer

    update, saves, saving = Trainer.update, 0, False

    def counted(trainer: Trainer) -> Record:
        nonlocal saving
        saving = False
        record = update(trainer)
        watch.updates.value = record.step
        return record

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal saves, saving
        if event not in TOUCHING:
            return
        if event == "os.mkdir" and "/checkpoints/." in str(arguments[0]):
            saves, saving, watch.calls.value = saves + 1, True, 0
            watch.saves.release()
        if saving:
            watch.calls.value += 1
            if (saves, watch.calls.value) == (fault.save, fault.call):
                os.kill(os.getpid(), signal.SIGKILL)

    Trainer.update = counted  # type: ignore[assignment]
    sys.addaudithook(look)
