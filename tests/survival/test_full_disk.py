"""A full disk and a folder that may not be written to: one line, and what was there is there."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ddpm.errors import InputError
from ddpm.files import is_partial, remove_partials, write_atomically
from ddpm.runs import checkpoint
from ddpm.runs.checkpoint import Checkpoint, checkpoints
from ddpm.runs.run_folder import RunFolder
from tests.ddpm.small import small_config
from tests.survival.child import TOUCHING, Fault, errors_of
from tests.survival.kills import Run, Tally, assert_same_end

TENSORS = {"model": {"a": torch.arange(600.0)}, "ema-0.9": {"a": torch.ones(3)}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("whole") / "run", 10, Tally())
    assert run.launch() == 0, run.log()
    return run


def fails(run: Run, fault: Fault | None = None) -> str:
    """The one line that a command prints that cannot write; its last checkpoint is intact."""
    assert run.launch(fault) == 2, run.log()
    file = errors_of(run.path.with_suffix(".log"))
    lines = file.read_text().splitlines()
    file.unlink()
    assert len(lines) == 1, lines
    for folder in checkpoints(run.path / "checkpoints"):
        checkpoint.load(folder)
    if run.path.is_dir():
        assert not [path for path in run.path.rglob(".*") if is_partial(path)]
    return lines[0]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True
    )
    if done.returncode:
        folder.rmdir()
        pytest.skip("needs a user who may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


def test_a_run_goes_on_once_there_is_room_again(small_disk: Path, whole: Run) -> None:
    run = Run(small_disk / "run", 10, Tally())
    for _ in range(2):
        assert "cannot be written: " in (line := fails(run)), line
        assert "No space left on device" in line
    assert checkpoints(run.path / "checkpoints")
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert run.launch() == 0, run.log()
    assert_same_end(run, whole)


@pytest.mark.parametrize("file_bytes", [500, 1_900, 8_000, 30_000])
def test_a_run_that_may_write_only_so_much(tmp_path: Path, whole: Run, file_bytes: int) -> None:
    run = Run(tmp_path / "run", 10, Tally())
    line = fails(run, Fault(file_bytes=file_bytes))
    assert "File too large" in line
    assert run.launch() == 0, run.log()
    assert_same_end(run, whole)


@pytest.mark.parametrize("file_bytes", [1_600, 2_600])
def test_curves_that_may_grow_only_so_much(tmp_path: Path, whole: Run, file_bytes: int) -> None:
    """What fails first here is metrics.jsonl, or TensorBoard in a thread of its own."""
    run = Run(tmp_path / "run", 1000, Tally())
    line = fails(run, Fault(file_bytes=file_bytes))
    assert "File too large" in line
    assert "metrics.jsonl: " in line or "tensorboard: " in line
    assert run.launch() == 0, run.log()
    assert_same_end(run, whole)


def test_a_folder_that_may_not_be_written_to(whole: Run) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(whole.path, folder / "run")
        shutil.rmtree(
            folder / "run" / "checkpoints" / checkpoints(whole.path / "checkpoints")[-1].name
        )
        folder.chmod(0o755)
        for path in (folder / "run").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (folder / "run").chmod(0o555)
        run = Run(folder / "run", 10, Tally())
        line = fails(run, Fault(powerless=True))
        assert "Permission denied" in line
        assert str(folder) in line
    finally:
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)


class Failing:
    """Audit hook that lets one call on files fail, as a full or a read-only disk would."""

    def __init__(self) -> None:
        self.armed = False
        self.left = self.number = 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.armed and event in TOUCHING - {"shutil.rmtree"}:
            self.left -= 1
            if self.left == 0:
                raise OSError(self.number, os.strerror(self.number), str(arguments[0]))

    def failed(self, call: int, number: int, work: Callable[[], object]) -> bool:
        """Do the work with one call failing, and tell whether it said so."""
        self.armed, self.left, self.number = True, call, number
        try:
            work()
        except InputError as error:
            return os.strerror(number) in str(error)
        finally:
            self.armed = False
        return False


@pytest.fixture(scope="module")
def failing() -> Failing:
    # A hook stays for as long as the process lives, so there is one that can be disarmed.
    hook = Failing()
    sys.addaudithook(hook)
    return hook


def every_call(
    failing: Failing, number: int, work: Callable[[], object], check: Callable[[bool], None]
) -> int:
    """Repeat `work` with its first, second, ... call failing, and count the calls."""
    for call in range(1, 100):
        check(not failing.failed(call, number, work))
        if failing.left > 0:
            return call - 1
    raise AssertionError("never ended")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_checkpoint_of_which_any_call_fails(
    tmp_path: Path, failing: Failing, number: int
) -> None:
    checkpoint.save(tmp_path, Checkpoint(1, 1.0, TENSORS), 1)

    def work() -> None:
        checkpoint.save(tmp_path, Checkpoint(2, 2.0, TENSORS), 1)

    def check(done: bool) -> None:
        remove_partials(tmp_path)
        found = [checkpoint.load(folder).step for folder in checkpoints(tmp_path)]
        assert found in ([1], [1, 2], [2])
        assert not done or found[-1] == 2
        assert {path.name for path in tmp_path.iterdir()} == {f"step-{step}" for step in found}
        shutil.rmtree(tmp_path / "step-2", ignore_errors=True)
        if not checkpoints(tmp_path):
            checkpoint.save(tmp_path, Checkpoint(1, 1.0, TENSORS), 1)

    assert every_call(failing, number, work, check) >= 8


def test_a_checkpoint_saved_again_of_which_any_call_fails(tmp_path: Path, failing: Failing) -> None:
    checkpoint.save(tmp_path, Checkpoint(1, 1.0, TENSORS), 2)

    def check(done: bool) -> None:
        remove_partials(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
        assert checkpoint.load(tmp_path / "step-1").seconds in ([2.0] if done else [1.0, 2.0])

    def work() -> None:
        checkpoint.save(tmp_path, Checkpoint(1, 2.0, TENSORS), 2)

    assert every_call(failing, errno.ENOSPC, work, check) >= 8


def test_a_file_of_which_any_call_fails(tmp_path: Path, failing: Failing) -> None:
    path = tmp_path / "run" / "file"
    write_atomically(path, b"old")

    def check(done: bool) -> None:
        assert path.read_bytes() in ([b"new"] if done else [b"old", b"new"])
        path.write_bytes(b"old")
        remove_partials(path.parent)
        assert [entry.name for entry in path.parent.iterdir()] == ["file"]

    assert every_call(failing, errno.EROFS, lambda: write_atomically(path, b"new"), check) >= 3


def test_metrics_of_a_full_disk(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics_file.symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"metrics.jsonl: cannot be written: No space left"):
        folder.append_metrics({"step": 1})


def test_a_configuration_that_cannot_be_written(tmp_path: Path, failing: Failing) -> None:
    folder = RunFolder(tmp_path / "run")

    def check(done: bool) -> None:
        assert folder.exists or not done
        if folder.exists:
            assert folder.config() == small_config()
            folder.config_file.unlink()

    def work() -> None:
        with folder.locked():
            folder.create(small_config())

    assert every_call(failing, errno.ENOSPC, work, check) >= 4
