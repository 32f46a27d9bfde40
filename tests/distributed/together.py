"""Running a function on several real processes that found each other as under torchrun."""

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing

from ddpm.distributed import TIMEOUT, joined
from tests.cli.command import run_here

PATIENCE = 300.0
"""Seconds after which a job that does not end has hung."""
Outcome = tuple[str, Any]

# The server imports torch once; every rank is then forked off it in no time.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.distributed.work"])


def together(
    world: int, work: Callable[..., Any], *arguments: Any, timeout: timedelta = TIMEOUT
) -> list[Any]:
    """What the work returns on each rank; it gets the ranks, then the arguments.

    Raises:
        AssertionError: a rank failed; with its traceback.
    """
    outcomes = outcomes_of(world, work, *arguments, timeout=timeout)
    failures = [f"{kind}: {text}" for kind, text in outcomes if kind != "result"]
    assert not failures, "\n".join(failures)
    return [result for _, result in outcomes]


def outcomes_of(
    world: int, work: Callable[..., Any], *arguments: Any, timeout: timedelta = TIMEOUT
) -> list[Outcome]:
    """For each rank ("result", value), ("error", text) or ("code", exit code where it is gone)."""
    port = free_port()
    pairs = [CONTEXT.Pipe(duplex=False) for _ in range(world)]
    processes = [
        CONTEXT.Process(
            target=_run, args=(rank, world, port, sender, work, arguments, timeout), daemon=True
        )
        for rank, (_, sender) in enumerate(pairs)
    ]
    for process, (_, sender) in zip(processes, pairs, strict=True):
        process.start()
        sender.close()
    outcomes = [_outcome(receiver) for receiver, _ in pairs]
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode is not None, "a rank hangs"
    return [
        ("code", process.exitcode) if outcome is None or process.exitcode else outcome
        for outcome, process in zip(outcomes, processes, strict=True)
    ]


def command_on(world: int, *arguments: str, interrupted: Path | None = None) -> list[int]:
    """Exit codes of a command of ours on several ranks.

    Args:
        world: Number of ranks.
        arguments: Of the command.
        interrupted: Where given, the first rank gets Ctrl-C once this file is there.
    """
    port = free_port()
    processes = [
        CONTEXT.Process(target=_command, args=(rank, world, port, arguments), daemon=True)
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    while interrupted is not None and not interrupted.exists():
        assert all(process.is_alive() for process in processes)
        time.sleep(0.02)
    if interrupted is not None:
        os.kill(processes[0].pid or 0, signal.SIGINT)
    for process in processes:
        process.join(PATIENCE)
    return [-1 if process.exitcode is None else process.exitcode for process in processes]


def _command(rank: int, world: int, port: int, arguments: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    with environment(rank, world, port):
        code = run_here(*arguments)
    assert not torch.distributed.is_initialized()
    raise SystemExit(code)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def _outcome(receiver: Connection) -> Outcome | None:
    assert receiver.poll(PATIENCE), "a rank hangs"
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:
        return None
    return outcome


@contextmanager
def environment(rank: int, world: int, port: int) -> Iterator[None]:
    """The environment that torchrun gives a rank."""
    values = {
        "RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setitem(os.environ, name, str(value))
        yield


def _run(
    rank: int,
    world: int,
    port: int,
    sender: Connection,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
    timeout: timedelta,
) -> None:
    torch.set_num_threads(1)
    outcome: Outcome
    try:
        with environment(rank, world, port), joined("cpu", timeout) as ranks:
            outcome = ("result", work(ranks, *arguments))
        # A group that is left to the end of the process may abort it: gloo's thread still runs.
        assert not torch.distributed.is_initialized()
    except SystemExit as stop:
        outcome = ("exit", str(stop.code))
    except Exception as error:
        outcome = ("error", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    sender.send(outcome)
