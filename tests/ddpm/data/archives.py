"""Pictures written in every format that can be streamed, all with the same content."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """A grey [H, W] or colour [H, W, 3] picture."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file with these members, in order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_folder(folder: Path, images: np.ndarray, broken: tuple[int, ...] = ()) -> str:
    """A flat folder of PNG files."""
    folder.mkdir(parents=True)
    for i, pixels in enumerate(images):
        content = png(pixels)
        (folder / f"{i:03}.png").write_bytes(content[: len(content) // 2 if i in broken else None])
    return str(folder)


def write_shards(folder: Path, images: np.ndarray, broken: tuple[int, ...] = ()) -> str:
    """Shards of up to three pictures with classes i % 4, as webdataset lays them out."""
    folder.mkdir(parents=True)
    for start in range(0, len(images), 3):
        members = {}
        for i in range(start, min(start + 3, len(images))):
            content = png(images[i])
            members[f"s/{i:03}.png"] = content[: len(content) // 2 if i in broken else None]
            members[f"s/{i:03}.cls"] = str(i % 4).encode()
            members[f"s/{i:03}.json"] = b"{}"
        (folder / f"shard-{start // 3:02}.tar").write_bytes(tar(members))
    return str(folder)


def write_npy(path: Path, images: np.ndarray) -> str:
    """One array [N, H, W] or [N, H, W, C]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, images)
    return str(path)
