"""Files appear whole, folders appear whole, and results keep their names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm import files


def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a" / "file"
    files.write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk"):
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

    with pytest.raises(OSError, match="disk"):
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
