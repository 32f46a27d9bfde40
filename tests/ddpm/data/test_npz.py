"""NumPy archives: every layout, every fault by name, and damage at random."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddpm.data.load import load_images
from ddpm.data.split import split_indices
from ddpm.errors import InputError
from tests.ddpm.data.broken import damaged, load_or_input_error


def archive(compressed: bool = False, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save: Any = np.savez_compressed if compressed else np.savez
    save(stream, **arrays)
    return stream.getvalue()


IMAGES = np.arange(5 * 2 * 4, dtype=np.uint8).reshape(5, 2, 4)


@given(
    images=hnp.arrays(np.uint8, st.tuples(st.integers(2, 6), *[st.integers(4, 6)] * 2)),
    channels=st.sampled_from([0, 1, 3]),
    last=st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_all_layouts_become_channels_first(images: np.ndarray, channels: int, last: bool) -> None:
    stored, expected = images, images[:, None]
    if channels:
        expected = np.stack([images + np.uint8(7 * c) for c in range(channels)], axis=1)
        stored = np.moveaxis(expected, 1, -1) if last else expected
    data = load_or_input_error("a.npz", archive(images=stored))
    assert data is not None
    train, test = (part.numpy() for part in split_indices(len(images)))
    assert np.array_equal(data.train.numpy(), expected[train])
    assert np.array_equal(data.test.numpy(), expected[test])
    assert (data.levels, data.name) == (256, "a.npz")


def test_own_split_labels_and_levels(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"train": IMAGES, "test": IMAGES[:2], "levels": np.int16(40)}
    labels: dict[str, Any] = {
        "train_labels": np.arange(5, dtype=np.uint8),
        "test_labels": np.array([4, 4]),
    }
    path = tmp_path / "own.npz"
    path.write_bytes(archive(**arrays, **labels))
    data = load_images(str(path))
    assert data.levels == 40
    assert data.train[:, 0].tolist() == IMAGES.tolist()
    assert data.test[:, 0].tolist() == IMAGES[:2].tolist()
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [4, 4]


def test_labels_of_one_set_are_split_with_it(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    path.write_bytes(archive(images=IMAGES, labels=10 * np.arange(5)))
    data = load_images(str(path))
    assert data.test_labels is not None
    assert data.test_labels.tolist() == (10 * split_indices(5)[1]).tolist()


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"pictures": IMAGES}, "neither `images`"),
        ({"train": IMAGES}, "neither `images`"),
        ({"images": IMAGES.astype(np.float32)}, "dtype of `images` = 'float32': allowed is uint8"),
        ({"images": np.array([b"object", None])}, "pickle"),
        ({"images": IMAGES[0]}, r"shape of `images` = \(2, 4\)"),
        ({"images": IMAGES[:, :0]}, r"shape of `images` = \(5, 0, 4\)"),
        ({"images": np.zeros((5, 2, 4, 2), np.uint8)}, r"shape of `images` = \(5, 2, 4, 2\)"),
        ({"images": IMAGES[:1]}, "number of images = 1"),
        ({"images": IMAGES, "levels": 1}, "levels = 1"),
        ({"images": IMAGES, "levels": 300}, "levels = 300"),
        ({"images": IMAGES, "levels": 16.0}, "levels = 16.0"),
        ({"images": IMAGES, "levels": [16, 16]}, r"levels = \[16, 16\]"),
        ({"images": IMAGES, "levels": 39}, "largest value = 39: allowed is 0 to 38"),
        ({"images": IMAGES, "labels": np.arange(4)}, r"shape of `labels` = \(4,\)"),
        ({"images": IMAGES, "labels": np.zeros(5)}, "dtype of `labels` = 'float64'"),
        ({"images": IMAGES, "labels": -np.ones(5, int)}, "smallest value = -1"),
        ({"train": IMAGES, "test": IMAGES, "test_labels": np.arange(5)}, "both or neither"),
        ({"train": IMAGES, "test": IMAGES[:, :, :3]}, r"\(1, 2, 4\), \(1, 2, 3\)"),
    ],
)
def test_faults_name_the_file_and_the_array(
    tmp_path: Path, arrays: dict[str, Any], word: str
) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(archive(**arrays))
    with pytest.raises(InputError, match=word) as caught:
        load_images(str(path))
    assert "bad.npz" in str(caught.value)


def test_a_lone_array_under_the_wrong_ending_is_refused() -> None:
    stream = io.BytesIO()
    np.save(stream, IMAGES)
    assert load_or_input_error("lone.npz", stream.getvalue()) is None


def test_compression_that_can_promise_anything_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive(images=IMAGES))) as plain:
        content = plain.read("images.npy")
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("images.npy", content)
    assert load_or_input_error("a.npz", stream.getvalue()) is None


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_damaged_archives_load_or_give_an_input_error(data: st.DataObject) -> None:
    content = archive(data.draw(st.booleans()), images=IMAGES, labels=np.arange(5), levels=40)
    load_or_input_error("some.npz", data.draw(damaged(content)))
