"""Folders of pictures: what is read, in which order, and what is refused by name."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ddpm.data.load import load_images
from ddpm.data.split import split_indices
from ddpm.errors import InputError
from tests.ddpm.data.broken import damaged, load_or_input_error

FORMATS = {
    "PNG": ".png",
    "JPEG": ".jpeg",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tiff",
    "WEBP": ".webp",
    "PPM": ".pgm",
}


def encoded(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(stream, form)
    return stream.getvalue()


ENCODED = {ending: encoded(form) for form, ending in FORMATS.items()}


def write(path: Path, value: int, size: tuple[int, int] = (3, 2), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "P", "1", "I;16", "F") else (value,) * len(mode)
    Image.new(mode, size, colour).save(path)


@given(
    images=hnp.arrays(np.uint8, st.tuples(st.integers(2, 5), *[st.integers(1, 5)] * 2)),
    colour=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_lossless_round_trip_in_order_of_names(images: np.ndarray, colour: bool) -> None:
    if colour:
        images = np.stack((images, 255 - images, images // 2), axis=-1)
    with tempfile.TemporaryDirectory() as folder:
        for index in reversed(range(len(images))):
            Image.fromarray(images[index]).save(Path(folder) / f"{index}.PNG", "PNG")
        data = load_images(folder)
    expected = np.moveaxis(images, -1, 1) if colour else images[:, None]
    train, test = (part.numpy() for part in split_indices(len(images)))
    assert np.array_equal(data.train.numpy(), expected[train])
    assert np.array_equal(data.test.numpy(), expected[test])
    assert (data.levels, data.train_labels) == (256, None)


def test_sub_folders_are_classes_in_order_of_names(tmp_path: Path) -> None:
    for value, name in enumerate(["b/1.png", "b/2.png", "a/9.png", "c/0.png", "c/3.png"]):
        write(tmp_path / name, value)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("passed over")
    (tmp_path / "a" / ".x.png").write_text("passed over")
    data = load_images(str(tmp_path))
    assert data.train_labels is not None
    assert data.test_labels is not None
    images = np.concatenate((data.train[:, 0, 0, 0], data.test[:, 0, 0, 0]))
    labels = np.concatenate((data.train_labels, data.test_labels))
    assert dict(zip(images.tolist(), labels.tolist(), strict=True)) == {
        0: 1,
        1: 1,
        2: 0,
        3: 2,
        4: 2,
    }


@pytest.mark.parametrize("classes", [("",), ("x/", "y/")])
def test_train_and_test_folders_are_the_split(tmp_path: Path, classes: tuple[str, ...]) -> None:
    for part, base in (("train", 0), ("test", 100)):
        for offset, name in enumerate(classes):
            write(tmp_path / part / f"{name}1.png", base + 2 * offset)
            write(tmp_path / part / f"{name}2.png", base + 2 * offset + 1)
    data = load_images(str(tmp_path))
    assert data.train[:, 0, 0, 0].tolist() == list(range(2 * len(classes)))
    assert data.test[:, 0, 0, 0].tolist() == list(range(100, 100 + 2 * len(classes)))
    if len(classes) == 1:
        assert data.classes is None
        return
    assert data.train_labels is not None
    assert data.test_labels is not None
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 0, 1, 1]


def test_grey_among_colour_becomes_colour(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 7)
    write(tmp_path / "b.png", 9, mode="RGB")
    write(tmp_path / "c.png", 11, mode="RGBA")
    data = load_images(str(tmp_path))
    values = sorted(np.concatenate((data.train, data.test))[:, :, 0, 0].tolist())
    assert values == [[7] * 3, [9] * 3, [11] * 3]


def test_black_and_white_and_palettes_with_transparency(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1, mode="1")
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "b.png", transparency=b"\x00\x80")
    data = load_images(str(tmp_path))
    values = sorted(np.concatenate((data.train, data.test))[:, :, 0, 0].tolist())
    assert values == [[10, 20, 30], [255] * 3]


def test_the_cameras_rotation_mark_is_obeyed(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[10, 20, 30]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 8  # EXIF: turn by 90 degrees against the clock to see it upright.
    for name in ("a.png", "b.png"):
        picture.save(tmp_path / name, exif=exif)
    data = load_images(str(tmp_path))
    assert data.train[0, 0].tolist() == [[30], [20], [10]]


def test_different_sizes_name_both_files_and_sizes(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    write(tmp_path / "b.png", 1, size=(3, 4))
    with pytest.raises(InputError, match=r"sizes: \S*a\.png is 3x2 and \S*b\.png is 3x4"):
        load_images(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ([], "holds no image"),
        (["notes.txt"], "holds no image"),
        (["a.png", "x/b.png"], r"both images and folders \(a.png, x\)"),
        (["x/a.png", "x/b.png", "y/notes.txt"], "y: holds no image"),
        (["train/a.png", "test/x/a.png"], r"\[\] and test \['x'\]"),
        (["only.png"], "number of images = 1"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, names: list[str], word: str) -> None:
    for name in names:
        if name.endswith("txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("text")
        else:
            write(tmp_path / name, 5)
    with pytest.raises(InputError, match=word):
        load_images(str(tmp_path))


@pytest.mark.parametrize(("mode", "ending"), [("I;16", "png"), ("F", "tiff")])
def test_more_than_eight_bits_are_refused(tmp_path: Path, mode: str, ending: str) -> None:
    write(tmp_path / f"deep.{ending}", 5, mode=mode)
    with pytest.raises(InputError, match=f"deep.{ending}.*pixel mode {mode}"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("ending", sorted(ENCODED))
def test_truncated_images_name_the_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").write_bytes(ENCODED[ending])
    (tmp_path / f"b{ending}").write_bytes(ENCODED[ending])
    assert load_images(str(tmp_path)).shape[1:] == (6, 8)
    (tmp_path / f"b{ending}").write_bytes(ENCODED[ending][: len(ENCODED[ending]) // 2])
    with pytest.raises(InputError, match=rf"b{ending}: cannot be read as an image"):
        load_images(str(tmp_path))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_images_load_or_give_an_input_error(data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from(sorted(ENCODED)))
    load_or_input_error(f"x{ending}", data.draw(damaged(ENCODED[ending])), inside="pictures")


def test_more_pixels_than_any_training_image_has(tmp_path: Path) -> None:
    content = bytearray(ENCODED[".bmp"])
    # Width and height of a BMP file.
    content[18:26] = (4097).to_bytes(4, "little") + (4096).to_bytes(4, "little")
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.bmp: .*its size is 4097x4096: allowed are at most"):
        load_images(str(tmp_path))


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image: .*not an ordinary"):
        load_images(str(tmp_path))


def test_a_folder_in_the_place_of_an_image_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "odd.png").mkdir()
    write(tmp_path / "odd.png" / "a.png", 1)
    write(tmp_path / "odd.png" / "b.png", 1)
    assert load_images(str(tmp_path)).classes == 1
