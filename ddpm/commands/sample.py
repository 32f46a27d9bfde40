"""`ddpm sample`: pictures from a trained run, a few in one file or many in shards."""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ddpm.commands.reference import checksum
from ddpm.commands.shards import GRID, Format, Sampling, ShardFolder
from ddpm.commands.terminal import console, progress
from ddpm.commands.trained import TrainedRun, check_draw, open_run
from ddpm.commands.trajectory import ENDINGS, Recorder, check_size, write_trajectory
from ddpm.distributed import Ranks, joined
from ddpm.errors import InputError, check
from ddpm.evaluation.figures import sample_grid
from ddpm.files import write_atomically
from ddpm.processes.base import Trained
from ddpm.samplers.sampler import Sampler

SHOWN = 256
"""Most pictures in one PNG grid; the arrays hold all."""
MOST_NAMED = 6
"""Levels of the user's own that a file is named by; more become a checksum."""
PATIENCE = timedelta(days=2)
"""How long a rank that has drawn its shards waits for the others."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pictures to draw, how, and how to keep them.

    Attributes:
        num: How many.
        seed: Key of the random numbers; picture i depends on it and on i.
        sampler: How to draw them.
        usual: Whether by the usual sampler of the model instead of the one named, and in its usual
            steps where neither steps nor levels are given.
        ema: Rate of the averaged weights; None for the main ones.
        shard_size: Pictures in a shard.
        format: How shards are kept, "npz" or "png".
        trajectory: Whether the states on the way are kept too, beside the grid.
    """

    num: int
    seed: int
    sampler: Sampler
    usual: bool = False
    ema: float | None = None
    shard_size: int = 1000
    format: str = "npz"
    trajectory: bool = False

    def __post_init__(self) -> None:
        check_draw(self.num, self.seed)
        check(self.shard_size >= 1, "shard_size", self.shard_size, "an integer of at least 1")
        check(self.format in get_args(Format), "format", self.format, " or ".join(get_args(Format)))

    def of(self, trained: Trained) -> "Wanted":
        """The same with the sampler that a model is drawn with."""
        if not self.usual:
            return self
        sampler, usual = self.sampler, trained.usual
        steps = usual.steps if sampler.steps is None and sampler.levels is None else sampler.steps
        return replace(self, sampler=replace(sampler, name=usual.name, steps=steps), usual=False)

    @property
    def endings(self) -> tuple[str, ...]:
        """What follows the name in the files of pictures that are not in shards."""
        return (".png", ".npz", *(ENDINGS if self.trajectory else ()))


def sample_run(path: Path, wanted: Wanted, *, out: Path | None, device: str) -> None:
    """Draw pictures: a PNG grid and an .npz beside it, or a folder of shards.

    With a trajectory there is an animation beside the grid, and a picture and arrays of the states.
    There are shards for more pictures than one shard holds, for PNG files, and where `out` is a
    name without an ending. Given again, the same command goes on where it stopped; under torchrun
    the ranks share the missing shards.

    Args:
        path: The run folder.
        wanted: What to draw.
        out: A PNG to write, or the folder of shards; None for a name in the run's samples/.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: an argument or the run cannot be used, or nothing can be written.
    """
    in_shards = wanted.num > wanted.shard_size or wanted.format == "png"
    in_shards = in_shards or (out is not None and out.suffix == "")
    if wanted.trajectory and in_shards:
        raise InputError(
            "trajectory with shards: allowed with it are pictures in one file, up to shard_size = "
            f"{wanted.shard_size} of them and an out that ends in .png"
        )
    if out is not None:
        check_out(out, in_shards, wanted.endings)
    with joined(device, PATIENCE) as ranks:
        if in_shards:
            _sample_shards(path, wanted, out, ranks)
        else:
            ranks.first(lambda: _sample_file(open_run(path, ranks.device, wanted.ema), wanted, out))
        ranks.barrier()


