"""A trained run, opened for sampling or evaluation, and its samplers with a progress bar."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ddpm.allocator import keep_memory
from ddpm.commands.runtime import choose_threads, resolve_device
from ddpm.commands.terminal import progress
from ddpm.config import RunConfig
from ddpm.data.images import to_levels
from ddpm.errors import InputError, check
from ddpm.keys import Key
from ddpm.models.network import values_of_a_layer
from ddpm.processes.base import Trained
from ddpm.runs.run_folder import RunFolder
from ddpm.samplers.loop import State
from ddpm.samplers.sampler import Sampler
from ddpm.training.averaged import averaged_network, ema_part, open_trained

BATCH = 125
"""Pictures drawn at a time; larger ones leave a CPU's cache. It divides the usual shard."""

Watch = Callable[[State | None, Iterator[State]], Iterator[State]]
"""What passes on the states of a batch, the first of all given beside them."""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """What sampling and evaluation need of a run.

    Attributes:
        folder: The run folder.
        config: Its configuration.
        trained: The model with its process.
        model: The averaged network of a checkpoint, in evaluation mode.
        device: Where the network lives.
        step: Updates that the checkpoint has seen.
        ema: Rate of the average.
    """

    folder: RunFolder
    config: RunConfig
    trained: Trained
    model: nn.Module
    device: torch.device
    step: int
    ema: float

    def steps(self, sampler: Sampler) -> int:
        """Levels that a sampler visits below its first; its network calls may be more."""
        if sampler.levels is not None:
            return len(sampler.levels) - 1
        return self.trained.levels if sampler.steps is None else sampler.steps

    def check(self, sampler: Sampler) -> int:
        """Refuse a sampler that this run has no use for.

        Returns:
            As `Trained.check`.

        Raises:
            InputError: naming what cannot be.
        """
        if sampler.ilvr is not None:
            try:
                sampler.ilvr.check(self.config.image_shape)
            except InputError as error:
                raise InputError(f"ilvr: {error}") from None
        return self.trained.check(sampler)

    def draw(self, num: int, seed: int, sampler: Sampler, watch: Watch | None = None) -> Tensor:
        """Pictures 0..num-1 of a seed as grey levels, uint8 [num, C, H, W], with a progress bar."""
        check_draw(num, seed)
        calls = self.check(sampler)
        with progress(unit=" pictures x steps") as bar:
            task = bar.add_task("sample", total=num * calls)
            return self.pictures(
                range(num), num, seed, sampler, lambda done: bar.advance(task, done), watch
            )

    def pictures(
        self,
        wanted: range,
        num: int,
        seed: int,
        sampler: Sampler,
        advance: Callable[[int], None] = lambda _: None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Some of the pictures 0..num-1 of a seed, the same bits whichever are asked for.

        The order in which a matrix product adds can depend on the size of a batch and on the place
        in it. So picture i is always drawn at place i % BATCH, beside the same other pictures.

        Args:
            wanted: Which pictures, consecutive, within 0..num-1.
            num: How many there are in all.
            seed: Key of the random numbers.
            sampler: How, and of which class.
            advance: Told after every step how many of the pictures wanted went on.
            watch: Sees all states of every batch, and changes none.

        Returns:
            uint8 [len(wanted), C, H, W], grey levels, on the CPU.
        """
        parts = []
        for first in range(wanted.start - wanted.start % BATCH, wanted.stop, BATCH):
            batch = range(first, min(num, first + BATCH))
            inside = slice(max(0, wanted.start - first), min(len(batch), wanted.stop - first))
            key = Key.of(seed, batch, device=self.device)
            shape = (len(batch), *self.config.image_shape)
            labels = sampler.labels(batch, self.trained.classes)
            labels = None if labels is None else labels.to(self.device)
            states = self.trained.sample(shape, key, sampler, labels)
            if watch is not None:
                states = watch(self.trained.start(shape, key, sampler), states)
            for state in _told(sampler, states):
                x = state.x
                advance(inside.stop - inside.start)
            parts.append(to_levels(x[inside].cpu(), self.config.grey_levels))
        return torch.cat(parts)

    def fingerprint(self) -> str:
        """Checksum of all that a picture depends on besides seed and sampler.

        It is the same for the same weights whether a checkpoint keeps them in one file or in many.
        """
        config = self.config
        process = {
            "schedule": asdict(config.schedule),
            "prediction": config.prediction,
            "variance": config.variance,
            "image_shape": config.image_shape,
            "grey_levels": config.grey_levels,
        }
        digest = hashlib.sha256(json.dumps(process, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _told(sampler: Sampler, states: Iterator[State]) -> Iterator[State]:
    """States, with one line in place of a traceback where a solver finds no step."""
    try:
        yield from states
    except ArithmeticError as error:
        raise InputError(
            f"sampler = {sampler.name!r}: {error}; allowed here is one of fixed steps"
        ) from None


def check_draw(num: int, seed: int) -> None:
    """Refuse numbers of pictures and seeds that cannot be.

    Raises:
        InputError: naming the one that is out of range.
    """
    check(num >= 1, "num", num, "an integer of at least 1")
    check(-(2**63) <= seed < 2**63, "seed", seed, "a signed 64-bit integer")


def open_run(
    path: Path, device: str | torch.device, ema: float | None = None, step: int | None = None
) -> TrainedRun:
    """Open a checkpoint of a run.

    Args:
        path: The run folder.
        device: "auto", "cpu" or "cuda", or the device itself.
        ema: Rate of the averaged weights to use; None for the main ones.
        step: Which checkpoint; None for the last one.

    Raises:
        InputError: the device, the folder, the checkpoint or the rate cannot be used.
    """
    target = resolve_device(device) if isinstance(device, str) else device
    keep_memory(target)
    folder = RunFolder(path)
    config = folder.config()
    kept = (config.optimiser.ema_decay, *config.optimiser.ema_others)
    rate = kept[0] if ema is None else ema
    check(rate in kept, "ema", rate, f"{' or '.join(map(str, kept))}, the averages of this run")
    checkpoint = folder.last_checkpoint() if step is None else folder.checkpoints / f"step-{step}"
    model = averaged_network(config, checkpoint, target, ema_part(config, rate))
    work = BATCH * values_of_a_layer(config.model, config.image_shape)
    torch.set_num_threads(choose_threads(work))
    updates = int(checkpoint.name.removeprefix("step-"))
    trained = open_trained(config, checkpoint, model)
    return TrainedRun(folder, config, trained, model, target, updates, rate)
