"""Thousands of damaged files of each format: images, or one line that names the file.

Within: no other exception, no hang, no allocation of what a header merely promises, no pickle.
"""

import gzip
import io
import pickle
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from ddpm.data.load import load_images
from ddpm.errors import InputError
from tests.ddpm.data import corrupt
from tests.ddpm.data.archives import png, tar
from tests.ddpm.data.test_idx import encode
from tests.ddpm.data.test_npy import saved
from tests.ddpm.data.test_npz import archive

CASES = 4000
"""Of a format; of pictures half are PNG and half JPEG."""
SECONDS = 5.0
"""Of one case; a hundred times what it takes."""
ROOM = 1 << 30
"""Bytes of address space that a case may ask for; the files have a few hundred."""

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 4, 5), np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


MEMBERS = {f"{i}.png": png(IMAGES[i]) for i in range(2)} | {f"{i}.cls": b"1" for i in range(2)}
SHARD = tar(MEMBERS)
ARCHIVE = archive(images=IMAGES, labels=np.arange(4), levels=256)
PACKED = archive(True, train=IMAGES, test=IMAGES[:2])

FORMATS: dict[str, tuple[list[bytes], list[corrupt.Damage]]] = {
    "a.idx": (
        [encode(IMAGES), gzip.compress(encode(IMAGES), mtime=0)],
        [corrupt.anyhow, corrupt.idx_header],
    ),
    "a.npz": (
        [ARCHIVE, PACKED],
        [corrupt.anyhow, corrupt.npz_member, corrupt.zip_field],
    ),
    "a.npy": ([saved(IMAGES)], [corrupt.anyhow, corrupt.npy_header, corrupt.npy_header]),
    "set/a.png": ([png(IMAGES[0]), png(COLOUR)], [corrupt.anyhow, corrupt.png_chunk]),
    "set/a.jpg": ([jpeg(COLOUR[..., 0]), jpeg(COLOUR)], [corrupt.anyhow, corrupt.jpeg_segment]),
    "a.tar": ([SHARD], [corrupt.anyhow, corrupt.tar_header, corrupt.tar_payload]),
}


class Unpickled(BaseException):
    """No handler for exceptions may hide this."""


class Hung(BaseException):
    """Nor this."""


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No unpickling, no waiting, and an allocation of a gigabyte fails."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise Unpickled

    def stop(_: int, __: FrameType | None) -> NoReturn:
        raise Hung

    # Compiled loops come out of numba's own cache, which is a pickle, the first time.
    load_images("digits")
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    handler = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, if there is one, because writing files takes longer than reading them."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.usefixtures("watched")
def test_the_length_of_a_chunk_of_png_is_not_believed(folder: Path) -> None:
    content = png(IMAGES[0])
    place = content.index(b"IDAT") - 4
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(content[:place] + b"\xdd\0\0\x21" + content[place + 4 :])
    data = load_images(str(folder))
    assert data.train[0, 0].tolist() == IMAGES[0].tolist()


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", FORMATS)
def test_every_damage_loads_or_is_one_line(name: str, folder: Path) -> None:
    contents, damages = FORMATS[name]
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    source = path.parent if "/" in name else path
    if source is not path:
        (source / f"b{path.suffix}").write_bytes(contents[0])
    draw = np.random.default_rng(len(name))
    outcomes = {True: 0, False: 0}
    for case in range(CASES if source is path else CASES // 2):
        damage = damages[case % len(damages)]
        content = damage(contents[int(draw.integers(0, len(contents)))], draw)
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            data = load_images(str(source))
            outcomes[True] += 1
            assert data.train.shape[1:] == data.test.shape[1:]
        except InputError as error:
            message = str(error)
            outcomes[False] += 1
            assert source.name in message, (case, content)
            assert len(message.splitlines()) == 1, (case, content)
            assert "allocate" not in message, (case, content)
            assert "does not fit into memory" not in message, (case, content)
            assert "MemoryError" not in message, (case, content)
        except Exception as error:
            raise AssertionError(f"{name}, case {case}: {content!r}") from error
    signal.setitimer(signal.ITIMER_REAL, 0)
    # Damage that is always or never noticed would show nothing.
    assert min(outcomes.values()) > 20, outcomes