def check_out(out: Path, in_shards: bool, endings: Sequence[str] = (".png", ".npz")) -> None:
    """Refuse a place for pictures before any work is done for it.

    Args:
        out: The place.
        in_shards: Whether a folder is needed.
        endings: Of the files that are written beside each other where none is.

    Raises:
        InputError: its folder does not exist, or it is not what the pictures need.
    """
    if in_shards:
        check(out.suffix != ".png", "out", str(out), "a folder, since there are shards to write")
    else:
        check(out.suffix == ".png", "out", str(out), "a path that ends in .png, or a folder")
    if not out.absolute().parent.is_dir():
        raise InputError(f"out = {out}: its folder does not exist; allowed is an existing folder")
    for ending in () if in_shards else endings:
        if (file := out.with_name(out.stem + ending)).exists():
            raise InputError(f"out = {out}: {file.name} exists; allowed is a new name")


def _sample_file(run: TrainedRun, wanted: Wanted, out: Path | None) -> None:
    wanted = wanted.of(run.trained)
    run.check(wanted.sampler)
    recorder = None
    if wanted.trajectory:
        steps = run.steps(wanted.sampler)
        check_size(wanted.num, steps, run.config.image_shape)
        recorder = Recorder(steps)
    pictures = run.draw(
        wanted.num, wanted.seed, wanted.sampler, None if recorder is None else recorder.watch
    )
    if out is None:
        run.folder.samples.mkdir(exist_ok=True)
        out = _free(run.folder.samples, _stem(run, wanted), wanted.endings)
    sample_grid(out, pictures[:SHOWN], run.config.grey_levels)
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays, images=pictures.numpy(), levels=np.array(run.config.grey_levels),
        seed=np.array(wanted.seed), step=np.array(run.step),
    )  # fmt: skip
    write_atomically(out.with_suffix(".npz"), arrays.getvalue())
    lines = [f"Pictures: {out}", f"Grey levels as arrays: {out.with_suffix('.npz')}"]
    if recorder is not None:
        found, levels = recorder.trajectory(), run.config.grey_levels
        files = write_trajectory(out.with_name(out.stem), found, levels, SHOWN)
        said = ("Animation", "Some levels", "All states as arrays")
        lines += [f"{what}: {file}" for what, file in zip(said, files, strict=True)]
    console.print("\n".join(lines), soft_wrap=True)


def _free(folder: Path, stem: str, endings: Sequence[str]) -> Path:
    """A PNG of the name, or with the first of -2, -3, ..., beside which no file is in the way."""
    name, number = stem, 2
    while any((folder / (name + ending)).exists() for ending in endings):
        name, number = f"{stem}-{number}", number + 1
    return folder / f"{name}.png"


def _stem(run: TrainedRun, wanted: Wanted) -> str:
    """Name of a file of pictures after what they depend on."""
    sampler, ilvr = wanted.sampler, wanted.sampler.ilvr
    main = run.ema == run.config.optimiser.ema_decay
    parts = [
        f"{sampler.name}-{run.steps(sampler)}",
        "" if sampler.spacing == "trailing" else f"-{sampler.spacing}",
        "" if sampler.levels is None else f"-levels-{_named(sampler.levels)}",
        f"-eta-{sampler.eta:g}" if sampler.eta else "",
        "" if sampler.variance is None else f"-{sampler.variance}",
        "" if sampler.sde is None else f"-{sampler.sde}",
        "" if sampler.guidance == 1 else f"-guidance-{sampler.guidance:g}",
        "" if sampler.label is None else f"-label-{sampler.label}",
        "" if ilvr is None else f"-ilvr-{ilvr.factor}-{checksum(ilvr.reference)[:8]}",
        "" if main else f"-ema-{run.ema}",
        f"-seed-{wanted.seed}-num-{wanted.num}",
    ]
    return "".join(parts)


def _named(levels: Sequence[int]) -> str:
    text = "-".join(map(str, levels))
    few = len(levels) <= MOST_NAMED
    return text if few else hashlib.sha256(text.encode()).hexdigest()[:8]


