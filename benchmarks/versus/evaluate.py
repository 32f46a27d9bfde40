"""One evaluator for all loops: bits per dimension, distances of samples, a table and grids."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.versus.bits import GROUPS, Bits, estimate
from benchmarks.versus.table import markdown
from benchmarks.versus.trained import Trained, draw, open_trained
from ddpm.commands.terminal import console, progress
from ddpm.data.images import ImageData, to_levels
from ddpm.data.load import load_images
from ddpm.data.order import permutation
from ddpm.errors import InputError, check
from ddpm.evaluation.extractors import extractor
from ddpm.evaluation.feature_quality import feature_quality
from ddpm.evaluation.figures import sample_grid
from ddpm.evaluation.frechet import frechet_in_space, principal_space
from ddpm.evaluation.library import metrics_installed
from ddpm.files import keep_old, write_atomically
from ddpm.kernels.streams import Stream

CPU = torch.device("cpu")
SAMPLERS = ("ddim", "ancestral")
SHOWN = 64
"""Samples in a grid."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How everybody is evaluated.

    Attributes:
        images: Test images at each level.
        samples: Pictures drawn of each.
        sampler: "ddim" or "ancestral".
        steps: Network calls of the sampler.
        seed: Key of evaluation noise and samples.

    Raises:
        InputError: one of them is out of range.
    """

    images: int = 64
    samples: int = 1000
    sampler: str = "ancestral"
    steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        right = self.images >= 2 and (self.images <= GROUPS or self.images % GROUPS == 0)
        check(right, "images", self.images, f"2 to {GROUPS}, or a multiple of {GROUPS}")
        check(self.samples >= 4, "samples", self.samples, "an integer of at least 4")
        check(self.sampler in SAMPLERS, "sampler", self.sampler, " or ".join(SAMPLERS))
        check(self.steps >= 1, "steps", self.steps, "an integer of at least 1")
        check(0 <= self.seed < 2**40, "seed", self.seed, "0 to 2^40 - 1")


@dataclass(frozen=True, eq=False)
class Judge:
    """The images, and what is fitted to them once for all rows.

    Attributes:
        data: The images.
        space: The main directions of the training images.
        small: The extractor of features, or None where torchmetrics is not installed.
    """

    data: ImageData
    space: Any
    small: nn.Module | None

    @staticmethod
    def of(data: ImageData) -> "Judge":
        """Fit it."""
        small = extractor("small", data, CPU) if metrics_installed() else None
        return Judge(data, principal_space(data.train), small)

    def quality(self, samples: Tensor) -> dict[str, Any]:
        """Distances of samples from the test set, and of as many training images."""
        data = self.data
        order = permutation(len(data.train), 0, 0, Stream.EVALUATION_NOISE)
        real = data.train[order[: len(samples)]]
        found: dict[str, Any] = {
            "pixels": {
                "samples_test": frechet_in_space(self.space, samples, data.test),
                "train_test": frechet_in_space(self.space, real, data.test),
            }
        }
        if self.small is not None:
            found["small"] = feature_quality(samples, data, "small", self.small, CPU)
        return found


def evaluate(folders: list[Path], out: Path, kinds: list[str], options: Options) -> None:
    """Evaluate folders that `train` wrote; write rows, grids of samples and `table.md`.

    A row that is there already, of the same weights and the same options, is kept.

    Raises:
        InputError: an argument or a folder cannot be used.
    """
    check(bool(folders), "folders", folders, "at least one")
    trained = [open_trained(folder, kind) for folder in folders for kind in kinds]
    # Not before: a run of ours chooses threads when it is opened.
    torch.set_num_threads(1)
    names = [each.name for each in trained]
    check(len(set(names)) == len(names), "folders", names, "different loops or seeds")
    judge = Judge.of(_data(trained))
    for each in trained:
        check(options.steps <= each.diffusion.schedule.steps, "steps", options.steps,
              f"at most the {each.diffusion.schedule.steps} levels of {each.name}")  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for each in trained:
        rows.append(_row(each, judge, out, options))
        _replace(out / "table.md", markdown(rows, asdict(options)).encode())
    console.print(f"Table: {out / 'table.md'}", soft_wrap=True, markup=False)


def _data(trained: list[Trained]) -> ImageData:
    """The images that all of them were trained on."""
    sources = {each.record["data"] for each in trained}
    check(len(sources) == 1, "data", sorted(sources), "the same for all folders")
    data = load_images(sources.pop())
    for each in trained:
        if each.record["data_digest"] != data.digest():
            raise InputError(f"data = {data.name}: not the images that {each.name} was trained on")
    return data


def _row(trained: Trained, judge: Judge, out: Path, options: Options) -> dict[str, Any]:
    """What is found of some weights, from its file where it was found before."""
    path = out / f"{trained.name}.json"
    asked = {"weights_and_process": trained.digest, **asdict(options)}
    if (old := _before(path, asked)) is not None:
        return old
    data = judge.data
    found = _bits(trained, data, options)
    with console.status(f"{trained.name}: samples"):
        drawn = draw(
            trained, options.samples, options.seed, options.sampler, options.steps, data.shape
        )
        samples = to_levels(drawn, data.levels)
        quality = judge.quality(samples)
    grid = out / f"{trained.name}.png"
    keep_old(grid)
    sample_grid(grid, samples[:SHOWN], data.levels)
    row = {
        "name": trained.name, "weights": trained.kind, "asked": asked, "run": trained.record,
        "levels": trained.diffusion.schedule.steps, "bits": asdict(found), "quality": quality,
    }  # fmt: skip
    _replace(path, (json.dumps(row, indent=2) + "\n").encode())
    return row


def _bits(trained: Trained, data: ImageData, options: Options) -> Bits:
    total = trained.diffusion.schedule.steps * min(GROUPS, options.images)
    with progress(unit=" levels x groups") as bar:
        task = bar.add_task(f"{trained.name}: bits/dim", total=total)
        return estimate(
            trained.diffusion, trained.model, data, images=options.images, seed=options.seed,
            advance=lambda: bar.advance(task),
        )  # fmt: skip


def _before(path: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The row of a file, if it is of what is asked for."""
    try:
        row = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) and row.get("asked") == asked else None


def _replace(path: Path, content: bytes) -> None:
    """Write a file; a different one of its name is kept under another."""
    if path.exists() and path.read_bytes() != content:
        keep_old(path)
    write_atomically(path, content)
