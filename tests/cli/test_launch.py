"""One flag for several processes: what torchrun is told, and a real run of two."""

import json
import sys
from pathlib import Path

import pytest

from ddpm.commands.launch import launch, torchrun
from ddpm.errors import InputError
from tests.cli.command import SMALL, start


@pytest.mark.parametrize(
    "given", [["train", "--ranks", "8", "--run", "x"], ["train", "--run", "x", "--ranks=8"]]
)
def test_all_but_the_flag_is_handed_on(given: list[str]) -> None:
    command = torchrun(8, given)
    assert command[0] == sys.executable
    assert "--nproc-per-node=8" in command
    assert command[command.index("--") + 1 :] == ["ddpm", "train", "--run", "x"]


def test_one_rank_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("started"))
    launch(1)


@pytest.mark.parametrize(
    ("ranks", "said", "threads"), [(2, None, "4"), (16, None, "1"), (2, "3", "3")]
)
def test_ranks_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, ranks: int, said: str | None, threads: str
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr("os.execve", lambda *given: started.append(given[2]))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    launch(ranks)
    assert [found["OMP_NUM_THREADS"] for found in started] == [threads]


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
