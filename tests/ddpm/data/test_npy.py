"""Arrays in .npy files: layouts, that a huge file is not read, and every fault by name."""

import io
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm.data.load import load_images, open_source
from ddpm.data.npy import Mapped
from ddpm.data.split import split_indices
from ddpm.errors import InputError

IMAGES = np.arange(5 * 2 * 4, dtype=np.uint8).reshape(5, 2, 4)


def saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(text: str, content: bytes = b"") -> bytes:
    """An .npy file with a header of our own."""
    padded = text.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + content


@pytest.mark.parametrize(
    "stored",
    [IMAGES, IMAGES[:, None], IMAGES[..., None], np.asfortranarray(IMAGES), IMAGES[:, :, :, None]],
)
@pytest.mark.parametrize("stream", [True, False])
def test_all_layouts_become_channels_first(
    tmp_path: Path, stored: np.ndarray, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    np.save(tmp_path / "a.npy", stored)
    data = open_source(str(tmp_path / "a.npy"), stream=stream)
    assert data.shape == (1, 2, 4)
    assert data.test[:, 0].tolist() == IMAGES[split_indices(5)[1].numpy()].tolist()
    assert data.digest() == load_images(str(tmp_path / "a.npy")).digest()


def test_what_is_not_looked_at_is_not_read(tmp_path: Path) -> None:
    count, path = 10**8, tmp_path / "huge.npy"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 32, 32), }}"
    path.write_bytes(with_header(header))
    with path.open("r+b") as file:
        file.truncate(128 + count * 1024)
        file.seek(128 + 77_777_777 * 1024)
        file.write(bytes(range(256)) * 4)
    state = path.stat()
    source = Mapped(path, (state.st_size, state.st_mtime_ns), (1, 32, 32), count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = source.read(torch.tensor([0, 77_777_777, count - 1]))
    assert images.flatten(1)[1].tolist() == list(range(256)) * 4
    assert images[[0, 2]].max() == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cannot be read as an .npy file"),
        (saved(IMAGES)[:-1], "cannot be read as an .npy file"),
        (saved(IMAGES) + b"x", r"169 bytes do not fit to its shape \(5, 2, 4\)"),
        (saved(IMAGES.astype(np.float32)), "dtype of its array = 'float32': allowed is uint8"),
        (saved(IMAGES[0]), r"shape of its array = \(2, 4\)"),
        (saved(IMAGES[:, :0]), "cannot be read|shape of its array"),
        (saved(np.zeros((5, 2, 4, 2), np.uint8)), r"shape of its array = \(5, 2, 4, 2\)"),
        (saved(IMAGES[:1]), "number of images = 1"),
        (saved(np.array([b"object", None])), "object"),
        (
            with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (10**12, 28, 28), }"),
            "cannot be read as an .npy file",
        ),
        (
            with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-5, -2, 4), }"),
            "cannot be read as an .npy file",
        ),
        (b"PK\x03\x04" + saved(IMAGES), "cannot be read as an .npy file"),
    ],
)
def test_faults_name_the_file(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        load_images(str(path))
    assert "bad.npy" in str(caught.value)
