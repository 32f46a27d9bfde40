"""A training step of two processes with DistributedDataParallel around a tiny network.

Noise is named by the index of a sample, so that two halves of a batch draw what the whole does.
"""

# The tests of an op call torch functions that have no types.
# mypy: disable-error-code="no-untyped-call"

from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.schedule import Schedule

BATCH = 4


def gradient(first: int, last: int, parallel: bool = False) -> list[Tensor]:
    """Gradient of the mean loss of samples first..last - 1, by parameter."""
    torch.set_num_threads(1)
    network: nn.Module = nn.Conv2d(1, 1, 3, padding=1)
    for number, parameter in enumerate(network.parameters()):
        nn.init.constant_(parameter, 0.1 * (number + 1))
    if parallel:
        network = DistributedDataParallel(network)
    x0 = torch.linspace(-1, 1, BATCH * 25).view(BATCH, 1, 5, 5)[first:last]
    t = torch.arange(1, BATCH + 1)[first:last]
    diffusion = GaussianDiffusion(Schedule.log_snr_linear(10), "v")
    key = Key.of(1, range(first, last), step=3)
    diffusion.training_losses(lambda x, _: network(x), x0, t, key=key).mean().backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def run(store: Path) -> list[Tensor]:
    """The gradient as this process sees it, which has half of the samples; another has the rest."""
    other = get_context("spawn").Process(target=_half, args=(store, 1))
    other.start()
    try:
        return _half(store, 0)
    finally:
        other.join()


def _half(store: Path, rank: int) -> list[Tensor]:
    # If the other process fails, this one must not wait for ever.
    torch.distributed.init_process_group(
        "gloo", f"file://{store}", timedelta(seconds=90), rank=rank, world_size=2
    )
    try:
        half = BATCH // 2
        return gradient(rank * half, (rank + 1) * half, parallel=True)
    finally:
        torch.distributed.destroy_process_group()
