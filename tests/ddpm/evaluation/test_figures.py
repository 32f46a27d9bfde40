"""Pictures, read back pixel by pixel, and the contents of the likelihood's curve."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from ddpm.evaluation.figures import comparison_grid, kl_curve, kl_figure, sample_grid


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


@given(
    count=st.integers(1, 7),
    channels=st.sampled_from([1, 3]),
    side=st.integers(1, 60),
    levels=st.integers(2, 256),
    columns=st.none() | st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=40)
def test_every_pixel_of_every_image_is_in_its_place(
    count: int, channels: int, side: int, levels: int, columns: int | None, seed: int
) -> None:
    shape = (count, channels, side, side + 1)
    images = np.random.default_rng(seed).integers(0, levels, shape).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        sample_grid(Path(folder) / "grid.png", torch.from_numpy(images), levels, columns)
        picture = read(Path(folder) / "grid.png")
    across = min(columns or int(np.ceil(np.sqrt(count))), count)
    scale = int(np.ceil(48 / side))
    cell = np.array([scale * side, scale * (side + 1)])
    assert picture.shape[:2] == tuple(4 + (4 + cell) * [-(-count // across), across])
    assert cell.min() >= 48
    for index in range(count):
        top, left = 4 + (4 + cell) * divmod(index, across)
        middle = scale // 2
        shown = picture[top + middle :: scale, left + middle :: scale][:side, : side + 1]
        expected = images[index].transpose(1, 2, 0) * 255.0 / (levels - 1)
        # Rounding to a whole number of 255 moves a value by at most a half.
        assert np.abs(shown - expected).max() <= 0.5 + 1e-9


def test_enlarging_does_not_smooth(tmp_path: Path) -> None:
    images = np.array([[[[0, 16], [16, 0]]]], np.uint8)
    sample_grid(tmp_path / "two.png", images, 17)
    inside = read(tmp_path / "two.png")[4:-4, 4:-4, 0]
    assert np.array_equal(inside, np.kron([[0, 255], [255, 0]], np.ones((24, 24))))


def test_real_stands_left_of_generated(tmp_path: Path) -> None:
    real = np.zeros((5, 1, 8, 8), np.uint8)
    generated = np.full((70, 1, 8, 8), 16, np.uint8)
    comparison_grid(tmp_path / "both.png", real, generated, 17)
    picture = read(tmp_path / "both.png")[18:, :, 0]
    half = picture.shape[1] // 2
    # Five images of 48 x 48 each, and no more of the seventy.
    assert np.sum(picture[:, :half] == 0) == 5 * 48 * 48
    assert np.sum(picture[:, half + 12 :] == 255) == 5 * 48 * 48
    assert not np.any(picture[:, half:] == 0)


@pytest.mark.parametrize(
    ("images", "levels", "columns", "word"),
    [
        (np.zeros((2, 2, 8, 8), np.uint8), 17, None, r"\(2, 2, 8, 8\)"),
        (np.zeros((0, 1, 8, 8), np.uint8), 17, None, r"\(0, 1, 8, 8\)"),
        (np.zeros((2, 1, 8, 8)), 17, None, "float64"),
        (np.full((2, 1, 8, 8), 17, np.uint8), 17, None, "levels = 17, largest value 17"),
        (np.zeros((2, 1, 8, 8), np.uint8), 1, None, "levels = 1"),
        (np.zeros((2, 1, 8, 8), np.uint8), 17, 0, "columns = 0"),
    ],
)
def test_grids_refuse_other_images(
    tmp_path: Path, images: np.ndarray, levels: int, columns: int | None, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        sample_grid(tmp_path / "no.png", images, levels, columns)
    assert not (tmp_path / "no.png").exists()


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    images = np.zeros((2, 1, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="one size"):
        comparison_grid(tmp_path / "no.png", images, images[:, :, :, :2], 17)


def numbers(figure: Figure) -> list[float]:
    """The total in the title and the three terms in the note."""
    (axes,) = figure.axes
    (note,) = axes.texts
    words = [
        axes.get_title().split()[0],
        *(line.split()[1] for line in note.get_text().split("\n")),
    ]
    assert [line.split()[0] for line in note.get_text().split("\n")] == [
        "levels",
        "prior",
        "decoder",
    ]
    return [float(word) for word in words]


@given(
    kl=st.lists(st.floats(0, 2), min_size=1, max_size=20),
    prior=st.floats(0, 1),
    decoder=st.floats(0, 5),
)
@settings(deadline=None, max_examples=20)
def test_curve_shows_every_level_and_every_term(
    kl: list[float], prior: float, decoder: float
) -> None:
    t = list(range(2, 2 + len(kl)))
    figure = kl_figure(t, kl, prior, decoder)
    (line,) = figure.axes[0].lines
    assert np.array_equal(np.asarray(line.get_xdata()), t)
    assert np.array_equal(np.asarray(line.get_ydata()), kl)
    assert figure.axes[0].get_yscale() == ("log" if min(kl) > 0 else "linear")
    total, levels, shown_prior, shown_decoder = numbers(figure)
    # Three or four decimals are shown; of the prior, often tiny, two significant digits.
    assert total == pytest.approx(sum(kl) + prior + decoder, abs=0.51e-3)
    assert levels == pytest.approx(sum(kl), abs=0.51e-4)
    assert shown_prior == pytest.approx(prior, rel=0.051)
    assert shown_decoder == pytest.approx(decoder, abs=0.51e-4)


def test_curve_is_written_the_same_twice(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        kl_curve(tmp_path / name, [2, 3, 4], [0.5, 0.1, 0.01], 1e-4, 0.6)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert read(tmp_path / "a.png").shape == (504, 900, 3)


@pytest.mark.parametrize(("t", "kl"), [([], []), ([1, 2], [0.5])])
def test_curve_refuses_unequal_lengths(tmp_path: Path, t: list[int], kl: list[float]) -> None:
    with pytest.raises(ValueError, match="lengths of t and kl"):
        kl_curve(tmp_path / "no.png", t, kl, 0.1, 0.1)
    assert not (tmp_path / "no.png").exists()
