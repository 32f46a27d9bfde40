"""The lock, the metrics and the left-overs of a run folder."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ddpm.errors import InputError
from ddpm.files import PARTIAL, STALE_SECONDS
from ddpm.runs.run_folder import LOCK, RunFolder
from tests.ddpm.small import small_config

LEFT = "0123456789abcdef.partial"


def test_a_hand_damaged_line_is_kept_aside_and_does_not_end_a_resume(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    content = b'{"step": 1}\n{"step": 2, "lo\xff\n{"step": 3}\n{"step": 4}\n{"ste'
    folder.metrics_file.write_bytes(content)
    copy = folder.rewind_metrics(3)
    assert copy == tmp_path / "metrics-2.jsonl"
    assert copy.read_bytes() == content
    assert folder.metrics_file.read_bytes() == b'{"step": 1}\n{"step": 3}\n'
    assert folder.rewind_metrics(1) is None
    assert folder.metrics_file.read_bytes() == b'{"step": 1}\n'


def test_a_line_cut_short_by_a_kill_is_dropped_without_a_word(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics_file.write_bytes(b'{"step": 1}\n{"step": 2}')
    assert folder.rewind_metrics(9) is None
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert folder.metrics_file.read_bytes() == b'{"step": 1}\n'


@pytest.mark.parametrize(
    "line",
    ["[]", "3", "null", '{"step": "1"}', '{"step": true}', pytest.param("[" * 10**5, id="deep")],
)
def test_a_line_of_something_else_is_damage(tmp_path: Path, line: str) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics_file.write_text(f'{line}\n{{"step": 1}}\n')
    assert folder.rewind_metrics(9) is not None
    assert folder.metrics_file.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    folder = RunFolder(tmp_path)
    with pytest.raises(InputError, match=f"{name}: not an ordinary file"):
        folder.config() if name == "config.json" else folder.rewind_metrics(1)


def test_left_overs_of_a_killed_start_do_not_block_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    (folder.path / LOCK).touch()
    (folder.path / f".config.json.{LEFT}").write_text("{")
    folder.check_free()
    with folder.locked():
        folder.create(small_config())
    assert sorted(path.name for path in folder.path.iterdir()) == [LOCK, "config.json"]


def test_the_lock_clears_what_only_training_writes(tmp_path: Path) -> None:
    folder, old = RunFolder(tmp_path), time.time() - 2 * STALE_SECONDS
    folder.checkpoints.mkdir()
    (folder.checkpoints / f".step-3.{LEFT}").mkdir()
    for name in ("metrics.jsonl", "eval.json", "old.json"):
        (tmp_path / f".{name}.{LEFT}").touch()
    os.utime(tmp_path / f".old.json.{LEFT}", (old, old))
    with folder.locked():
        pass
    left = [path.name for path in tmp_path.rglob(".*") if PARTIAL.fullmatch(path.name)]
    assert left == [f".eval.json.{LEFT}"]


def _train(path: Path, ready: Connection) -> None:
    """Hold the run, with a worker that outlives this process."""
    with RunFolder(path).locked():
        worker = os.fork()
        if worker == 0:
            time.sleep(20)
            os._exit(0)
        ready.send(worker)
        time.sleep(20)


def test_a_worker_of_a_killed_process_does_not_hold_the_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(tmp_path, theirs))
    process.start()
    worker = ours.recv()
    try:
        with pytest.raises(InputError, match="another process"), RunFolder(tmp_path).locked():
            pass
        process.kill()
        process.join()
        os.kill(worker, 0)
        with RunFolder(tmp_path).locked():
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
