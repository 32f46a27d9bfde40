"""Fashion-MNIST: 60,000 training and 10,000 test pictures of clothes, 28 x 28, ten classes."""

import gzip
import hashlib
import os
import tempfile
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

from ddpm.data import idx
from ddpm.data.images import ImageData
from ddpm.errors import InputError

NAME = "fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
TIMEOUT_SECONDS = 30.0

# SHA-256 of the uncompressed content: the same data is in circulation in several compressed forms.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load() -> ImageData:
    """Fashion-MNIST from $DDPM_DATA/fashion-mnist, Debian's package, the cache or a download.

    Raises:
        InputError: if it is in none of these places and cannot be downloaded, or is damaged.
    """
    folders = local_folders()
    found = next((folder for folder in folders if is_complete(folder)), None)
    if found is None:
        found = folders[-1]
        _download(found, folders)
    return idx.load_folder(found, NAME)


def local_folders() -> list[Path]:
    """Where the files are looked for, in order; the last is the cache that a download fills."""
    folders = [DEBIAN_FOLDER, Path.home() / ".cache" / "ddpm" / NAME]
    root = os.environ.get("DDPM_DATA")
    return [Path(root) / NAME, *folders] if root else folders


def is_complete(folder: Path) -> bool:
    """Whether a folder has all four files, plain or compressed."""
    parts = ((part, kind) for part in ("train", "t10k") for kind in ("images", "labels"))
    return all(idx.find_idx(folder, part, kind) is not None for part, kind in parts)


def _download(folder: Path, looked_in: list[Path]) -> None:
    try:
        for stem, digest in SHA256.items():
            _fetch(stem, digest, folder)
    except (OSError, HTTPException, EOFError, zlib.error) as error:
        places = ", ".join(str(place) for place in looked_in)
        raise InputError(
            f"fashion-mnist: not in {places}, and the download from {URL} failed ({error}); "
            f"install Debian's package {DEBIAN_PACKAGE} or put the four files into a folder "
            f"{NAME} inside $DDPM_DATA"
        ) from error


def _fetch(stem: str, digest: str, folder: Path) -> None:
    """One file into the cache, only once its content is known to be right."""
    name = f"{stem}.gz"
    with urllib.request.urlopen(URL + name, timeout=TIMEOUT_SECONDS) as reply:
        content = reply.read()
    found = hashlib.sha256(gzip.decompress(content)).hexdigest()
    if found != digest:
        raise InputError(f"{URL}{name}: SHA-256 of its content is {found}: allowed is {digest}")
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that neither an interruption nor a second process leaves half a file.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=name, delete=False) as partial:
        partial.write(content)
    Path(partial.name).replace(folder / name)
