"""Where Fashion-MNIST is looked for, in which order, and a download from a local address."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from ddpm.data import fashion_mnist
from ddpm.data.load import load_images
from ddpm.errors import InputError
from tests.ddpm.data.test_idx import encode

COUNTS = {"train": 6, "t10k": 3}


def files(value: int) -> dict[str, bytes]:
    """The four files with tiny content: all pixels equal `value`."""
    result = {}
    for part, count in COUNTS.items():
        result[f"{part}-images-idx3-ubyte"] = encode(np.full((count, 2, 2), value, np.uint8))
        result[f"{part}-labels-idx1-ubyte"] = encode(np.arange(count, dtype=np.uint8))
    return result


def put(folder: Path, value: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files(value).items():
        (folder / f"{stem}.gz").write_bytes(gzip.compress(content))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Four empty places in a temporary folder, in the order of search, the last one remote."""
    monkeypatch.setenv("DDPM_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "URL", f"{(tmp_path / 'remote').as_uri()}/")
    digests = {stem: hashlib.sha256(data).hexdigest() for stem, data in files(4).items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", digests)
    cache = tmp_path / "home" / ".cache" / "ddpm" / "fashion-mnist"
    own = tmp_path / "own" / "fashion-mnist"
    return {
        "own": own,
        "debian": tmp_path / "debian",
        "cache": cache,
        "remote": tmp_path / "remote",
    }


def test_places_are_searched_in_order(places: dict[str, Path]) -> None:
    for value, name in reversed(list(enumerate(places, start=1))):
        put(places[name], value)
        data = load_images("fashion-mnist")
        assert (data.name, data.levels, len(data.train), len(data.test)) == (
            "fashion-mnist",
            256,
            6,
            3,
        )
        assert set(data.train.flatten().tolist()) == {value}


def test_an_incomplete_folder_is_passed_over(places: dict[str, Path]) -> None:
    put(places["own"], 1)
    put(places["debian"], 2)
    (places["own"] / "t10k-labels-idx1-ubyte.gz").unlink()
    assert set(load_images("fashion-mnist").train.flatten().tolist()) == {2}


def test_without_the_variable_the_debian_folder_is_first(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DDPM_DATA")
    assert fashion_mnist.local_folders() == [places["debian"], places["cache"]]


def test_a_download_fills_the_cache_once(places: dict[str, Path]) -> None:
    put(places["remote"], 4)
    first = load_images("fashion-mnist")
    assert sorted(path.name for path in places["cache"].iterdir()) == sorted(
        f"{stem}.gz" for stem in files(4)
    )
    for path in places["remote"].iterdir():
        path.unlink()
    assert load_images("fashion-mnist").train.equal(first.train)


def test_a_wrong_checksum_is_refused_and_nothing_is_written(places: dict[str, Path]) -> None:
    put(places["remote"], 5)
    with pytest.raises(InputError, match=r"SHA-256 of its content is [0-9a-f]{64}: allowed is"):
        load_images("fashion-mnist")
    assert not places["cache"].exists()


@pytest.mark.parametrize("damage", [b"", b"not gzip", gzip.compress(b"abc" * 99, mtime=0)[:-9]])
def test_a_broken_download_is_refused(places: dict[str, Path], damage: bytes) -> None:
    put(places["remote"], 4)
    (places["remote"] / "train-images-idx3-ubyte.gz").write_bytes(damage)
    with pytest.raises(InputError):
        load_images("fashion-mnist")
    assert not places["cache"].exists()


def test_without_a_network_the_message_says_where_it_looked(places: dict[str, Path]) -> None:
    with pytest.raises(InputError) as caught:
        load_images("fashion-mnist")
    message = str(caught.value)
    for name in ("own", "debian", "cache"):
        assert str(places[name]) in message
    assert "dataset-fashion-mnist" in message
    assert not places["cache"].exists()
