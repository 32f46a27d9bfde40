"""Pictures on the way: what the network draws while it is being trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddpm.data.images import to_levels
from ddpm.keys import Key
from ddpm.processes.base import Trained
from ddpm.samplers.sampler import Sampler


def progress_grid(
    trained: Trained,
    model: nn.Module,
    shape: Sequence[int],
    num: int,
    seed: int,
    steps: int,
    *,
    grey_levels: int,
) -> Tensor:
    """Draw a few pictures by the usual sampler and leave no trace of it.

    The noise is a function of the seed, so that no generator moves and every grid of a run starts
    from the same noise; dropout and the like are off for as long as it takes. Where the weights are
    sharded over ranks, every rank must call this.

    Args:
        trained: The model.
        model: Its network, best with its averaged weights.
        shape: (C, H, W) of a picture.
        num: How many pictures; where there are classes, of each in turn.
        seed: Key of the random numbers.
        steps: Calls of the network; no more than there are levels are made.
        grey_levels: Number of grey levels, 2..256.

    Returns:
        uint8 [num, C, H, W] in 0..grey_levels-1, on the CPU. What a network that has diverged
        leaves undefined is shown in the middle of the range.
    """
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    key = Key.of(seed, range(num), device=device)
    sampler = Sampler(name=trained.usual.name, steps=min(steps, trained.levels))
    labels = torch.arange(num, device=device) % trained.classes if trained.classes else None
    with _evaluation(model):
        for state in trained.sample((num, *shape), key, sampler, labels):
            x = state.x
    return to_levels(torch.nan_to_num(x, nan=0.0).cpu(), grey_levels)


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and each of its parts back into the mode it was in."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
