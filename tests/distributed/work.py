"""What the ranks of the tests do; a module of its own, so that other processes can import it."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from ddpm.config import ComputeConfig, OptimiserConfig, RunConfig, ScheduleConfig
from ddpm.data.batches import InMemory
from ddpm.distributed import Ranks
from ddpm.errors import InputError
from ddpm.models.unet import UNetConfig
from ddpm.runs.sharded import write
from ddpm.training.trainer import Trainer
from tests.ddpm.small import IMAGES, small_config

STEPS = 200
CLASSES = 3
BATCH = 8


Array = np.ndarray


@dataclass
class Trace:
    """What a trainer did, as seen from outside; arrays, since tensors stay with their process.

    Attributes:
        losses: Loss of each update.
        norms: Norm of the gradient of each update.
        seen: For the first updates, each input (x_t, t) of the network on this rank.
        weights: The whole weights and averages at the end, by name; of the first rank alone.
        own: Number of weights that this rank holds.
    """

    losses: list[float]
    norms: list[float]
    seen: list[tuple[Array, Array]]
    weights: dict[str, Array]
    own: int


@dataclass(frozen=True)
class Plan:
    """One training of some updates: how ranks share the network, where it begins, what it saves."""

    parallel: str = "ddp"
    accumulation: int = 1
    begin: Path | None = None
    updates: int = STEPS
    save: tuple[int, Path] | None = None
    told: bool = False


def config(accumulation: int = 1, *, told: bool = False) -> RunConfig:
    """A run whose updates are well conditioned.

    With one channel to a group of the normalisation the gradient of a bias is nothing but rounding,
    which the optimiser makes as large as any other.

    Args:
        accumulation: Parts of a batch.
        told: Whether the network knows classes and levels are drawn by their losses, few enough
            of them that these are soon known.
    """
    if told:
        plain = config(accumulation)
        return replace(
            plain,
            schedule=ScheduleConfig(levels=4),
            model=replace(plain.model, classes=CLASSES),  # type: ignore[arg-type]
            level_sampling="loss_aware",
            label_dropout=0.3,
        )
    return replace(
        small_config(steps=STEPS),
        batch_size=BATCH,
        model=UNetConfig(channels=16, multipliers=(1,), blocks=1, dropout=0.1),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup=2, ema_others=(0.5,)),
        compute=ComputeConfig(accumulation=accumulation),
    )


def train_all(ranks: Ranks, plans: list[Plan]) -> list[Trace]:
    return [train(ranks, plan) for plan in plans]


def train(ranks: Ranks, plan: Plan) -> Trace:
    run = config(plan.accumulation, told=plan.told)
    images = InMemory(IMAGES, BATCH, run.seed, ranks.device, torch.arange(len(IMAGES)) % CLASSES)
    trainer = Trainer(run, images, ranks.device, ranks, plan.parallel)
    if plan.begin is not None:
        trainer.restore(plan.begin)
    seen = _watch(trainer.model, plan.updates if plan.told else 12)
    losses, norms = [], []
    for record in trainer.run():
        losses.append(float(record.loss))
        norms.append(float(record.gradient_norm))
        if plan.save and record.step == plan.save[0]:
            trainer.save(plan.save[1])
        if len(losses) == plan.updates:
            break
    own = sum(_local(p).numel() for p in trainer.model.parameters())
    weights = {f"model.{n}": _whole(x) for n, x in trainer.model.state_dict().items()}
    for part, average in trainer.averages.items():
        weights |= {f"{part}.{n}": _whole(x) for n, x in average.tensors().items()}
    return Trace(losses, norms, seen, weights if ranks.main else {}, own)


def _watch(model: nn.Module, most: int) -> list[tuple[Array, Array]]:
    seen: list[tuple[Array, Array]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(seen) < most:
            seen.append((inputs[0].numpy().copy(), inputs[1].numpy().copy()))

    model.register_forward_pre_hook(note)
    return seen


def _local(x: Tensor) -> Tensor:
    local = getattr(x, "to_local", None)
    part: Tensor = x if local is None else local()
    return part


def _whole(x: Tensor) -> Array:
    gather = getattr(x, "full_tensor", None)
    whole: Tensor = x if gather is None else gather()
    return whole.detach().numpy().copy()


def talk(ranks: Ranks) -> dict[str, object]:
    """Every collective once, with values that differ from rank to rank."""
    x = torch.tensor([1.0, float(ranks.rank)])
    alone_wants = ranks.any(ranks.rank == ranks.world - 1)
    said = ranks.agree({"from": ranks.rank, "text": "é" * (1 + ranks.rank)})
    done: list[int] = []
    first = ranks.first(lambda: done.append(1) or "done")  # type: ignore[func-returns-value]
    ranks.barrier()
    return {
        "mean": ranks.mean(x).tolist(), "total": ranks.total(x).tolist(), "x": x.tolist(),
        "any": alone_wants, "none": ranks.any(False), "said": said, "first": first,
        "worked": len(done), "main": ranks.main,
    }  # fmt: skip


def refuse_on_the_first(ranks: Ranks) -> None:
    def refuse() -> None:
        raise InputError("this cannot be")

    ranks.first(refuse)


def refuse_alone(ranks: Ranks, who: int) -> None:
    if ranks.rank == who:
        raise InputError("a file is broken here")
    ranks.barrier()


def die_alone(ranks: Ranks, who: int) -> None:
    if ranks.rank == who:
        os.kill(os.getpid(), signal.SIGKILL)
    Trainer(config(), IMAGES, ranks.device, ranks).update()


def sleep_alone(ranks: Ranks, who: int) -> None:
    if ranks.rank == who:
        time.sleep(5)
    ranks.barrier()


def write_shards(ranks: Ranks, folder: Path) -> None:
    """Tensors of many shapes, sharded over the ranks."""
    mesh = init_device_mesh("cpu", (ranks.world,))
    tensors = {
        name: distribute_tensor(x, mesh, [Shard(0)]) if x.dim() else x for name, x in SHAPES.items()
    }
    write(folder, tensors, ranks)


SHAPES = {
    "long": torch.arange(35.0).reshape(7, 5), "short": torch.arange(3.0).reshape(1, 3),
    "number": torch.tensor(4.0), "whole": torch.arange(6).reshape(6, 1),
    "half": torch.arange(12, dtype=torch.bfloat16).reshape(3, 2, 2),
}  # fmt: skip
