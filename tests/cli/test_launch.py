"""One flag for several processes: what torchrun is told, and real runs of two."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from ddpm.commands import launch as module
from ddpm.commands.launch import REFUSAL, launch, refuse, torchrun
from ddpm.distributed import RankError
from ddpm.errors import InputError
from ddpm.runs.checkpoint import checkpoints
from tests.cli.command import SMALL, start
from tests.distributed.test_torchrun import ranks_of


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that the module sets are gone after a test."""
    for name in ("RANK", REFUSAL, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "given", [["train", "--ranks", "8", "--run", "x"], ["train", "--run", "x", "--ranks=8"]]
)
def test_all_but_the_flag_is_handed_on(given: list[str]) -> None:
    command = torchrun(8, given)
    assert "--nproc-per-node=8" in command
    assert command[command.index("--") + 1 :] == ["ddpm", "train", "--run", "x"]


def test_one_rank_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_run", lambda _: pytest.fail("started"))
    launch(1)


@pytest.mark.parametrize(
    ("ranks", "said", "threads"), [(2, None, "4"), (16, None, "1"), (2, "3", "3")]
)
def test_ranks_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, ranks: int, said: str | None, threads: str
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    started: list[str] = []

    def run(_: list[str]) -> int:
        started.append(os.environ["OMP_NUM_THREADS"])
        return 0

    monkeypatch.setattr(module, "_run", run)
    with pytest.raises(SystemExit) as stop:
        launch(ranks)
    assert stop.value.code == 0
    assert started == [threads]


def code_of(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> int:
    """Exit code of a command on two ranks whose torchrun ends with an error."""

    def run(_: list[str]) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr("torch.distributed.run.main", run)
    with pytest.raises(SystemExit) as stop:
        launch(2)
    return int(stop.value.code or 0)


def test_the_command_ends_as_its_ranks_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(monkeypatch, None) == 0
    assert code_of(monkeypatch, SignalException("", signal.SIGTERM)) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == ""
    failure = ProcessFailure(local_rank=1, pid=2**30, exitcode=7, error_file="none")
    assert code_of(monkeypatch, ChildFailedError("ddpm", {1: failure})) == 1
    assert capsys.readouterr().err == "error: rank 1 ended with code 7, and so did 3 restarts\n"


def test_one_rank_says_what_all_refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def code(error: InputError) -> object:
        with pytest.raises(SystemExit) as stop:
            refuse(error)
        return stop.value.code

    assert [code(InputError("x = 0")), code(RankError("gone"))] == [2, 2]
    assert capsys.readouterr().err == "error: x = 0\nerror: gone\n"
    monkeypatch.setenv(REFUSAL, str(tmp_path / "refused"))
    assert code(RankError("gone")) == 2
    launch(1)
    assert [code(InputError("x = 1")), code(InputError("x = 2"))] == [0, 0]
    assert capsys.readouterr().err == "error: gone\nerror: x = 1\n"
    # A rank that is started again because another failed meanwhile.
    with pytest.raises(SystemExit) as stop:
        launch(1)
    assert stop.value.code == 0


def test_ranks_within_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="ranks = 2: allowed is nothing under torchrun"):
        launch(2)
    with pytest.raises(InputError, match="ranks = 0: allowed is 1 to"):
        launch(0)


def test_two_ranks_train(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--device", "cpu", "--ranks", "2", "--steps", "4", *SMALL]
    process = start("train", "--run", run, *options)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    environment = json.loads((run / "environment.json").read_text())
    assert "2" in json.dumps(environment)
    assert (run / "checkpoints" / "step-4" / "checkpoint.json").exists()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        # What every rank finds by itself, and what they find together.
        ("--steps", "0", r"error: rank [01]: steps = 0: allowed is 1 to .*"),
        ("--batch-size", "5", r"error: batch_size = 5: allowed is a multiple of 2, .*"),
    ],
)
def test_two_ranks_refuse_once(tmp_path: Path, option: str, value: str, says: str) -> None:
    run = tmp_path / "run"
    process = start("train", "--run", run, "--ranks", "2", "--device", "cpu", option, value)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    (line,) = output.splitlines()
    assert re.fullmatch(says, line), line
    assert not run.exists()


def test_a_killed_rank_is_no_refusal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--device", "cpu", "--steps", "30", "--checkpoint-every", "10", *SMALL]
    process = start("train", "--run", run, "--ranks", "2", *options)
    while not checkpoints(run / "checkpoints"):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert (run / "checkpoints" / "step-30" / "checkpoint.json").exists()
