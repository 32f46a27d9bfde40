"""Writing so that nothing is lost: whole files or none, and never over a result silently.

What is being written lies beside its target under a hidden name that ends in `.partial`. A process
that is killed leaves it behind; `remove_partials` clears it away at the next start.
"""

import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ddpm.errors import InputError

PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.(?P<kind>partial|retired)")
STALE_SECONDS = 3600.0
"""Age at which a partial file has no living writer, where no lock says so."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the path.

    Raises:
        InputError: the disk is full, the folder is read-only, or the like.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(
            f"{path}: cannot be written: {reason}; allowed is a folder with room that may be "
            "written to"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a failure to read into one line that names the path.

    Raises:
        InputError: it is not there, may not be read, or the like.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one.

    Raises:
        InputError: it cannot be written; what is there is still the old content or the new one.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(path.parent, path.name, older_than=STALE_SECONDS)
        temporary = _beside(path, "partial")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_folder_atomically(path: Path, fill: Callable[[Path], None]) -> None:
    """Create a folder that is either complete and on disk or not there.

    Args:
        path: The folder to create; a folder already there is replaced by the new one.
        fill: Writes the content into the temporary folder that it is given.

    Raises:
        InputError: it cannot be written; what is there is still the old folder or the new one.
    """
    temporary = begin_folder(path)
    try:
        with writing(path):
            fill(temporary)
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def begin_folder(path: Path) -> Path:
    """A new empty folder beside `path`, to be filled and then handed to `publish_folder`.

    Raises:
        InputError: it cannot be created.
    """
    temporary = _beside(path, "partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    return temporary


def publish_folder(temporary: Path, path: Path) -> None:
    """Put a filled folder in its place, once all of it is on disk.

    Raises:
        InputError: it cannot be written; what is there is still the old folder or the new one.
    """
    with writing(path):
        for entry in (*temporary.rglob("*"), temporary):
            sync(entry)
        if path.exists():
            _exchange(temporary, path)
        else:
            temporary.rename(path)
        sync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a crash leaves all of it or none under its name.

    Raises:
        InputError: it cannot be removed.
    """
    with writing(path):
        shutil.rmtree(path.rename(_beside(path, "partial")))


def remove_partials(folder: Path, *names: str, older_than: float = 0.0) -> None:
    """Clear away what killed processes left in a folder.

    Args:
        folder: Where to look; it need not be there.
        names: Targets whose partial files are removed; without any, those of all targets.
        older_than: Age in seconds; 0 where nobody else can be writing these targets now.

    Raises:
        InputError: they cannot be removed.
    """
    with writing(folder):
        for entry in folder.iterdir() if folder.is_dir() else ():
            match = PARTIAL.fullmatch(entry.name)
            if match is None or (names and match["name"] not in names):
                continue
            # Another process may clear the same folder and be quicker.
            with suppress(FileNotFoundError):
                if time.time() - entry.lstat().st_mtime >= older_than:
                    _clear(entry, match["kind"], entry.with_name(match["name"]))


def is_partial(path: Path) -> bool:
    """Whether a name is that of something half written."""
    return PARTIAL.fullmatch(path.name) is not None


def read_plain(path: Path, limit: int) -> bytes:
    """Content of an ordinary file of at most `limit` bytes.

    Raises:
        InputError: it is a pipe, a device or a folder, is larger, or cannot be read.
    """
    with reading(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: not an ordinary file")
        if status.st_size > limit:
            raise InputError(f"{path}: {status.st_size} bytes; allowed are at most {limit}")
        return path.read_bytes()


def sync(path: Path) -> None:
    """Make a file's content, or the renames inside a folder, survive a power cut."""
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


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{kind}")


def _exchange(temporary: Path, path: Path) -> None:
    """Put a folder in the place of another one.

    Killed between the two renames, a process leaves the old folder under its hidden name alone;
    `remove_partials` puts it back.
    """
    retired = path.rename(_beside(path, "retired"))
    try:
        temporary.rename(path)
    except OSError:
        retired.rename(path)
        raise
    shutil.rmtree(retired)


def _clear(entry: Path, kind: str, target: Path) -> None:
    """Remove a left-over, or put it back where it is the only one of its name."""
    if kind == "retired" and not target.exists():
        entry.rename(target)
    elif entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
