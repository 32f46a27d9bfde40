"""Files appear whole, folders appear whole, and results keep their names."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm import files
from ddpm.errors import InputError
from ddpm.files import STALE_SECONDS


def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a" / "file"
    files.write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(InputError, match="file: cannot be written: disk"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    files.write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_folder_is_not_there(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "part").write_text("half")
        raise OSError("disk")

    with pytest.raises(InputError, match="new: cannot be written: disk"):
        files.write_folder_atomically(tmp_path / "new", fill)
    assert list(tmp_path.iterdir()) == []


def test_free_names_count_up(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    assert files.free_path(path) == path
    assert files.keep_old(path) is None
    for expected in ("grid-2.png", "grid-3.png"):
        path.write_text("x")
        moved = files.keep_old(path)
        assert moved is not None
        assert moved.name == expected
        assert not path.exists()


@given(content=st.binary(max_size=3000))
def test_checksum(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    import hashlib

    path = tmp_path_factory.mktemp("sum") / "file"
    path.write_bytes(content)
    assert files.sha256(path) == hashlib.sha256(content).hexdigest()


def touch(name: str) -> Callable[[Path], None]:
    """What fills a folder with one empty file."""
    return lambda folder: (folder / name).touch()


def leave(folder: Path, name: str, kind: str = "partial", age: float = 0.0) -> Path:
    """What a process leaves that is killed while it writes `name`."""
    path = folder / f".{name}.0123456789abcdef.{kind}"
    path.mkdir()
    (path / "part").write_text("half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_left_overs_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    own = [".step-1", ".step-1.partial", "step-1", ".step-1.original", ".a.0123456789abcde.partial"]
    for name in own:
        (tmp_path / name).mkdir()
    leave(tmp_path, "step-1")
    leave(tmp_path, "step-2")
    (tmp_path / ".file.0123456789abcdef.partial").write_text("half")
    files.remove_partials(tmp_path, "step-2")
    assert {path.name for path in tmp_path.iterdir()} >= {".step-1.0123456789abcdef.partial"}
    assert not (tmp_path / ".step-2.0123456789abcdef.partial").exists()
    files.remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(own)
    files.remove_partials(tmp_path / "absent")


def test_a_folder_killed_while_it_was_replaced_comes_back(tmp_path: Path) -> None:
    leave(tmp_path, "step-1", "retired")
    leave(tmp_path, "step-2", "retired")
    (tmp_path / "step-2").mkdir()
    files.remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-2"]
    assert (tmp_path / "step-1" / "part").read_text() == "half"
    assert list((tmp_path / "step-2").iterdir()) == []


def test_writing_again_clears_what_is_long_dead(tmp_path: Path) -> None:
    leave(tmp_path, "file", age=2 * STALE_SECONDS)
    leave(tmp_path, "other", age=2 * STALE_SECONDS)
    files.write_atomically(tmp_path / "file", b"x")
    assert len(list(tmp_path.iterdir())) == 2
    leave(tmp_path, "file", age=STALE_SECONDS / 2)
    files.write_atomically(tmp_path / "file", b"x")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    target = tmp_path / "new"
    monkeypatch.setattr(files, "sync", lambda path: synced.append((path.name, target.exists())))

    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x")

    files.write_folder_atomically(target, fill)
    before = [name for name, there in synced if not there]
    assert {"inner", "file"} < set(before)
    assert len(before) == 3
    assert synced[-1] == (tmp_path.name, True)


def test_a_replacement_that_fails_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "step-1", Path.rename
    files.write_folder_atomically(target, touch("old"))

    def fail(path: Path, to: Path) -> Path:
        if path.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="No space left"):
        files.write_folder_atomically(target, touch("new"))
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_only_ordinary_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(bytes(11))
    for name, message in (
        ("pipe", "not an ordinary file"), (".", "not an ordinary file"),
        ("big", "11 bytes; allowed are at most 10"), ("absent", "cannot be read: No such file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            files.read_plain(tmp_path / name, 10)
    assert files.read_plain(tmp_path / "big", 11) == bytes(11)
