"""From an image file of whatever format to grey or RGB pixels of 8 bits.

Grey stays one channel; anything with colour becomes RGB. Transparency is dropped, of an animation
the first frame is taken, and the camera's rotation mark is obeyed.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ddpm.files import read_plain

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What a file may be, whatever its name; other decoders of Pillow run other programs."""
MOST_PIXELS = 1 << 24
"""Of one image; more is no training image but a header that lies."""
MOST_BYTES = 1 << 28
"""Of one file, encoded."""
GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")


def decode_file(path: Path) -> np.ndarray:
    """Pixels of an image file, uint8 [C, H, W], C = 1 or 3.

    Raises:
        ValueError: it cannot be read, is no image, is damaged, or is of a kind not supported.
    """
    return decode_bytes(read_plain(path, MOST_BYTES))


def decode_bytes(content: bytes) -> np.ndarray:
    """Pixels of an encoded image, uint8 [C, H, W], C = 1 or 3.

    Raises:
        ValueError: it is no image, is damaged, or is of a kind that is not supported.
    """
    # From memory, because Pillow reads from a file as much as a damaged header promises.
    with _one_kind_of_fault(), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return _pixels(image)


def decode_image(image: Image.Image) -> np.ndarray:
    """Pixels of an opened image, uint8 [C, H, W], C = 1 or 3.

    Raises:
        ValueError: it is damaged, or of a kind that is not supported.
    """
    with _one_kind_of_fault():
        return _pixels(image)


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Pixels [C, H, W] with so many channels; grey becomes colour by repetition.

    Raises:
        ValueError: colour would have to become grey.
    """
    if pixels.shape[0] > channels:
        raise ValueError("has colour where it was grey before")
    return np.broadcast_to(pixels, (channels, *pixels.shape[1:]))


@contextmanager
def _one_kind_of_fault() -> Iterator[None]:
    """Turn every fault into ValueError, without a word of Pillow's about what it passes over.

    Decoders raise whatever their format makes them meet (OSError, SyntaxError, struct.error, ...);
    whichever it is, the file is what is wrong.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from error
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _pixels(image: Image.Image) -> np.ndarray:
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.width}x{image.height}"
        raise ValueError(f"its size is {size}: allowed are at most {MOST_PIXELS} pixels")
    ImageOps.exif_transpose(image, in_place=True)
    pixels = np.asarray(_plain(image))
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _plain(image: Image.Image) -> Image.Image:
    """The image as grey (L) or RGB."""
    if image.mode in GREY_MODES:
        return image.convert("L")
    if image.mode not in COLOUR_MODES:
        raise ValueError(f"pixel mode {image.mode}: allowed are 8 bits a channel")
    # A palette may mark a colour as transparent; only RGBA can take that mark before it is dropped.
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("RGB")
