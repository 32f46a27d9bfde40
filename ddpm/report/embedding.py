"""Pictures as part of a page: data URIs, made smaller where nobody would see the difference."""

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ddpm.runs.run_folder import RunFolder

MOST_PIXELS = 1600
"""Longest side that is kept; a page of full photographs would be too large to send."""
PROGRESS_SHOWN = 6
SAMPLES_SHOWN = 4


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Attributes:
        source: Data URI.
        width: In pixels.
        height: In pixels.
        caption: What it shows, in words.
    """

    source: str
    width: int
    height: int
    caption: str


def progress_pictures(folder: RunFolder) -> list[Picture]:
    """Samples drawn during training: the first, the last, and some evenly between them."""
    files = sorted((folder.samples / "progress").glob("[0-9]*.png"))
    count = min(PROGRESS_SHOWN, len(files))
    chosen = [files[i * (len(files) - 1) // max(1, count - 1)] for i in range(count)]
    return _embedded([(file, f"after {_step(file)} updates") for file in chosen])


def sample_pictures(folder: RunFolder) -> list[Picture]:
    """What the evaluation drew beside real images, and the latest grids that `ddpm sample` drew."""
    comparison = folder.path / "samples.png"
    files = [(comparison, "real beside drawn")] if comparison.is_file() else []
    single = [(file, file.stem) for file in folder.samples.glob("*.png")]
    sharded = [(file, file.parent.name) for file in folder.samples.glob("*/grid.png")]
    drawn = [pair for pair in single + sharded if pair[0].is_file()]
    drawn.sort(key=lambda pair: (pair[0].stat().st_mtime_ns, pair[1]))
    return _embedded(files + drawn[-SAMPLES_SHOWN:])


def _step(file: Path) -> str:
    return f"{int(file.stem):,}" if file.stem.isdecimal() else file.stem


def _embedded(files: list[tuple[Path, str]]) -> list[Picture]:
    found = (embed(file, caption) for file, caption in files)
    return [picture for picture in found if picture is not None]


def embed(file: Path, caption: str) -> Picture | None:
    """A PNG as a picture of the page; None where it cannot be read as one."""
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > MOST_PIXELS:
                image.thumbnail((MOST_PIXELS, MOST_PIXELS))
                smaller = io.BytesIO()
                image.save(smaller, format="PNG")
                content = smaller.getvalue()
            else:
                image.load()
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    source = f"data:image/png;base64,{b64encode(content).decode()}"
    return Picture(source, width, height, caption)
