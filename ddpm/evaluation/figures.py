"""Pictures of an evaluation: grids of samples, and where the bits of the likelihood go."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from ddpm.evaluation.arrays import Images
from ddpm.files import write_atomically

LEAST_CELL_PIXELS = 48
MARGIN_PIXELS = 4
GAP_PIXELS = 24
CAPTION_PIXELS = 18
BACKGROUND = 96
MOST_SHOWN = 64


def sample_grid(path: Path, images: Images, levels: int, columns: int | None = None) -> None:
    """Write a PNG of images in rows, small ones enlarged without smoothing.

    Args:
        path: where to write; the folder exists.
        images: uint8 [N, C, H, W], N >= 1, C = 1 or 3, grey levels 0..levels-1.
        levels: number of grey levels, 2..256.
        columns: images in a row, >= 1; by default about as many as rows.

    Raises:
        ValueError: if the images are not as described or `columns` < 1.
    """
    save_picture(path, grid_pixels(images, levels, columns))


def grid_pixels(images: Images, levels: int, columns: int | None = None) -> NDArray[np.uint8]:
    """The picture that `sample_grid` writes, uint8 RGB [height, width, 3]; arguments as there."""
    return _grid(_pixels(images, levels), columns)


def comparison_grid(path: Path, real: Images, generated: Images, levels: int) -> None:
    """Write a PNG with real images on the left and as many generated ones on the right.

    Args:
        path: where to write; the folder exists.
        real: uint8 [N, C, H, W], N >= 1, C = 1 or 3, grey levels 0..levels-1.
        generated: uint8 [M, C, H, W], M >= 1; of both the first min(N, M, 64) are shown.
        levels: number of grey levels, 2..256.

    Raises:
        ValueError: if the images are not as described or differ in size.
    """
    if tuple(real.shape[1:]) != tuple(generated.shape[1:]):
        sizes = f"{tuple(real.shape[1:])} and {tuple(generated.shape[1:])}"
        raise ValueError(f"sizes of real and generated = {sizes}: allowed is one size")
    shown = min(len(real), len(generated), MOST_SHOWN)
    left, right = (
        captioned(_grid(_pixels(images[:shown], levels), None), caption)
        for images, caption in ((real, "real"), (generated, "generated"))
    )
    gap = np.full((left.shape[0], GAP_PIXELS, 3), 255, np.uint8)
    save_picture(path, np.concatenate((left, gap, right), axis=1))


def kl_curve(
    path: Path, t: Sequence[int], kl: Sequence[float], prior: float, decoder: float
) -> None:
    """Write `kl_figure` as a PNG.

    Args:
        path: where to write; the folder exists.
        t: see `kl_figure`.
        kl: see `kl_figure`.
        prior: see `kl_figure`.
        decoder: see `kl_figure`.

    Raises:
        ValueError: if `t` and `kl` differ in length or are empty.
    """
    figure = kl_figure(t, kl, prior, decoder)
    FigureCanvasAgg(figure)
    # Without a stamp of the software's version the same numbers give the same file.
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())


def kl_figure(t: Sequence[int], kl: Sequence[float], prior: float, decoder: float) -> Figure:
    """Each level's Kullback-Leibler term against t, with their sum and the two end terms.

    Args:
        t: the levels, increasing, at least one.
        kl: the term of each level, in bits per dimension.
        prior: the prior term, in bits per dimension.
        decoder: the decoder term, in bits per dimension.

    Raises:
        ValueError: if `t` and `kl` differ in length or are empty.
    """
    if len(t) != len(kl) or len(kl) == 0:
        raise ValueError(
            f"lengths of t and kl = {(len(t), len(kl))}: allowed are equal ones, not 0"
        )
    figure = Figure(figsize=(7.5, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(t, kl, marker="." if len(kl) <= 128 else None, linewidth=1.2)
    # A logarithmic axis shows all of a curve that spans decades, but has no place for zero.
    axes.set_yscale("log" if min(kl) > 0 else "linear")
    axes.set_xlabel("level t (0: clean data)")
    axes.set_ylabel("bits per dimension of the level")
    total = math.fsum((*kl, prior, decoder))
    axes.set_title(f"{total:.3f} bits per dimension = levels + prior + decoder")
    axes.grid(visible=True, which="both", alpha=0.25)
    note = f"levels {math.fsum(kl):.4f}\nprior {prior:.2g}\ndecoder {decoder:.4f}"
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "0.7"}
    axes.text(0.98, 0.96, note, transform=axes.transAxes, ha="right", va="top", bbox=box)
    return figure


def _pixels(images: Images, levels: int) -> NDArray[np.uint8]:
    """Images as uint8 RGB [N, H, W, 3], 0..255."""
    array = images.cpu().numpy() if isinstance(images, Tensor) else images
    right = array.ndim == 4 and array.size > 0 and array.shape[1] in (1, 3)
    if not right or array.dtype != np.uint8:
        allowed = "uint8 (N, C, H, W), none of them 0, C = 1 or 3"
        raise ValueError(f"images: {array.dtype} {array.shape}: allowed is {allowed}")
    if not 2 <= levels <= 256 or array.max() >= levels:
        raise ValueError(f"levels = {levels}, largest value {array.max()}: allowed is 2 to 256")
    table = np.round(np.arange(256) * (255 / (levels - 1))).clip(0, 255).astype(np.uint8)
    channels_last = table[array].transpose(0, 2, 3, 1)
    return np.broadcast_to(channels_last, (*channels_last.shape[:3], 3))


def _grid(pixels: NDArray[np.uint8], columns: int | None) -> NDArray[np.uint8]:
    """One RGB picture [height, width, 3] of all images, each in a cell with a margin."""
    count, height, width, _ = pixels.shape
    across = math.ceil(math.sqrt(count)) if columns is None else columns
    if across < 1:
        raise ValueError(f"columns = {across}: allowed is 1 or more")
    across = min(across, count)
    down = -(-count // across)
    scale = max(1, -(-LEAST_CELL_PIXELS // min(height, width)))
    large = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    step_y, step_x = (scale * side + MARGIN_PIXELS for side in (height, width))
    shape = (down * step_y + MARGIN_PIXELS, across * step_x + MARGIN_PIXELS, 3)
    canvas = np.full(shape, BACKGROUND, np.uint8)
    for index, image in enumerate(large):
        y = MARGIN_PIXELS + index // across * step_y
        x = MARGIN_PIXELS + index % across * step_x
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def captioned(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """The picture under a white strip with a few words on it."""
    strip = Image.new("RGB", (picture.shape[1], CAPTION_PIXELS), "white")
    ImageDraw.Draw(strip).text((MARGIN_PIXELS, 4), caption, fill="black")
    return np.concatenate((np.asarray(strip), picture))


def save_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, uint8 RGB [height, width, 3], as a PNG."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    write_atomically(path, content.getvalue())
