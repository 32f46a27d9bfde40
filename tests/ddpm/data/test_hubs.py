"""Named sets of torchvision and datasets, from files written here, without a network."""

import gzip
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.data import hubs
from ddpm.data.idx import read_idx
from ddpm.data.load import load_images, open_source
from ddpm.data.split import split_indices
from ddpm.errors import InputError
from tests.ddpm.data.archives import png
from tests.ddpm.data.test_idx import encode

IMAGES = np.random.default_rng(3).integers(0, 256, (7, 28, 28), np.uint8)


@pytest.mark.parametrize("library", ["torchvision", "datasets"])
def test_a_missing_library_is_one_line_with_its_extra(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    source = {"torchvision": "torchvision:MNIST", "datasets": "hf:some/set"}[library]
    with pytest.raises(InputError, match=rf"{library} is not installed .*ddpm-proven\[{library}\]"):
        load_images(source)


@pytest.mark.parametrize("name", ["CIFAR10", "", "os", "MNIST/../x"])
def test_sets_that_would_be_unpickled_and_strangers_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="allowed is torchvision: and one of MNIST"):
        load_images(f"torchvision:{name}")


class Mnist:
    """As much of torchvision's class as is used: (picture, class) by index, and `targets`."""

    def __init__(self, *, root: str, train: bool, download: bool) -> None:
        assert download
        part = "train" if train else "t10k"
        raw = Path(root) / "MNIST" / "raw"
        self.images = read_idx(raw / f"{part}-images-idx3-ubyte", 3)
        self.targets = torch.from_numpy(read_idx(raw / f"{part}-labels-idx1-ubyte", 1).copy())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[place]), int(self.targets[place])


def use(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library, where there is one for this build of torch, or a stand-in."""
    if library == "stand-in":
        datasets = SimpleNamespace(MNIST=Mnist)
        monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=datasets))
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision: {error}")


@pytest.mark.parametrize("library", ["torchvision", "stand-in"])
def test_a_set_of_torchvision(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(library, monkeypatch)
    monkeypatch.setenv("DDPM_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    raw = tmp_path / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, images in (("train", IMAGES[:5]), ("t10k", IMAGES[5:])):
        labels = encode(np.arange(len(images), dtype=np.uint8))
        files = {"images-idx3": encode(images), "labels-idx1": labels}
        for name, content in files.items():
            (raw / f"{part}-{name}-ubyte").write_bytes(content)
            (raw / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    for stream in (True, False):
        data = open_source("torchvision:MNIST", stream=stream)
        assert (data.name, data.count, data.classes) == ("MNIST", 5, 5)
        assert data.test[:, 0].tolist() == IMAGES[5:].tolist()
        assert data.digest() == load_images("torchvision:MNIST").digest()
    (raw.parent / "processed").mkdir()
    with pytest.raises(InputError, match="without `processed`"):
        load_images("torchvision:MNIST")


def test_a_library_for_another_torch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(InputError, match="torchvision cannot be used: operator torchvision::nms"):
        load_images("torchvision:MNIST")


def test_what_torchvision_meets_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("no\nnetwork")

    library = SimpleNamespace(datasets=SimpleNamespace(SVHN=fail))
    monkeypatch.setitem(sys.modules, "torchvision", library)
    with pytest.raises(InputError, match=r"data = 'torchvision:SVHN': no network"):
        load_images("torchvision:SVHN")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The library datasets, out of reach of any network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return pytest.importorskip("datasets")


def write_set(library: Any, folder: Path, split: str, images: np.ndarray, **more: Any) -> None:
    cells = [{"bytes": png(pixels), "path": None} for pixels in images]
    columns = {"picture": cells, "kind": [i % 3 for i in range(len(images))], **more}
    features = {"picture": library.Image(), "kind": library.ClassLabel(num_classes=3)}
    features |= dict.fromkeys(more, library.Image())
    folder.mkdir(exist_ok=True)
    table = library.Dataset.from_dict(columns, features=library.Features(features))
    table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def test_a_set_of_the_hub_with_a_split_of_its_own(library: Any, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    write_set(library, folder, "train", IMAGES[:5])
    write_set(library, folder, "test", IMAGES[5:])
    for stream in (True, False):
        data = open_source(f"hf:{folder}", stream=stream)
        assert (data.name, data.count, data.classes) == ("own", 5, 3)
        assert data.test[:, 0].tolist() == IMAGES[5:].tolist()
        assert data.test_labels is not None
        assert data.test_labels.tolist() == [0, 1]
    alone = load_images(f"hf:{folder}:train/picture")
    assert alone.test[:, 0].tolist() == IMAGES[split_indices(5)[1].numpy()].tolist()


def test_splits_and_columns_are_named(library: Any, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    negatives = [png(255 - pixels) for pixels in IMAGES]
    negatives[2] = negatives[2][:100]
    cells = [{"bytes": content, "path": None} for content in negatives]
    write_set(library, folder, "train", IMAGES, negative=cells)
    for source, word in (
        (f"hf:{folder}", "SPLIT/COLUMN with one of picture, negative"),
        (f"hf:{folder}:validation", "one of the splits train"),
        (f"hf:{folder}:train/kind", "one of the image columns picture, negative"),
        (f"hf:{folder}:train/negative", "part 0, row 2: cannot be read as an image"),
        ("hf:", "allowed is hf:NAME"),
        ("hf:a:b:c", "allowed is hf:NAME"),
        (f"hf:{tmp_path / 'nowhere'}", "nowhere"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            load_images(source)
        assert len(str(caught.value).splitlines()) == 1
    data = load_images(f"hf:{folder}:/negative", skip_broken=True)
    assert (data.count, data.skipped) == (4, (f"hf:{folder}:/negative, part 0, row 2",))


def test_rows_of_several_parts_are_found() -> None:
    rows = hubs.Rows("set", [np.zeros(2), np.ones(3)], lambda row: np.full((1, 1, 1), row))
    assert len(rows) == 5
    assert [int(rows.pixels(i)[0, 0, 0]) for i in range(5)] == [0, 0, 1, 1, 1]
    assert rows.name(4) == "set, part 1, row 2"
    with pytest.raises(IndexError):
        rows.name(5)
