"""A profile of the training step of `make train`: how much of it is not the network.

The clock runs inside real updates, from the network's input to its output and from the gradient of
its output to the end of the backward pass; everything else is ours: data, levels, noise, loss,
clipping, AdamW, averaging. Run with -s to see the table.
"""

import statistics
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ddpm.commands.defaults import make_config
from ddpm.commands.request import Request
from ddpm.data.load import load_images
from ddpm.training.trainer import Trainer

UPDATES = 60


class Clocked(nn.Module):
    """A network that notes when its forward pass ran and when its backward pass began."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.forward_seconds = 0.0
        self.backward_began = 0.0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        began = now()
        output: Tensor = self.inner(x, t)
        self.forward_seconds = now() - began
        output.register_hook(self._note)  # type: ignore[no-untyped-call]
        return output

    def _note(self, _: Tensor) -> None:
        self.backward_began = now()


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def trainer() -> Trainer:
    data = load_images("digits")
    config = make_config(Request(steps=10_000), data, "digits")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(config.threads)
    return Trainer(config, data.train, device)


def profile(subject: Trainer, monkeypatch: Any) -> dict[str, float]:
    """Median milliseconds of an update and of the network inside it."""
    clocked = Clocked(subject.model)
    losses = subject.process.losses
    monkeypatch.setattr(subject.process, "losses", lambda _, batch: losses(clocked, batch))
    ended: list[float] = []
    backward = Tensor.backward

    def note_end(loss: Tensor) -> None:
        backward(loss)  # type: ignore[no-untyped-call]
        ended.append(now())

    monkeypatch.setattr(Tensor, "backward", note_end)
    whole, network = [], []
    for _ in range(UPDATES):
        began = now()
        subject.update()
        whole.append(now() - began)
        network.append(clocked.forward_seconds + ended[-1] - clocked.backward_began)
    skipped = UPDATES // 6
    return {
        "update": 1e3 * statistics.median(whole[skipped:]),
        "network": 1e3 * statistics.median(network[skipped:]),
    }


def test_share_outside_the_network(benchmark: Any, monkeypatch: Any) -> None:
    benchmark.group = "training step"
    subject = trainer()
    result = profile(subject, monkeypatch)
    monkeypatch.undo()
    share = 1 - result["network"] / result["update"]
    benchmark.extra_info.update(result, outside_network=share)
    table = Table("part of an update", "ms", title=f"digits, {subject.device}")
    table.add_row("network, forward and backward", f"{result['network']:.2f}")
    table.add_row("everything else", f"{result['update'] - result['network']:.2f}")
    table.add_row("share of everything else", f"{100 * share:.1f} %")
    Console().print(table)
    benchmark.pedantic(subject.update, rounds=20, warmup_rounds=2)
