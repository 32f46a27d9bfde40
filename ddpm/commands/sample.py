"""`ddpm sample`: pictures from a trained run."""

import io
from pathlib import Path

import numpy as np

from ddpm.commands.terminal import console
from ddpm.commands.trained import check_writable, open_run
from ddpm.evaluation.figures import sample_grid
from ddpm.files import free_path, write_atomically

GRID = 256
"""Most pictures in one PNG; the .npz holds all."""


def sample_run(
    path: Path,
    *,
    num: int,
    seed: int,
    sampler: str,
    steps: int | None,
    eta: float,
    out: Path | None,
    device: str,
) -> None:
    """Draw pictures and write a PNG grid and an .npz beside it.

    Raises:
        InputError: an argument or the run cannot be used.
    """
    if out is not None:
        check_writable(out)
    run = open_run(path, device)
    table = run.sampler(sampler, steps, eta)
    pictures = run.draw(num, seed, table)
    if out is None:
        run.folder.samples.mkdir(exist_ok=True)
        name = f"{sampler}-{len(table.levels)}-seed-{seed}-num-{num}.png"
        out = free_path(run.folder.samples / name)
    sample_grid(out, pictures[:GRID], run.config.grey_levels)
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays, images=pictures.numpy(), levels=np.array(run.config.grey_levels),
        seed=np.array(seed), step=np.array(run.step),
    )  # fmt: skip
    write_atomically(out.with_suffix(".npz"), arrays.getvalue())
    console.print(
        f"Pictures: {out}\nGrey levels as arrays: {out.with_suffix('.npz')}", soft_wrap=True
    )
