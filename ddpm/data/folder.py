"""A folder of image files: flat, or with one sub-folder for each class.

If the folder holds exactly the sub-folders `train` and `test`, each is such a folder and the
split is theirs; otherwise a fifth of the images is held out. Names that begin with a dot, and
files without an image's ending, are passed over; deeper folders are not searched. All images are
grey (one channel) or, if any has colour, RGB; transparency is dropped; of an animation the first
frame is taken; the camera's rotation mark is obeyed.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ddpm.data.images import ImageData
from ddpm.data.split import split_images
from ddpm.errors import InputError

LEVELS = 256
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")
PARTS = ("train", "test")


def load_folder(folder: Path) -> ImageData:
    """All images of a folder, with the names of its sub-folders, sorted, as classes 0, 1, ...

    Raises:
        InputError: if there is no image, an image is broken, or two images differ in size.
    """
    if {path.name for path in _visible(folder)} == set(PARTS):
        return _own_split(folder)
    paths, classes = _list(folder)
    return split_images(folder.name, _read_all(paths), _labels(paths, classes), LEVELS)


def _own_split(folder: Path) -> ImageData:
    """The split that `train` and `test` make; both are read together, so that sizes agree."""
    (train, train_classes), (test, test_classes) = (_list(folder / part) for part in PARTS)
    if train_classes != test_classes:
        raise InputError(
            f"{folder}: classes of train {train_classes} and test {test_classes} differ"
        )
    pixels = torch.from_numpy(_read_all(train + test))
    labels = _labels(train + test, train_classes)
    n = len(train)
    if labels is None:
        return ImageData(folder.name, pixels[:n], pixels[n:], None, None, LEVELS)
    classes = torch.from_numpy(labels)
    return ImageData(folder.name, pixels[:n], pixels[n:], classes[:n], classes[n:], LEVELS)


def _list(folder: Path) -> tuple[list[Path], list[str]]:
    """Image files in a fixed order, and the names of the classes (empty if the folder is flat)."""
    flat = _image_files(folder)
    inner = [path for path in _visible(folder) if path.is_dir()]
    if flat and inner:
        raise InputError(
            f"{folder}: holds both images and folders ({flat[0].name}, {inner[0].name})"
        )
    if not inner:
        return _some(folder, flat), []
    files = [path for sub in inner for path in _some(sub, _image_files(sub))]
    return files, [path.name for path in inner]


def _some(folder: Path, files: list[Path]) -> list[Path]:
    if not files:
        raise InputError(f"{folder}: holds no image ({', '.join(ENDINGS)})")
    return files


def _image_files(folder: Path) -> list[Path]:
    return [p for p in _visible(folder) if p.suffix.lower() in ENDINGS and not p.is_dir()]


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read as a folder: {error}") from error


def _labels(paths: list[Path], classes: list[str]) -> np.ndarray | None:
    if not classes:
        return None
    return np.array([classes.index(path.parent.name) for path in paths], np.int64)


def _read_all(paths: list[Path]) -> np.ndarray:
    """Images as uint8 [N, C, H, W], C = 1 if none has colour, else 3."""
    images = [_read(path) for path in paths]
    size = images[0].size
    for path, image in zip(paths, images, strict=True):
        if image.size != size:
            sizes = f"{_size(images[0])} and {path} is {_size(image)}"
            raise InputError(f"images of different sizes: {paths[0]} is {sizes}")
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    stacked = np.stack([np.asarray(image.convert(mode)) for image in images])
    if mode == "L":
        return stacked[:, None]
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def _read(path: Path) -> Image.Image:
    """One image, decoded, as grey (L) or RGB."""
    # Decoders raise whatever their format makes them meet (OSError, SyntaxError, struct.error,
    # ...); whichever it is, the file is what is wrong.
    try:
        with Image.open(path) as image:
            return _plain(ImageOps.exif_transpose(image))
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an image: {reason}") from error


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in GREY_MODES:
        return image.convert("L")
    if image.mode not in COLOUR_MODES:
        raise ValueError(f"pixel mode {image.mode}: allowed are 8 bits a channel")
    # A palette may mark a colour as transparent; only RGBA can take that mark before it is dropped.
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("RGB")
