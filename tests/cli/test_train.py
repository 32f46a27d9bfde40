"""A run survives kill -9 and Ctrl-C, and ends where an undisturbed one ends."""

import json
import math
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ddpm.runs.checkpoint import checkpoints
from ddpm.training.trainer import Record, Trainer
from tests.cli.command import SMALL, run_here, start

STEPS = 400
OPTIONS = ["--steps", str(STEPS), "--device", "cpu", "--checkpoint-every", "40", *SMALL]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert run_here("train", "--run", run, *OPTIONS) == 0
    return run


def stop_early(run: Path, number: int) -> tuple[int, str]:
    """Start a run, send it a signal once it has saved something, and return code and output."""
    process = start("train", "--run", run, *OPTIONS)
    while not checkpoints(run / "checkpoints"):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def assert_same_end(run: Path, other: Path) -> None:
    for part in ("model", "ema", "optimiser"):
        file = f"checkpoints/step-{STEPS}/{part}.safetensors"
        one, two = load_file(run / file), load_file(other / file)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)


def assert_same_metrics(run: Path, other: Path) -> None:
    def losses(folder: Path) -> list[tuple[int, float]]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [(r["step"], r["loss"]) for r in map(json.loads, lines)]

    assert losses(run) == losses(other)
    assert [step for step, _ in losses(run)] == list(range(20, STEPS + 1, 20))


def test_kill_and_resume_is_bit_identical(tmp_path: Path, undisturbed: Path) -> None:
    run = tmp_path / "run"
    code, _ = stop_early(run, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert checkpoints(run / "checkpoints")[-1].name != f"step-{STEPS}"
    assert run_here("train", "--run", run, "--resume", "--device", "cpu") == 0
    assert_same_end(run, undisturbed)
    assert_same_metrics(run, undisturbed)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, undisturbed: Path) -> None:
    run = tmp_path / "run"
    code, output = stop_early(run, signal.SIGINT)
    assert code == 130
    assert f"ddpm train --run {run} --resume" in output.replace("\n", " ")
    assert "Stopped and saved after update" in output
    assert run_here("train", "--run", run, "--resume", "--device", "cpu") == 0
    assert_same_end(run, undisturbed)


def test_two_processes_never_train_one_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    # So many updates that it is still at work when the second one has started.
    process = start("train", "--run", run, *OPTIONS, "--steps", "1000000")
    try:
        while not (run / "config.json").exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        second = start("train", "--run", run, "--resume", "--device", "cpu")
        output, _ = second.communicate(timeout=60)
        assert second.returncode == 2
        assert "another process is training it" in output
    finally:
        process.kill()
        process.communicate()


def test_resuming_a_finished_run_changes_nothing(
    undisturbed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (undisturbed / "metrics.jsonl").read_bytes()
    assert run_here("train", "--run", undisturbed, "--resume", "--device", "cpu") == 0
    assert "is trained" in capfd.readouterr().out
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


def test_a_run_is_a_folder(undisturbed: Path) -> None:
    names = {p.name for p in undisturbed.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "tensorboard"} <= names
    assert len(checkpoints(undisturbed / "checkpoints")) == 3
    assert list((undisturbed / "tensorboard").iterdir())


def test_a_diverging_run_stops_and_keeps_its_last_good_checkpoint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Trainer.update

    def diverge(trainer: Trainer) -> Record:
        record = update(trainer)
        return replace(record, loss=record.loss * math.nan) if record.step > 50 else record

    monkeypatch.setattr(Trainer, "update", diverge)
    run = tmp_path / "run"
    assert run_here("train", "--run", run, *OPTIONS) == 2
    error = capfd.readouterr().err.strip()
    assert "learning_rate = 0.004: the loss is nan at update 60" in error
    assert len(error.splitlines()) == 1
    assert [p.name for p in checkpoints(run / "checkpoints")] == ["step-40"]


def test_minutes_are_turned_into_updates(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--minutes", "0.02", "--device", "cpu", *SMALL]
    assert run_here("train", "--run", run, *options) == 0
    config = json.loads((run / "config.json").read_text())
    assert config["steps"] > 1
    assert (run / "checkpoints" / f"step-{config['steps']}").is_dir()


def test_the_module_runs_too() -> None:
    process = start("--version")
    assert process.communicate()[0].strip() == "0.1.0"
    assert isinstance(process, subprocess.Popen)
