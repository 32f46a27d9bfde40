"""The training loop: a generator of records over a state that can be saved at any step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ddpm.config import RunConfig
from ddpm.data.batches import Batches, InMemory
from ddpm.distributed import ALONE, AgreedError, Ranks
from ddpm.errors import InputError, check
from ddpm.models.initialise import build
from ddpm.processes.base import Batch, Process
from ddpm.processes.choose import process_of
from ddpm.runs import checkpoint, saving
from ddpm.training.averaged import PROCESS, ema_part, has_dropout
from ddpm.training.compute import Compute
from ddpm.training.draws import Draws
from ddpm.training.dropout import share_dropout
from ddpm.training.ema import Ema
from ddpm.training.level_samplers import LevelSampler, level_sampler
from ddpm.training.moments import empty_moments, load_moments, moments
from ddpm.training.parallel import clip_gradient, local, placed_like, replicate, shard
from ddpm.training.rates import learning_rate

PARALLEL = ("ddp", "fsdp")


@dataclass(frozen=True, eq=False)
class Record:
    """What one update did; tensors stay on the device until somebody reads them.

    Attributes:
        step: Number of the update, from 1.
        loss: Mean loss of the global batch, float32 0-d, the same on every rank.
        gradient_norm: Norm of the gradient before clipping, float32 0-d, the same on every rank.
        learning_rate: Learning rate of the update.
        losses: Loss of each image that this rank saw, before any weight that levels have for being
            drawn more often or less often than others, float32 [rows].
        levels: Their levels, int64 [rows], in 1..T.
    """

    step: int
    loss: Tensor
    gradient_norm: Tensor
    learning_rate: float
    losses: Tensor
    levels: Tensor


class Trainer:
    """Network, averaged networks and optimiser of a run, and how an update changes them.

    The result of an update is a function of the configuration, the images and the state before it;
    nothing is read from a generator, so a trainer restored from a checkpoint goes on bit by bit.

    On W ranks with A parts each, part m of rank r is the rows from (r A + m) k to (r A + m + 1) k
    of the global batch, k = batch_size / (W A), with the levels, noise and dropout that these rows
    have on one rank: what comes out differs by the order of float sums alone.

    Args:
        config: The run.
        batches: The training images, or all of them as uint8 [N, C, H, W]; for a network with
            classes they come with labels.
        device: Where to train.
        ranks: This process among those that train together; each has a trainer.
        parallel: How ranks share the network: "ddp" for all of it on each, "fsdp" for a part each.
        model: Network of (x, t) to train in place of the U-Net of the configuration, the same
            weights on every rank; all its parameters take part in the loss.

    Raises:
        InputError: the batch cannot be shared out evenly, or this machine cannot compute as asked.
    """

    def __init__(
        self,
        config: RunConfig,
        batches: Batches | Tensor,
        device: torch.device,
        ranks: Ranks = ALONE,
        parallel: str = "ddp",
        model: nn.Module | None = None,
    ) -> None:
        check_divisible(config, ranks)
        check(parallel in PARALLEL, "parallel", parallel, ", ".join(PARALLEL))
        self.config, self.device, self.ranks = config, device, ranks
        self.parts = config.compute.accumulation
        self.sharded = parallel == "fsdp" and ranks.world > 1
        learned = config.schedule.kind == "learned"
        check(not (self.sharded and learned), "parallel", parallel, "ddp with a learned schedule")
        if isinstance(batches, Tensor):
            batches = InMemory(batches, config.batch_size, config.seed, device)
        self.batches: Batches = batches
        self.process: Process = process_of(config)
        self.process.fit(self._first_images)
        self.level_sampler = level_sampler(config.level_sampling, self.process.levels, device)
        self.weighted = config.level_sampling == "loss_aware"
        self.labelled = config.classes > 0
        known = not self.labelled or self.batches.labels(0, slice(0, 0)) is not None
        check(known, "model.classes", config.classes, "0 for images without labels")
        self.compute = Compute(config.compute, device)
        self.draws = Draws(
            config, device, dropout=model is not None or has_dropout(config), own=self._rows()
        )
        self._build(model)
        rates = (config.optimiser.ema_decay, *config.optimiser.ema_others)
        self.averages = {ema_part(config, rate): Ema(self.model, rate) for rate in rates}
        self.ema = self.averages["ema"]
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.optimiser.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )
        self.step = 0
        self.seconds = 0.0

    def run(self) -> Iterator[Record]:
        """Yield a record after every update until the configured number is reached."""
        self.model.train()
        while self.step < self.config.steps:
            started = perf_counter()
            record = self.update()
            self.seconds += perf_counter() - started
            yield record

    def update(self) -> Record:
        """One optimiser update.  V-alg1, G-Alg1."""
        config, number = self.config, self.step
        rate = learning_rate(number + 1, config.steps, config.optimiser)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        parts = [self._part(number, index) for index in range(self.parts)]
        self.compute.unscale(self.optimiser)
        norm = clip_gradient(self.model.parameters(), config.optimiser.gradient_clip, self.ranks)
        self.compute.step(self.optimiser)
        for average in self.averages.values():
            average.update(self.model)
        self.step += 1
        losses, levels, weights = (torch.cat(column) for column in zip(*parts, strict=True))
        loss = self.ranks.mean(losses.mean())
        if self.weighted:
            losses = losses / weights
            self.level_sampler.observe(self.ranks.gathered(levels), self.ranks.gathered(losses))
        return Record(self.step, loss, norm.detach(), rate, losses, levels)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of the current state under a folder and return its path.

        Every rank calls it.

        Raises:
            InputError: it cannot be written.
        """
        tensors = self._tensors(moments(self.optimiser))
        state = checkpoint.Checkpoint(self.step, self.seconds, tensors)
        return saving.save(folder, state, self.ranks, sharded=self.sharded)

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint, of any number of ranks and either way of sharing.

        Raises:
            InputError: the checkpoint is damaged or belongs to another network.
        """
        own = self._tensors(empty_moments(self.optimiser))
        state = saving.load(folder, own, sharded=self.sharded)
        for part in ("model", "optimiser"):
            source = checkpoint.part_path(folder, part)
            checkpoint.check_fit(own[part], state.tensors[part], source)
        weights = state.tensors["model"]
        self.model.load_state_dict({n: placed_like(weights[n], x) for n, x in own["model"].items()})
        for part, average in self.averages.items():
            average.load(state.tensors[part], checkpoint.part_path(folder, part))
            average.updates = state.step
        load_moments(self.optimiser, state.tensors["optimiser"])
        loaders: dict[str, Callable[[Mapping[str, Tensor], Path], None]] = {
            "compute": self.compute.load,
            "levels": partial(_load, self.level_sampler),
            PROCESS: partial(_load, self.process),
        }
        for part, load in loaders.items():
            if part in own:
                load(state.tensors[part], checkpoint.part_path(folder, part))
        self.step, self.seconds = state.step, state.seconds

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The network with its averaged weights inside the block, and with its own after it.

        Every rank enters it; where the network is sharded every rank also calls it alike.
        """
        own = {name: local(x).clone() for name, x in self.model.state_dict().items()}
        self.ema.copy_to(self.model)
        try:
            yield self.model
        finally:
            with torch.no_grad():
                for name, x in self.model.state_dict().items():
                    local(x).copy_(own[name])

    def _build(self, model: nn.Module | None) -> None:
        """Make the network, and what the loss calls in its place."""
        config, parts = self.config, self.parts * self.ranks.world
        # FSDP moves to the device what it leaves of each weight.
        home = torch.device("cpu") if self.sharded else self.device
        if model is None:
            model = build(lambda: self.process.trainable(config.network()), config.seed, home)
        else:
            model = self.process.trainable(model).to(home)
        self._part_number = share_dropout(model, parts, self.device) if parts > 1 else None
        self.model = self.compute.prepare(model, sharded=self.sharded)
        self._replicated: DistributedDataParallel | None = None
        if self.sharded:
            shard(self.model, self.ranks, self.compute.fsdp_policy())
        elif self.ranks.world > 1:
            self._replicated = replicate(self.model, self.ranks)
        self.network = self.compute.compiled(self._replicated or self.model)

    def _part(self, number: int, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Add the gradient of one part of an update; its losses, levels and weights."""
        rows = self._rows(index, index + 1)
        if self._part_number is not None:
            self._part_number.fill_(self.ranks.rank * self.parts + index)
        batch, weight = self._batch(number, rows)
        with self._summed(index):
            with self.draws.dropout(number):
                losses = self.process.losses(self.network, batch)
            self.compute.backward(losses.mean() / self.parts if self.parts > 1 else losses.mean())
        return losses.detach(), batch.t, weight

    def _batch(self, number: int, rows: slice) -> tuple[Batch, Tensor]:
        """Some rows of an update, and the weights of their levels."""
        config = self.config
        drawn = self.level_sampler.draw(config.seed, number, rows, config.batch_size)
        labels = self.batches.labels(number, rows) if self.labelled else None
        if labels is not None:
            labels = self.draws.labels(number, rows, labels)
        batch = Batch(
            images=self.batches.at(number, rows),
            t=drawn.t,
            weight=drawn.weight if self.weighted else None,
            noise=self.draws.noise(number, rows),
            key=self.draws.key(number, rows),
            labels=labels,
        )
        return batch, drawn.weight

    def _rows(self, first: int = 0, last: int | None = None) -> slice:
        """Rows of the global batch in parts first..last-1 of this rank, in all of them at first."""
        before = self.ranks.rank * self.parts
        size = self.config.batch_size // (self.parts * self.ranks.world)
        end = before + (self.parts if last is None else last)
        return slice((before + first) * size, end * size)

    def _summed(self, index: int) -> AbstractContextManager[None]:
        """Gradients of all but the last part stay on their rank; FSDP has no room for that."""
        if self._replicated is None or index + 1 == self.parts:
            return nullcontext()
        waiting: AbstractContextManager[None] = self._replicated.no_sync()
        return waiting

    def _tensors(self, optimiser: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Every part of a checkpoint, the tensors themselves; of a sharded network their shards."""
        averages = {part: average.tensors() for part, average in self.averages.items()}
        parts = {"model": self.model.state_dict(), **averages, "optimiser": optimiser}
        others = {
            "compute": self.compute.tensors(),
            "levels": self.level_sampler.tensors(),
            PROCESS: self.process.tensors(),
        }
        return {**parts, **{part: tensors for part, tensors in others.items() if tensors}}

    def _first_images(self, most: int) -> Tensor:
        """At most so many training images in the order of training, uint8 [N, C, H, W]."""
        size = self.config.batch_size
        updates = -(-min(most, self.batches.count) // size)
        parts = [self.batches.at(update, slice(0, size)) for update in range(updates)]
        return torch.cat(parts)[: min(most, self.batches.count)]


def _load(holder: Process | LevelSampler, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Hand over tensors of a checkpoint, whose file is named where they do not fit."""
    try:
        holder.load(tensors)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def check_divisible(config: RunConfig, ranks: Ranks) -> None:
    """Refuse a batch that its parts cannot share evenly.

    Raises:
        AgreedError: naming the batch, and what it has to be a multiple of.
    """
    accumulation = config.compute.accumulation
    parts = ranks.world * accumulation
    if config.batch_size % parts:
        raise AgreedError(
            f"batch_size = {config.batch_size}: allowed is a multiple of {parts}, for "
            f"{ranks.world} ranks with {accumulation} part(s) each"
        )