def _sample_shards(path: Path, wanted: Wanted, out: Path | None, ranks: Ranks) -> None:
    opened: list[TrainedRun] = []

    def begin() -> dict[str, Any]:
        # Rank 0 alone, so that nobody looks at a folder that is half begun.
        opened.append(open_run(path, ranks.device, wanted.ema))
        folder = _folder(opened[0], wanted.of(opened[0].trained), out)
        folder.begin()
        return {"step": opened[0].step, "missing": folder.missing()}

    begun = ranks.first(begin)
    # The run may be in training and write another checkpoint at any moment.
    run = opened[0] if ranks.main else open_run(path, ranks.device, wanted.ema, begun["step"])
    wanted = wanted.of(run.trained)
    folder = _folder(run, wanted, out)
    mine = begun["missing"][ranks.rank :: ranks.world]
    try:
        done = folder.count - len(begun["missing"])
        _draw_shards(run, folder, wanted.sampler, mine, done, ranks)
    except KeyboardInterrupt:
        if ranks.main:
            console.print(f"Stopped. Go on with the same command: {folder.path}", soft_wrap=True)
        raise
    ranks.barrier()
    if ranks.main:
        grid = folder.path / GRID
        sample_grid(grid, folder.read(SHOWN), run.config.grey_levels)
        console.print(
            f"{wanted.num} pictures in {folder.count} shards: {folder.path}\n"
            f"The first of them: {grid}",
            soft_wrap=True,
        )


def _folder(run: TrainedRun, wanted: Wanted, out: Path | None) -> ShardFolder:
    sampler = wanted.sampler
    run.check(sampler)
    sampling = Sampling(
        run=run.folder.path.resolve().name, step=run.step, fingerprint=run.fingerprint(),
        ema=run.ema, **_described(sampler, run.steps(sampler)), seed=wanted.seed, num=wanted.num,
        shard_size=wanted.shard_size, format=wanted.format, image_shape=run.config.image_shape,
        grey_levels=run.config.grey_levels,
    )  # fmt: skip
    if out is None:
        ending = "-png" if wanted.format == "png" else ""
        out = run.folder.samples / f"{_stem(run, wanted)}-update-{run.step}{ending}"
    return ShardFolder(out, sampling)


def _described(sampler: Sampler, steps: int) -> dict[str, Any]:
    """All choices of a sampler, as fields of `Sampling`."""
    ilvr = sampler.ilvr
    return {
        "sampler": sampler.name,
        "steps": steps,
        "spacing": sampler.spacing,
        "levels": sampler.levels,
        "eta": sampler.eta if sampler.name == "ddim" else 1.0,
        "variance": sampler.variance,
        "sde": sampler.sde,
        "guidance": sampler.guidance,
        "label": sampler.label,
        "ilvr": None if ilvr is None else checksum(ilvr.reference),
        "ilvr_factor": None if ilvr is None else ilvr.factor,
        "ilvr_until": None if ilvr is None else ilvr.until,
    }


def _draw_shards(
    run: TrainedRun,
    folder: ShardFolder,
    sampler: Sampler,
    mine: list[int],
    done: int,
    ranks: Ranks,
) -> None:
    """Draw the shards that fall to this rank, one after the other."""
    sampling, calls = folder.sampling, run.check(sampler)
    if done and ranks.main:
        console.print(f"{done} of {folder.count} shards are there already.")
    total = sum(len(folder.indices(number)) for number in mine) * calls
    with _told(total, ranks) as advance:
        for number in mine:
            indices = folder.indices(number)
            images = run.pictures(indices, sampling.num, sampling.seed, sampler, advance)
            folder.write(number, images)


@contextmanager
def _told(total: int, ranks: Ranks) -> Iterator[Callable[[int], None]]:
    """A progress bar on rank 0, of its own share, as a function to be told of what is done."""
    if not ranks.main:
        yield lambda _: None
        return
    name = f"sample (rank 0 of {ranks.world})" if ranks.world > 1 else "sample"
    with progress(unit=" pictures x steps") as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.advance(task, done)
