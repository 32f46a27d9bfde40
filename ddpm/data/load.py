"""One function that turns what the user types after `--data` into images."""

from pathlib import Path

from ddpm.data import digits, fashion_mnist, folder, idx, npz
from ddpm.data.images import ImageData
from ddpm.errors import InputError, check

NAMED = {"digits": digits.load, fashion_mnist.NAME: fashion_mnist.load}
ALLOWED = (
    f"{', '.join(NAMED)} or the path of an existing folder of images, folder of IDX files, "
    f".npz file or IDX file ({', '.join(idx.ENDINGS)})"
)


def load_images(source: str) -> ImageData:
    """Images by name or by path, split into a training set and a test set.

    Args:
        source: "digits", "fashion-mnist", or a path: a folder with train-images-idx3-ubyte[.gz]
            and its companions (`ddpm.data.idx`), a folder of pictures (`ddpm.data.folder`), an
            .npz file (`ddpm.data.npz`) or one IDX file of images. A source without a test set of
            its own has a fifth of its images held out, always the same ones.

    Raises:
        InputError: if there is nothing of that name, or what is there is broken; the message
            names the file.
    """
    if source in NAMED:
        return NAMED[source]()
    path = _existing_path(source)
    try:
        return _load_path(path, source)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _load_path(path: Path, source: str) -> ImageData:
    if path.is_dir():
        is_idx = idx.find_idx(path, "train", "images") is not None
        return idx.load_folder(path, path.name) if is_idx else folder.load_folder(path)
    if path.name.endswith(".npz"):
        return npz.load_file(path)
    check(path.name.endswith(idx.ENDINGS), "data", source, ALLOWED)
    return idx.load_file(path)


def _existing_path(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        exists = source != "" and path.exists()
    except (OSError, RuntimeError):
        exists = False
    check(exists, "data", source, ALLOWED)
    return path.resolve()
