"""A trained run, opened for sampling or evaluation, and its samplers with a progress bar."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ddpm.commands.runtime import choose_threads, resolve_device
from ddpm.commands.terminal import progress
from ddpm.config import RunConfig
from ddpm.data.images import to_levels
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.keys import Key
from ddpm.levels import trailing
from ddpm.run_folder import RunFolder
from ddpm.samplers import StepTable, ancestral_table, ddim_table
from ddpm.trainer import averaged_network

BATCH = 128
"""Pictures drawn at a time; the pictures do not depend on it. Larger ones leave a CPU's cache."""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """What sampling and evaluation need of a run.

    Attributes:
        folder: The run folder.
        config: Its configuration.
        diffusion: Its process.
        model: The averaged network of the last checkpoint, in evaluation mode.
        device: Where the network lives.
        step: Updates that the checkpoint has seen.
    """

    folder: RunFolder
    config: RunConfig
    diffusion: GaussianDiffusion
    model: nn.Module
    device: torch.device
    step: int

    def sampler(self, name: str, steps: int | None, eta: float) -> StepTable:
        """Table of a sampler by name.

        Raises:
            InputError: the name, the number of steps or eta is not allowed.
        """
        check(name in ("ancestral", "ddim"), "sampler", name, "ancestral or ddim")
        schedule, prediction = self.diffusion.schedule, self.diffusion.prediction
        try:
            levels = trailing(schedule.steps, steps)
            if name == "ddim":
                return ddim_table(schedule, prediction, levels, eta)
            return ancestral_table(schedule, prediction, levels, self.diffusion.variance)
        except ValueError as error:
            raise InputError(str(error)) from None

    def draw(self, num: int, seed: int, table: StepTable) -> Tensor:
        """Pictures 0..num-1 of a seed as grey levels, uint8 [num, C, H, W], with a progress bar."""
        check(num >= 1, "num", num, "an integer of at least 1")
        check(-(2**63) <= seed < 2**63, "seed", seed, "a signed 64-bit integer")
        parts = []
        with progress(unit=" pictures x steps") as bar:
            task = bar.add_task("sample", total=num * len(table.levels))
            for first in range(0, num, BATCH):
                key = Key.of(seed, range(first, min(num, first + BATCH)), device=self.device)
                x = self.diffusion.initial_noise((len(key.sample), *self.config.image_shape), key)
                for state in self.diffusion.sample_progressive(self.model, x, key, table):
                    x = state.x
                    bar.advance(task, len(x))
                parts.append(to_levels(x.cpu(), self.config.grey_levels))
        return torch.cat(parts)


def open_run(path: Path, device: str) -> TrainedRun:
    """Open the last checkpoint of a run.

    Raises:
        InputError: the device, the folder or the checkpoint cannot be used.
    """
    target, folder = resolve_device(device), RunFolder(path)
    config = folder.config()
    checkpoint = folder.last_checkpoint()
    model = averaged_network(config, checkpoint, target)
    _, height, width = config.image_shape
    torch.set_num_threads(choose_threads(BATCH * height * width * config.model.channels))
    diffusion = GaussianDiffusion(config.schedule.build(), config.prediction, config.variance)
    step = int(checkpoint.name.removeprefix("step-"))
    return TrainedRun(folder, config, diffusion, model, target, step)


def check_writable(path: Path) -> None:
    """Refuse a picture's path before any work is done for it.

    Raises:
        InputError: the folder does not exist, or the name does not end in .png.
    """
    check(path.suffix == ".png", "out", str(path), "a path that ends in .png")
    if not path.parent.is_dir():
        raise InputError(f"out = {path}: its folder does not exist; allowed is an existing folder")
    if path.exists():
        raise InputError(f"out = {path}: exists; allowed is a new name")
