"""IDX files against bytes written by hand from the format's definition."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddpm.data import idx
from ddpm.data.load import load_images
from ddpm.errors import InputError
from tests.ddpm.data.broken import damaged, load_or_input_error

# Three images of 2 x 2: two zeros, type 8, three dimensions, 3, 2, 2, then the pixels.
HAND = bytes.fromhex("00000803 00000003 00000002 00000002 000102030405060708090aff")
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)


def encode(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def test_hand_written_bytes(tmp_path: Path) -> None:
    path = tmp_path / "hand-idx3-ubyte"
    path.write_bytes(HAND)
    expected = [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 255]]]
    assert idx.read_idx(path, 3).tolist() == expected


@given(array=hnp.arrays(np.uint8, SHAPES), compressed=st.booleans())
@settings(deadline=None)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip"
    content = encode(array)
    path.write_bytes(gzip.compress(content) if compressed else content)
    result = idx.read_idx(path, 3)
    assert result.dtype == np.uint8
    assert np.array_equal(result, array)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_damaged_files_load_or_give_an_input_error(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from([HAND, gzip.compress(HAND, mtime=0)]))
    load_or_input_error("some.idx", data.draw(damaged(content)))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "magic"),
        (HAND[:3], "magic"),
        (HAND[:9], "ends inside its header"),
        (HAND[:-1], "11 of the 12"),
        (HAND + b"\0", "more than the 12"),
        (b"\0\0\x0d\x03" + HAND[4:], "magic 00000d03"),
        (b"\0\0\x08\x01" + HAND[4:], "magic 00000801"),
        (bytes.fromhex("00000803") + b"\xff" * 12 + b"\0", "1 of the 792"),
        (gzip.compress(HAND, mtime=0)[:-9], "cannot be read as an IDX file"),
        (gzip.compress(HAND, mtime=0)[:-8] + b"\1" * 8, "cannot be read as an IDX file"),
        (bytes.fromhex("00000803 00000000 00000002 00000002"), "number of images = 0"),
    ],
)
def test_broken_files_name_the_file_and_the_fault(
    tmp_path: Path, content: bytes, word: str
) -> None:
    path = tmp_path / "bad.idx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        load_images(str(path))
    assert "bad.idx" in str(caught.value)


def write(folder: Path, name: str, array: np.ndarray) -> None:
    content = encode(array.astype(np.uint8))
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def test_folder_with_its_own_test_set(tmp_path: Path) -> None:
    train, test = np.arange(24).reshape(4, 2, 3), np.arange(100, 112).reshape(2, 2, 3)
    write(tmp_path, "train-images-idx3-ubyte.gz", train)
    write(tmp_path, "train-labels.idx1-ubyte", np.array([3, 1, 2, 0]))
    write(tmp_path, "t10k-images-idx3-ubyte", test)
    write(tmp_path, "t10k-labels-idx1-ubyte.gz", np.array([9, 8]))
    data = load_images(str(tmp_path))
    assert (data.name, data.levels, data.shape) == (tmp_path.name, 256, (1, 2, 3))
    assert data.train[:, 0].tolist() == train.tolist()
    assert data.test[:, 0].tolist() == test.tolist()
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [3, 1, 2, 0]
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [9, 8]


def test_folder_without_test_set_is_split(tmp_path: Path) -> None:
    write(tmp_path, "train-images-idx3-ubyte", np.zeros((11, 2, 2)))
    data = load_images(str(tmp_path))
    assert (len(data.train), len(data.test), data.train_labels) == (8, 3, None)


def test_labels_that_do_not_match_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train-images-idx3-ubyte", np.zeros((4, 2, 2)))
    write(tmp_path, "train-labels-idx1-ubyte", np.zeros(3))
    with pytest.raises(InputError, match="train-labels-idx1-ubyte: 3 labels for 4 images"):
        load_images(str(tmp_path))


def test_parts_of_different_sizes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train-images-idx3-ubyte", np.zeros((4, 2, 2)))
    write(tmp_path, "t10k-images-idx3-ubyte", np.zeros((4, 2, 3)))
    with pytest.raises(InputError, match=r"\(1, 2, 2\), \(1, 2, 3\)"):
        load_images(str(tmp_path))


def test_missing_training_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no train-images-idx3-ubyte"):
        idx.load_folder(tmp_path, "name")
