"""From what the user types after `--data` to images, in memory or streamed."""

from pathlib import Path

from ddpm.data import digits, fashion_mnist, folder, hubs, idx, npy, npz, shards
from ddpm.data.album import Album
from ddpm.data.assemble import assemble
from ddpm.data.images import ImageData
from ddpm.data.streamed import StreamedData, streamed_from_memory
from ddpm.errors import InputError, check

NAMED = {"digits": digits.load, fashion_mnist.NAME: fashion_mnist.load}
ALLOWED = (
    f"{', '.join(NAMED)} or the path of an existing folder of images, of IDX files or of .tar "
    f"shards, .npz file, .npy file, .tar file or pattern of several, IDX file "
    f"({', '.join(idx.ENDINGS)}), torchvision:NAME or hf:NAME[:split/column]"
)


def load_images(source: str, *, skip_broken: bool = False) -> ImageData:
    """Images by name or by path in memory, split into a training set and a test set.

    Args:
        source: "digits", "fashion-mnist", a path, a pattern of tar files, `torchvision:NAME` or
            `hf:NAME[:split/column]`. A path leads to a folder with train-images-idx3-ubyte[.gz]
            and its companions (`ddpm.data.idx`), a folder of pictures (`ddpm.data.folder`) or of
            tar shards (`ddpm.data.shards`), an .npz file (`ddpm.data.npz`), an .npy file
            (`ddpm.data.npy`), a tar file or one IDX file of images. A source without a test set of
            its own has a fifth of its images held out, always the same ones.
        skip_broken: whether pictures that cannot be decoded are left out; `skipped` names them.

    Raises:
        InputError: if there is nothing of that name, or what is there is broken; the message
            names the file.
    """
    data = open_source(source, skip_broken=skip_broken, stream=False)
    assert isinstance(data, ImageData)
    return data


def open_source(
    source: str, *, skip_broken: bool = False, stream: bool | None = None, workers: int = 0
) -> ImageData | StreamedData:
    """Images by name or by path, in memory or read while they are needed.

    The training images are the same either way, in the same order. Everything is read once in any
    case, so that what is broken shows here and not hours later; of pictures that are streamed the
    result is kept in the user's cache, and is used as long as no file changes.

    Args:
        source: as for `load_images`.
        skip_broken: whether pictures that cannot be decoded are left out; `skipped` names them.
        stream: whether images are read when they are needed; None: if they take more than
            `ddpm.data.streamed.STREAM_BYTES` in memory. Formats that cannot be read in pieces
            (IDX, .npz and the named sets) are kept in memory even so.
        workers: processes that look through pictures; with 0 this one does.

    Raises:
        InputError: as for `load_images`.
    """
    try:
        found = _open(source, stream)
        if isinstance(found, Album):
            return assemble(found, skip_broken=skip_broken, stream=stream, workers=workers)
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error}") from error
    except MemoryError as error:
        raise InputError(f"{source}: does not fit into memory; allowed is --stream") from error
    return streamed_from_memory(found) if stream and isinstance(found, ImageData) else found


def canonical_source(source: str) -> str:
    """The name of a data set, or the absolute path of one."""
    if source in NAMED:
        return source
    if hubs.is_hub(source):
        return hubs.canonical(source)
    return str(Path(source).expanduser().absolute())


def _open(source: str, stream: bool | None) -> ImageData | StreamedData | Album:
    if source in NAMED:
        return NAMED[source]()
    if hubs.is_hub(source):
        return hubs.open_hub(source)
    path = _existing_path(source)
    if path is None and shards.is_pattern(source):
        return shards.open_shards(_shards(source), Path(source).name)
    check(path is not None, "data", source, ALLOWED)
    assert path is not None
    if path.is_dir():
        return _open_folder(path)
    if path.name.endswith(shards.ENDING):
        return shards.open_shards([path], path.name)
    if path.name.endswith(".npz"):
        return npz.load_file(path)
    if path.name.endswith(".npy"):
        return npy.open_file(path, stream=stream)
    check(path.name.endswith(idx.ENDINGS), "data", source, ALLOWED)
    return idx.load_file(path)


def _open_folder(path: Path) -> ImageData | Album:
    if idx.find_idx(path, "train", "images") is not None:
        return idx.load_folder(path, path.name)
    found = shards.shards_in(path)
    return shards.open_shards(found, path.name) if found else folder.open_folder(path)


def _shards(source: str) -> list[Path]:
    try:
        return shards.find_shards(source)
    except (OSError, RuntimeError):
        raise InputError(f"data = {source!r}: allowed is {ALLOWED}") from None


def _existing_path(source: str) -> Path | None:
    try:
        path = Path(source).expanduser()
        return path.resolve() if source != "" and path.exists() else None
    except (OSError, RuntimeError):
        return None
