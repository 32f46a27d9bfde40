"""Pictures in tar files, as webdataset lays them out: sharded, uncompressed, read in place.

Files of one sample share their name up to the ending: `000017.jpg` and, if there are classes,
`000017.cls`, which holds the class as a decimal number. Members of other kinds are passed over.
Every shard is gone through once; from then on a picture is read from its offset, so that nothing
is unpacked and any order costs the same.
"""

import hashlib
import io
import os
import re
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from ddpm.data.album import Album
from ddpm.data.decode import ENDINGS, decode_bytes
from ddpm.data.names import Names
from ddpm.errors import InputError, check

ENDING = ".tar"
NO_LABEL = -1
WILDCARDS = "*?["
MOST_DIGITS = 9
"""Of a class, so that it fits everywhere."""
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, eq=False)
class Members:
    """Members of tar files as pictures.

    Attributes:
        shards: paths of the files.
        names: name of each picture inside its shard.
        shard: which shard each picture is in.
        offset: first byte of each picture.
        size: bytes of each picture.
    """

    shards: Names
    names: Names
    shard: "array[int]"
    offset: "array[int]"
    size: "array[int]"

    def __len__(self) -> int:
        return len(self.names)

    def name(self, place: int) -> str:
        """Shard and member."""
        return f"{self.shards[self.shard[place]]}: {self.names[place]}"

    def pixels(self, place: int) -> np.ndarray:
        """The picture decoded, uint8 [C, H, W].

        Raises:
            ValueError: it is broken.
        """
        try:
            with Path(self.shards[self.shard[place]]).open("rb", buffering=0) as file:
                file.seek(self.offset[place])
                content = file.read(self.size[place])
        except OSError as error:
            raise ValueError(str(error)) from error
        return decode_bytes(content)

    def fingerprint(self) -> str | None:
        """Of names, sizes and times of change of the shards."""
        checksum = hashlib.sha256()
        try:
            for path in self.shards:
                state = Path(path).stat()
                checksum.update(os.fsencode(f"{path}\0{state.st_size} {state.st_mtime_ns}\0"))
        except OSError:
            return None
        return checksum.hexdigest()


def is_pattern(source: str) -> bool:
    """Whether a source names several tar files by braces or wildcards."""
    return source.endswith(ENDING) and any(mark in source for mark in "{" + WILDCARDS)


def find_shards(source: str) -> list[Path]:
    """The tar files that a pattern names, sorted within each wildcard.

    Args:
        source: such as `train-{0000..0099}.tar`, `{a,b}.tar` or `shards/*.tar`.

    Raises:
        InputError: one of them is not there.
    """
    found: list[Path] = []
    for name in _expanded(source):
        paths = _matching(Path(name).expanduser())
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            raise InputError(f"data = {source!r}: {missing[0] if missing else name} is not there")
        found += paths
    check(len(found) == len(set(found)), "data", source, "a pattern that names each file once")
    return found


def _matching(path: Path) -> list[Path]:
    """The files that wildcards stand for, sorted; the path itself where it has none."""
    if not any(mark in str(path) for mark in WILDCARDS):
        return [path]
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def shards_in(folder: Path) -> list[Path]:
    """The tar files of a folder, sorted; none if it cannot be read."""
    try:
        return sorted(p for p in folder.iterdir() if p.suffix == ENDING and p.name[0] != ".")
    except OSError:
        return []


def open_shards(paths: list[Path], name: str) -> Album:
    """All pictures of some tar files, in order; a fifth is held out.

    Args:
        paths: the files.
        name: for reports.

    Raises:
        InputError: a file is damaged, holds no picture, or only some pictures have a class.
    """
    index = _Index()
    for number, path in enumerate(paths):
        before = len(index.names)
        _index_shard(path, number, index)
        if len(index.names) == before:
            raise InputError(f"{path}: holds no image ({', '.join(ENDINGS)})")
    members = Members(
        Names(map(str, paths)), Names(index.names), index.shard, index.offset, index.size
    )
    unlabelled = next((i for i, label in enumerate(index.labels) if label == NO_LABEL), None)
    labels = None
    if unlabelled is None:
        labels = torch.tensor(index.labels)
    elif any(label != NO_LABEL for label in index.labels):
        raise InputError(f"{members.name(unlabelled)}: has no .cls beside it, as others have")
    return Album(name, members, labels)


@dataclass
class _Index:
    """What is known of the pictures found so far."""

    names: list[str] = field(default_factory=list)
    shard: "array[int]" = field(default_factory=lambda: array("q"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    size: "array[int]" = field(default_factory=lambda: array("q"))
    labels: list[int] = field(default_factory=list)


class _Whole(io.FileIO):
    """A file of which never more is asked than it holds, whatever a header promises."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.length - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left)) or b""


def _index_shard(path: Path, number: int, index: _Index) -> None:
    """Add the pictures of one shard to the index."""
    classes: dict[str, int] = {}
    stems: list[str] = []
    # tarfile raises a dozen unrelated exceptions on damaged files, and more to come; whichever it
    # is, the file is what is wrong.
    try:
        with _Whole(path) as file:
            for member in _members(file):
                stem, dot, kind = member.name.rpartition(".")
                if kind == "cls":
                    classes[stem] = _label(file, member)
                elif dot + kind.lower() in ENDINGS:
                    index.names.append(member.name)
                    index.shard.append(number)
                    index.offset.append(member.offset_data)
                    index.size.append(member.size)
                    stems.append(stem)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as a tar file: {reason}") from error
    index.labels.extend(classes.get(stem, NO_LABEL) for stem in stems)


def _members(file: _Whole) -> list[tarfile.TarInfo]:
    """Ordinary files of an archive that is whole to its last block.

    Raises:
        ValueError: it is not.
    """
    found, end = [], 0
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            # Without this the archive keeps every member ever seen.
            archive.members.clear()  # type: ignore[attr-defined]
            if member.offset < end or archive.offset <= member.offset:
                raise ValueError(f"the header at byte {member.offset} leads back")
            end = archive.offset
            if end > file.length:
                raise ValueError(f"{member.name} ends beyond the file")
            if member.isreg() and not member.issparse() and not _is_hidden(member.name):
                found.append(member)
    file.seek(end)
    # tarfile takes a damaged header for the end, and what follows would be lost without a word.
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"no header and no end mark at byte {end}")
    return found


def _is_hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".")


def _label(file: _Whole, member: tarfile.TarInfo) -> int:
    file.seek(member.offset_data)
    text = file.read(min(member.size, MOST_DIGITS + 2)).strip()
    if not re.fullmatch(rb"[0-9]{1,9}", text) or member.size > MOST_DIGITS + 2:
        raise ValueError(f"{member.name}: {text!r}: allowed is a whole number of up to 9 digits")
    return int(text)


def _expanded(pattern: str) -> Iterator[str]:
    """The names that braces stand for, the last brace fastest."""
    brace = BRACES.search(pattern)
    if brace is None:
        yield pattern
        return
    head, tail = pattern[: brace.start()], pattern[brace.end() :]
    for choice in _choices(brace[1]):
        for rest in _expanded(tail):
            yield head + choice + rest


def _choices(inside: str) -> Iterable[str]:
    """What one brace stands for: numbers of one width, or words."""
    span = RANGE.fullmatch(inside)
    if span is None:
        return inside.split(",")
    return (f"{n:0{len(span[1])}d}" for n in range(int(span[1]), int(span[2]) + 1))
