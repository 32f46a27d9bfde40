"""Streamed sets against the same sets in memory, and against the pictures that were written."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm.data import album, assemble, npy, streamed
from ddpm.data.images import ImageData
from ddpm.data.load import canonical_source, load_images, open_source
from ddpm.data.sources import read_all
from ddpm.data.split import split_indices
from ddpm.data.streamed import StreamedData
from ddpm.errors import InputError
from tests.ddpm.data.archives import png, write_folder, write_npy, write_shards

GREY = np.random.default_rng(1).integers(0, 256, (11, 5, 4), np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (11, 5, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ddpm" / "checked"


def write(kind: str, root: Path, images: np.ndarray) -> str:
    if kind == "npy":
        return write_npy(root / "all.npy", images)
    return {"folder": write_folder, "shards": write_shards}[kind](root / "all", images)


def channels_first(images: np.ndarray) -> np.ndarray:
    return images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("kind", ["folder", "shards", "npy"])
def test_streamed_or_in_memory_the_images_are_those_written(
    tmp_path: Path, kind: str, images: np.ndarray, workers: int
) -> None:
    source = write(kind, tmp_path, images)
    flow = open_source(source, stream=True, workers=workers)
    held = open_source(source, stream=False, workers=workers)
    assert isinstance(flow, StreamedData)
    assert isinstance(held, ImageData)
    train, test = (part.numpy() for part in split_indices(11))
    expected = channels_first(images)
    for data in (flow, held):
        pixels = data.train if isinstance(data.train, torch.Tensor) else read_all(data.train)
        assert np.array_equal(pixels.numpy(), expected[train])
        assert np.array_equal(data.test.numpy(), expected[test])
        assert (data.shape, data.count, data.levels) == (expected.shape[1:], 8, 256)
        assert data.digest() == hashlib.sha256(expected[train].tobytes()).hexdigest()[:16]
        assert data.classes == (4 if kind == "shards" else None)
        if kind == "shards":
            assert data.train_labels is not None
            assert data.test_labels is not None
            assert data.train_labels.tolist() == (train % 4).tolist()
            assert data.test_labels.tolist() == (test % 4).tolist()
    assert flow.name == held.name


def test_reading_out_of_order_gives_the_same_images(tmp_path: Path) -> None:
    flow = open_source(write("shards", tmp_path, GREY), stream=True)
    assert isinstance(flow, StreamedData)
    index = torch.tensor([7, 0, 7, 3])
    assert torch.equal(flow.train.read(index), read_all(flow.train)[index])


def test_grey_among_colour_is_colour_streamed_too(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "all", GREY)
    (tmp_path / "all" / "004.png").write_bytes(png(COLOUR[4]))
    flow, held = (open_source(source, stream=choice) for choice in (True, False))
    assert flow.shape == (3, 5, 4)
    assert flow.digest() == held.digest()
    assert torch.equal(flow.test, held.test)


@pytest.mark.parametrize("kind", ["folder", "shards"])
@pytest.mark.parametrize("stream", [True, False])
def test_broken_pictures_are_named_or_left_out(tmp_path: Path, kind: str, stream: bool) -> None:
    writer = {"folder": write_folder, "shards": write_shards}[kind]
    source = writer(tmp_path / "all", GREY, broken=(0, 6))
    with pytest.raises(InputError, match=r"000\.png: cannot be read as an image: "):
        open_source(source, stream=stream)
    data = open_source(source, skip_broken=True, stream=stream)
    assert [name.rsplit("/", 1)[1] for name in data.skipped] == ["000.png", "006.png"]
    good = np.delete(GREY, (0, 6), axis=0)
    assert data.digest() == hashlib.sha256(good[split_indices(9)[0]].tobytes()).hexdigest()[:16]
    # What was found with broken ones left out must not hide them later.
    with pytest.raises(InputError, match=r"000\.png"):
        open_source(source, stream=stream)


def test_broken_ones_of_a_split_of_the_users_own(tmp_path: Path) -> None:
    write_folder(tmp_path / "all" / "train", GREY[:7], broken=(3,))
    write_folder(tmp_path / "all" / "test", GREY[7:], broken=(0,))
    for stream in (True, False):
        data = open_source(str(tmp_path / "all"), skip_broken=True, stream=stream)
        kept = np.delete(GREY[:7], 3, axis=0)
        assert data.digest() == hashlib.sha256(kept.tobytes()).hexdigest()[:16]
        assert data.test[:, 0].tolist() == GREY[8:].tolist()
        assert len(data.skipped) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_a_set_of_which_nothing_is_left(tmp_path: Path, stream: bool | None) -> None:
    source = write_folder(tmp_path / "all", GREY[:2], broken=(0, 1))
    with pytest.raises(InputError, match="none can be read as an image"):
        open_source(source, skip_broken=True, stream=stream)
    own = tmp_path / "own"
    write_folder(own / "train", GREY[:2], broken=(0, 1))
    write_folder(own / "test", GREY[:2])
    with pytest.raises(InputError, match="own: images of train = 0"):
        open_source(str(own), skip_broken=True, stream=stream)


def test_size_decides_unless_the_user_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [write(kind, tmp_path / kind, COLOUR) for kind in ("folder", "shards", "npy")]
    for limit, kind in ((COLOUR.nbytes, ImageData), (COLOUR.nbytes - 1, StreamedData)):
        for module in ("assemble", "npy"):
            monkeypatch.setattr(f"ddpm.data.{module}.STREAM_BYTES", limit)
        for source in sources:
            assert type(open_source(source)) is kind
            assert type(open_source(source, stream=kind is ImageData)) is not kind
    assert type(load_images(sources[0])) is ImageData


def test_a_set_of_a_format_without_pieces_can_be_streamed_from_memory() -> None:
    flow = open_source("digits", stream=True)
    assert isinstance(flow, StreamedData)
    held = load_images("digits")
    assert torch.equal(read_all(flow.train), held.train)
    assert (flow.digest(), flow.classes, flow.shape) == (held.digest(), 10, (1, 8, 8))
    assert hashlib.sha256(held.train.numpy().tobytes()).hexdigest().startswith(held.digest())


def test_a_second_look_is_spared_until_a_file_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "all", GREY)
    looks: list[int] = []
    look = album._look

    def counted(pictures: album.Pictures, workers: int) -> Iterator[np.ndarray | str]:
        looks.append(len(pictures))
        return look(pictures, workers)

    monkeypatch.setattr(album, "_look", counted)
    first = open_source(source, stream=True)
    again = open_source(source, stream=True)
    assert (len(looks), again.digest()) == (1, first.digest())
    (kept,) = cache.iterdir()
    for content in (b"", b"{}", kept.read_bytes()[:-9], b"[" * 9999):
        kept.write_bytes(content)
        assert open_source(source, stream=True).digest() == first.digest()
    assert len(looks) == 5
    (tmp_path / "all" / "001.png").write_bytes(png(COLOUR[1]))
    assert open_source(source, stream=True).shape == (3, 5, 4)
    assert len(looks) == 6


def test_a_cache_that_cannot_be_written_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_source(write_folder(tmp_path / "all", GREY), stream=True).count == 8


def test_a_picture_that_changes_later_is_named(tmp_path: Path) -> None:
    folder = Path(write_folder(tmp_path / "all", GREY))
    flow = open_source(str(folder), stream=True)
    assert isinstance(flow, StreamedData)
    for path in folder.iterdir():
        path.write_bytes(png(COLOUR[0]))
    with pytest.raises(InputError, match=r"\.png: has changed since it was checked"):
        flow.train.read(torch.tensor([0]))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"\.png: cannot be read as an image: .*No such file"):
        flow.train.read(torch.tensor([0]))
    flow = open_source(write_npy(tmp_path / "a.npy", GREY), stream=True)
    assert isinstance(flow, StreamedData)
    np.save(tmp_path / "a.npy", GREY[:5])
    os.utime(tmp_path / "a.npy", ns=(1, 1))
    npy._mapped.cache_clear()
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as an \.npy file: "):
        flow.train.read(torch.tensor([0]))


def test_few_of_many_held_out_images_are_kept_for_testing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "TEST_IMAGES", 2)
    data = open_source(write("shards", tmp_path, GREY), stream=True)
    places = split_indices(11)[1].numpy()[[0, 1]]
    assert data.test[:, 0].tolist() == GREY[places].tolist()
    assert data.test_labels is not None
    assert data.test_labels.tolist() == (places % 4).tolist()


@pytest.mark.parametrize("stream", [True, False])
def test_a_sample_is_spread_evenly(tmp_path: Path, stream: bool) -> None:
    data = open_source(write("shards", tmp_path, GREY), stream=stream).sample(3)
    train, test = (part.numpy() for part in split_indices(11))
    # Places 0, 8/3 and 16/3 of eight, rounded down.
    assert data.train[:, 0].tolist() == GREY[train[[0, 2, 5]]].tolist()
    assert data.test[:, 0].tolist() == GREY[test].tolist()
    assert data.train_labels is not None
    assert data.train_labels.tolist() == (train[[0, 2, 5]] % 4).tolist()


def test_canonical_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for name in ("digits", "torchvision:MNIST", "hf:nobody/none:train/image"):
        assert canonical_source(name) == name
    assert canonical_source("set") == str(tmp_path / "set")
    assert canonical_source("a-{0..3}.tar") == str(tmp_path / "a-{0..3}.tar")
    assert canonical_source("hf:set:train") == f"hf:{tmp_path / 'set'}:train"


def test_memory_that_does_not_suffice_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(assemble, "_stacked", fail)
    with pytest.raises(InputError, match="does not fit into memory; allowed is --stream"):
        open_source(write_folder(tmp_path / "all", GREY), stream=False)
