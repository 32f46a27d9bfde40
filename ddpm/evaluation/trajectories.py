"""Pictures of a denoising: an animated grid, and a few pictures at a few levels."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm.evaluation.arrays import Images
from ddpm.evaluation.figures import captioned, grid_pixels, save_picture
from ddpm.files import write_atomically

FRAME_MILLISECONDS = 80
LAST_MILLISECONDS = 2500
"""How long the finished pictures stay before it begins again."""
ROWS, COLUMNS = 6, 11
"""Most pictures and levels in `trajectory_grid`."""


def animate(path: Path, frames: Sequence[Images], levels: int) -> None:
    """Write an animated GIF of a grid of images, which begins again after its last frame.

    Args:
        path: where to write; the folder exists.
        frames: uint8 [N, C, H, W] each, N >= 1, C = 1 or 3, at least one.
        levels: number of grey levels, 2..256.

    Raises:
        ValueError: there are no frames, or they are not as described.
    """
    if len(frames) == 0:
        raise ValueError("frames: 0 of them: allowed is 1 or more")
    first, *others = [_paletted(frame, levels) for frame in frames]
    content = io.BytesIO()
    durations = [FRAME_MILLISECONDS] * len(others) + [LAST_MILLISECONDS]
    first.save(
        content, format="GIF", save_all=True, append_images=others, loop=0, optimize=False,
        duration=durations if others else LAST_MILLISECONDS,
    )  # fmt: skip
    write_atomically(path, content.getvalue())


def trajectory_grid(path: Path, frames: Sequence[Images], t: Sequence[int], levels: int) -> None:
    """Write a PNG with a row for each of the first images and a column for some of the levels.

    Args:
        path: where to write; the folder exists.
        frames: uint8 [N, C, H, W] each, N >= 1, C = 1 or 3.
        t: level of each frame, by which its column is labelled; one for each frame.
        levels: number of grey levels, 2..256.

    Raises:
        ValueError: there are no frames, or they are not as described.
    """
    if len(frames) != len(t) or len(frames) == 0:
        raise ValueError(f"{len(frames)} frames, {len(t)} levels: allowed are as many, not 0")
    last = min(COLUMNS, len(frames)) - 1
    chosen = [round(i * (len(frames) - 1) / max(1, last)) for i in range(last + 1)]
    columns = [
        captioned(grid_pixels(frames[i][:ROWS], levels, columns=1), f"t={t[i]}") for i in chosen
    ]
    save_picture(path, np.concatenate(columns, axis=1))


def _paletted(images: Images, levels: int) -> Image.Image:
    """A frame as GIF keeps it, of at most 256 colours; greys are exact."""
    pixels = grid_pixels(images, levels)
    if images.shape[1] == 1:
        return Image.fromarray(pixels[:, :, 0])
    return Image.fromarray(pixels).quantize(dither=Image.Dither.NONE)
