"""What a training loop left behind, whichever library it is of, as a process of ours."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from benchmarks.versus.common import Weights
from ddpm.commands.trained import open_run
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.files import read_plain
from ddpm.models.unet import UNet, UNetConfig
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.runs.checkpoint import load as load_checkpoint
from ddpm.runs.checkpoint import restore
from ddpm.schedule import Schedule

Shape = tuple[int, int, int]
LARGEST = 2**32
KINDS = ("ema", "raw")
BATCH = 125
"""Pictures drawn at a time."""


class Levels(nn.Module):
    """A network told its levels as it learnt them, called with ours, 1..T.

    Args:
        inner: The network.
        first_level: What it is told at level 1.
    """

    def __init__(self, inner: nn.Module, first_level: int) -> None:
        super().__init__()
        self.inner, self.shift = inner, first_level - 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction for images [B, C, H, W] at levels [B]."""
        output: Tensor = self.inner(x, t + self.shift)
        return output


@dataclass(frozen=True, eq=False)
class Trained:
    """Weights of a loop, ready to be evaluated.

    Attributes:
        record: What `run.json` says; of a run of `ddpm train` the same, with seconds by the clock.
        kind: "ema" or "raw".
        digest: Checksum of weights and process.
        diffusion: The process that the network was trained for.
        model: The network as a function of images and our levels, in evaluation mode.
    """

    record: dict[str, Any]
    kind: str
    digest: str
    diffusion: GaussianDiffusion
    model: nn.Module

    @property
    def name(self) -> str:
        """Loop, variant, seed and kind of weights."""
        tuned = "-tuned" if self.record["tuned"] else ""
        return f"{self.record['loop']}{tuned}-seed{self.record['seed']}-{self.kind}"


def open_trained(folder: Path, kind: str) -> Trained:
    """Read one kind of weights of a folder that `train` or `ddpm train` wrote.

    Raises:
        InputError: naming the file that is missing or broken, or what a run has that the loops here
            have not.
    """
    check(kind in KINDS, "weights", kind, " or ".join(KINDS))
    if (folder / "config.json").exists():
        return _open_run(folder, kind)
    record = _record(folder / "run.json")
    weights, first = _tensors(folder / f"{kind}.safetensors")
    process, second = _tensors(folder / "process.safetensors")
    try:
        config = TypeAdapter(UNetConfig).validate_python(record["network"])
        schedule = Schedule.from_log_alpha_bar(process["log_alpha_bar"])
        diffusion = GaussianDiffusion(schedule, record["prediction"])
        shift = int(record["first_level"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InputError(f"{folder}: not a folder of this benchmark: {error}") from None
    network = UNet(config)
    restore(network, weights, folder / f"{kind}.safetensors")
    digest = hashlib.sha256(f"{first}{second}{shift}{record['prediction']}".encode())
    return Trained(record, kind, digest.hexdigest(), diffusion, Levels(network, shift).eval())


def _open_run(folder: Path, kind: str) -> Trained:
    """The averaged weights of a run of `ddpm train`."""
    check(kind == "ema", "weights", kind, f"ema for {folder}, a run of ddpm train")
    run = open_run(folder, "cpu")
    config, trained = run.config, run.trained
    if (
        not isinstance(trained, TrainedGaussian)
        or trained.classes
        or config.variance != "posterior"
    ):
        raise InputError(
            f"{folder}: allowed is Gaussian diffusion with posterior variance, without classes"
        )
    record = {
        "loop": "ours", "tuned": False, "seed": config.seed, "updates": run.step,
        "cpu_seconds": load_checkpoint(run.folder.last_checkpoint(), ()).seconds,
        "data": config.data, "data_digest": config.data_digest,
    }  # fmt: skip
    return Trained(record, kind, run.fingerprint(), trained.diffusion, run.model)


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(read_plain(path, 2**20))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    names = {"loop", "tuned", "seed", "updates", "cpu_seconds", "data", "data_digest"}
    if not isinstance(record, dict) or names - record.keys():
        raise InputError(f"{path}: allowed is an object with {', '.join(sorted(names))}")
    return record


def _tensors(path: Path) -> tuple[Weights, str]:
    """The tensors of a file, and its checksum."""
    content = read_plain(path, LARGEST)
    try:
        return load(content), hashlib.sha256(content).hexdigest()
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from None


@torch.no_grad()
def draw(trained: Trained, num: int, seed: int, sampler: str, steps: int, shape: Shape) -> Tensor:
    """Pictures 0..num-1 of a seed, float32 [num, C, H, W], by one sampler for all loops.

    Args:
        trained: The network and its process.
        num: How many.
        seed: Key of the random numbers.
        sampler: "ddim", without noise, or "ancestral".
        steps: Network calls, in equal strides of levels from T down.
        shape: (C, H, W).
    """
    diffusion, parts = trained.diffusion, []
    loop = diffusion.ddim_sample_loop if sampler == "ddim" else diffusion.p_sample_loop
    for first in range(0, num, BATCH):
        batch = range(first, min(num, first + BATCH))
        shaped = (len(batch), *shape)
        parts.append(loop(trained.model, shaped, seed=seed, steps=steps, samples=batch))
    return torch.cat(parts)
