"""From an album to images in memory or to a streamed set, whichever its size asks for."""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

from ddpm.data.album import Album, Decoded, Survey, first_shape, survey
from ddpm.data.checked import recall, remember
from ddpm.data.images import DIGEST_DIGITS, ImageData
from ddpm.data.streamed import STREAM_BYTES, StreamedData, streamed

LEVELS = 256


def assemble(
    album: Album, *, skip_broken: bool = False, stream: bool | None = False, workers: int = 0
) -> ImageData | StreamedData:
    """Look through all pictures and split them.

    Args:
        album: the pictures.
        skip_broken: whether pictures that cannot be decoded are left out.
        stream: whether to decode pictures when they are needed; None decides by STREAM_BYTES.
        workers: processes that decode.

    Raises:
        InputError: a picture is broken and not to be left out, sizes differ, or too few are left.
    """
    if stream is None:
        shape = first_shape(album.pictures, skip_broken=skip_broken)
        stream = len(album.pictures) * math.prod(shape) > STREAM_BYTES
    if stream:
        return _streamed(album, skip_broken, workers)
    return in_memory(album, skip_broken=skip_broken, workers=workers)


def in_memory(album: Album, *, skip_broken: bool = False, workers: int = 0) -> ImageData:
    """All pictures of an album decoded; the rest is as in `assemble`."""
    gathered: list[np.ndarray | None] = []
    seen = survey(
        album.pictures,
        lambda _, pixels: gathered.append(pixels),
        skip_broken=skip_broken,
        workers=workers,
    )
    train, test = album.split(seen.kept)
    return ImageData(
        album.name,
        _stacked(gathered, seen, train),
        _stacked(gathered, seen, test),
        None if album.labels is None else album.labels[train],
        None if album.labels is None else album.labels[test],
        LEVELS,
        seen.skipped,
    )


def _stacked(gathered: list[np.ndarray | None], seen: Survey, places: Tensor) -> Tensor:
    """The pictures of some places as uint8 [n, C, H, W]; takes them out of the list."""
    images = torch.empty((len(places), *seen.shape), dtype=torch.uint8)
    order = torch.searchsorted(seen.kept, places).tolist()
    for row, k in zip(images.numpy(), order, strict=True):
        # Given back at once, so that the images never lie in memory twice.
        pixels, gathered[k] = gathered[k], None
        if pixels is not None:
            row[:] = pixels
    return images


def _streamed(album: Album, skip_broken: bool, workers: int) -> StreamedData:
    fingerprint = album.pictures.fingerprint()
    if fingerprint is not None:
        fingerprint = f"{fingerprint} {len(album.pictures)} {album.own_train}"
    known = recall(fingerprint)
    if known is None or (known[0].skipped and not skip_broken):
        seen, digest = _look_through(album, skip_broken, workers)
    else:
        seen, digest = known
    train, test = album.split(seen.kept)
    data = streamed(
        album.name,
        Decoded(album.pictures, seen.shape),
        train,
        test,
        album.labels,
        LEVELS,
        seen.skipped,
        digest,
    )
    remember(fingerprint, seen, data.digest())
    return data


def _look_through(album: Album, skip_broken: bool, workers: int) -> tuple[Survey, str | None]:
    """The survey and the checksum of the training images, if one pass can tell both."""
    expected = torch.zeros(len(album.pictures), dtype=torch.bool)
    expected[_expected_train(album)] = True
    checksum = hashlib.sha256()

    def visit(place: int, pixels: np.ndarray) -> None:
        if expected[place]:
            checksum.update(pixels.tobytes())

    seen = survey(album.pictures, visit, skip_broken=skip_broken, workers=workers)
    # The broken ones move the split, and grey among colour is not what was added up.
    wrong = seen.mixed or (len(seen.skipped) > 0 and album.own_train is None)
    return seen, None if wrong else checksum.hexdigest()[:DIGEST_DIGITS]


def _expected_train(album: Album) -> Tensor:
    return album.split(torch.arange(len(album.pictures)))[0]
