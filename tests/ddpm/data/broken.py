"""Ways to damage a file, and the promise that every reader keeps: images or an `InputError`."""

import tempfile
from pathlib import Path

from hypothesis import strategies as st

from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.errors import InputError


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content truncated, lengthened, or with a few bytes overwritten, or mere noise."""
    how = draw(st.sampled_from(["truncate", "append", "overwrite", "head", "noise"]))
    if how == "truncate":
        return content[: draw(st.integers(0, len(content) - 1))]
    if how == "append":
        return content + draw(st.binary(min_size=1, max_size=8))
    if how == "noise":
        return draw(st.binary(max_size=64))
    result = bytearray(content)
    last = min(len(content), 40) if how == "head" else len(content)
    for _ in range(draw(st.integers(1, 4))):
        result[draw(st.integers(0, last - 1))] = draw(st.integers(0, 255))
    return bytes(result)


def load_or_input_error(name: str, content: bytes, inside: str = "") -> ImageData | None:
    """Load a file of this name and content; None if it was refused with one line naming it.

    Args:
        name: the file's name.
        content: its bytes.
        inside: if given, the file stands in a folder of this name and the folder is loaded.
    """
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / inside
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        try:
            return load_images(str(folder if inside else folder / name))
        except InputError as error:
            message = str(error)
    assert "\n" not in message
    assert (inside or name) in message
    return None
