"""The command under torchrun: restarts go on, other runs are left alone, and no process aborts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ddpm.runs import checkpoint
from ddpm.runs.checkpoint import checkpoints
from tests.cli.command import SMALL, everything_below, run_here
from tests.distributed.together import command_on, free_port

STEPS = 30
OPTIONS = ["--steps", str(STEPS), "--device", "cpu", "--checkpoint-every", "10", *SMALL]


def torchrun(run: Path, *options: str) -> subprocess.Popen[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += [
        "--master-port",
        str(free_port()),
        "--max-restarts",
        "1",
        "--monitor-interval",
        "0.1",
    ]
    # Without the dashes torchrun takes --run for a beginning of an option of its own.
    arguments = ["-m", "--", "ddpm", "train", "--run", str(run), *OPTIONS, *options]
    return subprocess.Popen(
        [*launch, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def children(process: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def ranks_of(agent: int) -> list[int]:
    """Processes of the agent that run our command."""
    found = [(p, Path(f"/proc/{p}/cmdline").read_bytes()) for p in children(agent)]
    return [process for process, line in found if b"ddpm" in line]


def test_a_killed_rank_is_restarted_and_the_run_ends_as_if_nothing_had_been(
    tmp_path: Path,
) -> None:
    """By FSDP, where a rank may be gone in the middle of a checkpoint that all write together."""
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    process = torchrun(run, "--parallel", "fsdp")
    try:
        while not checkpoints(run / "checkpoints"):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
        output, _ = process.communicate(timeout=300)
    finally:
        # The agent, and it alone, can end the ranks, which have sessions of their own.
        process.terminate()
        process.wait(60)
    # A process that aborts at its end would have made this another number.
    assert process.returncode == 0, output
    assert output.count("Training ") == 2
    assert "from update 0 to" in output
    assert "Trained in" in output
    code = command_on(2, "train", "--run", str(undisturbed), "--parallel", "fsdp", *OPTIONS)
    assert code == [0, 0]
    one, other = (checkpoint.load(p / f"checkpoints/step-{STEPS}") for p in (run, undisturbed))
    assert one.tensors.keys() == other.tensors.keys()
    for part, tensors in one.tensors.items():
        for name, x in tensors.items():
            assert torch.equal(x, other.tensors[part][name]), (part, name)
    assert (run / f"checkpoints/step-{STEPS}/model").is_dir()


def test_a_job_goes_on_with_its_own_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["train", "--run", str(run), "--minutes", "0.01", "--device", "cpu", *SMALL]
    for given in ("first", "none"):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", given)
        arguments[2] = str(tmp_path / given)
        assert run_here(*arguments) == 0
        capfd.readouterr()
        assert run_here(*arguments) == 0
        assert "is trained" in capfd.readouterr().out
    before = everything_below(tmp_path)
    arguments[2] = str(tmp_path / "first")
    for other in ("second", "none"):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", other)
        assert run_here(*arguments) == 2
        assert "already holds a run; add --resume" in capfd.readouterr().err
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert run_here(*arguments) == 2
    assert everything_below(tmp_path) == before


def test_a_batch_that_ranks_cannot_share_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    code = command_on(3, "train", "--run", str(tmp_path / "run"), *OPTIONS)
    assert code == [2, 2, 2]
    assert not (tmp_path / "run").exists()


def test_ranks_stop_together_and_go_on_on_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ["train", "--run", str(run), "--steps", "100000", "--device", "cpu", *SMALL]
    code = command_on(2, *options, interrupted=run / "metrics.jsonl")
    assert code == [130, 130]
    (saved,) = checkpoints(run / "checkpoints")
    assert int(saved.name.removeprefix("step-")) % 4 == 0
    capfd.readouterr()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert len(lines) >= 1
