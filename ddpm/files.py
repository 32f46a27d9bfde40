"""Writing so that nothing is lost: whole files or none, and never over a result silently."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_folder_atomically(path: Path, fill: Callable[[Path], None]) -> None:
    """Create a folder that is either complete and on disk or not there.

    Args:
        path: The folder to create; a folder already there is replaced by the new one.
        fill: Writes the content into the temporary folder that it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        fill(temporary)
        for file in temporary.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        sync_folder(temporary)
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            path.replace(retired)
            temporary.replace(path)
            shutil.rmtree(retired)
        else:
            temporary.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_path(path: Path) -> Path:
    """The path itself where nothing is there, otherwise the first of name-2, name-3, ... free."""
    number, candidate = 2, path
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def keep_old(path: Path) -> Path | None:
    """Move an existing file to a free name, so that a new one can take its place.

    Returns:
        Where the old file lies now, or None where there was none.
    """
    if not path.exists():
        return None
    moved = free_path(path)
    path.rename(moved)
    return moved


def sha256(path: Path) -> str:
    """Checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
