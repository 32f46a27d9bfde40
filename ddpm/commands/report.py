"""`ddpm report`: a run as one self-contained page."""

from pathlib import Path

from ddpm.commands.terminal import console
from ddpm.errors import InputError, check
from ddpm.files import keep_old, write_atomically, writing
from ddpm.report.contents import contents
from ddpm.report.page import page
from ddpm.runs.run_folder import RunFolder


def report_run(path: Path, out: Path | None) -> Path:
    """Write the page of a run, and keep an earlier one that differs under another name.

    Args:
        path: Folder of the run.
        out: HTML file to write; None for report.html in the run.

    Returns:
        Where the page lies.

    Raises:
        InputError: the run cannot be read, or the file cannot be written there.
    """
    folder, target = RunFolder(path), path / "report.html" if out is None else out
    check(target.suffix == ".html", "out", str(target), "a path that ends in .html")
    found = contents(folder)
    if not target.parent.is_dir():
        raise InputError(
            f"out = {target}: its folder does not exist; allowed is an existing folder"
        )
    if target.is_dir():
        raise InputError(f"out = {target}: is a folder; allowed is a file")
    _write(target, page(found).encode())
    for note in found.notes:
        console.print(f"Note: {note}", soft_wrap=True)
    console.print(f"Report: {target}", soft_wrap=True)
    return target


def _write(target: Path, content: bytes) -> None:
    with writing(target):
        if target.exists() and target.read_bytes() != content and (moved := keep_old(target)):
            console.print(f"Kept the earlier {target.name} as {moved.name}", soft_wrap=True)
    write_atomically(target, content)
