"""`ddpm figures`: the papers' figures, recomputed with the proven formulas."""

from pathlib import Path

from ddpm.commands.terminal import console, progress
from ddpm.errors import check
from ddpm.files import keep_old, write_atomically
from ddpm.verify.figures import FIGURES
from ddpm.verify.figures.canvas import png


def draw_figures(out: Path) -> None:
    """Write every figure as a PNG; a file that would change is kept under another name.

    Raises:
        InputError: `out` is a file.
    """
    check(not out.is_file(), "out", str(out), "the name of a folder")
    with progress(unit=" figures") as bar:
        for figure in bar.track(FIGURES, description="drawing"):
            path, content = out / f"{figure.__name__}.png", png(figure())
            if path.exists() and path.read_bytes() != content and (moved := keep_old(path)):
                console.print(f"Kept the earlier {path.name} as {moved.name}", soft_wrap=True)
            write_atomically(path, content)
    for figure in FIGURES:
        what = (figure.__doc__ or "").partition("\n")[0]
        console.print(f"{out / figure.__name__}.png: {what}", soft_wrap=True)
