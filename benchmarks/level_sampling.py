"""How much the gradient of one update varies under each way of drawing levels.

    python -m benchmarks.level_sampling --updates 1500

trains digits for each objective and then draws many batches for the same weights: images, noise and
levels all vary, as in training. The variance is the trace of the gradient's covariance.
"""

from dataclasses import replace
from typing import Annotated, get_args

import torch
import typer
from torch import Tensor

from ddpm.commands.defaults import make_config
from ddpm.commands.request import Request
from ddpm.data.load import load_images
from ddpm.training.level_samplers import LevelSampling, level_sampler
from ddpm.training.trainer import Trainer

CPU = torch.device("cpu")
LEVELS = 100
OBJECTIVES = {
    "simple, eps": Request(),
    "vlb, eps": Request(objective="vlb"),
    "vlb, eps, cosine, learned variance": Request(
        schedule="cosine", variance="learned_range", objective="vlb"
    ),
}


def trained(request: Request, updates: int) -> Trainer:
    """A trainer after some updates with uniform levels."""
    data = load_images("digits")
    asked = replace(request, steps=updates, levels=LEVELS, threads=1, dropout=0.0)
    trainer = Trainer(make_config(asked, data, "digits"), data.train, CPU)
    for _ in trainer.run():
        pass
    return trainer


def variance(trainer: Trainer, kind: LevelSampling, batches: int) -> float:
    """Variance of the gradients of batches beyond those of training."""
    trainer.level_sampler = level_sampler(kind, LEVELS)
    trainer.weighted = kind == "loss_aware"
    first = trainer.step
    number = first
    while trainer.weighted and not filled(trainer):
        number += 1
        gradient(trainer, number)
    total: Tensor | None = None
    squares = 0.0
    for index in range(batches):
        g = gradient(trainer, number + 1 + index)
        squares += float(g.square().sum())
        total = g.clone() if total is None else total + g
    assert total is not None
    square = float((total / batches).square().sum())
    return (squares / batches - square) * batches / (batches - 1)


def filled(trainer: Trainer) -> bool:
    """Whether the history of losses is full, from when on levels follow it."""
    tensors = trainer.level_sampler.tensors()
    return bool((tensors["seen"] >= tensors["squares"].shape[1]).all())


def gradient(trainer: Trainer, number: int) -> Tensor:
    """Gradient of one batch as float64 [P]; the weights stay as they are."""
    trainer.optimiser.zero_grad(set_to_none=True)
    losses, levels, weights = trainer._part(number, 0)
    if trainer.weighted:
        trainer.level_sampler.observe(levels, losses / weights)
    grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    return torch.cat([g.flatten() for g in grads]).double()


def main(
    updates: Annotated[int, typer.Option(help="Updates of each training.")] = 1500,
    batches: Annotated[int, typer.Option(help="Batches of each measurement.")] = 200,
) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    kinds = get_args(LevelSampling)
    print(f"| objective | {' | '.join(kinds)} |")
    print("| --- |" + " ---: |" * len(kinds))
    for name, request in OBJECTIVES.items():
        trainer = trained(request, updates)
        found = {kind: variance(trainer, kind, batches) for kind in kinds}
        cells = [f"{value / found['uniform']:.2f}" for value in found.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
