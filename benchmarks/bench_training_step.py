"""A whole training step beside the network alone: what is left is what we add.

The share of a step spent outside the network is 1 minus the ratio of the two medians.
"""

from typing import Any

import torch
from torch import Tensor

from ddpm.commands.train import Request, make_config
from ddpm.data.load import load_images
from ddpm.trainer import Trainer


def trainer() -> Trainer:
    data = load_images("digits")
    config = make_config(Request(steps=10_000), data, "digits")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(config.threads)
    return Trainer(config, data.train, device)


def test_whole_step(benchmark: Any) -> None:
    benchmark.group = "training step"
    benchmark.pedantic(lambda: trainer_.update().loss.item(), rounds=40, warmup_rounds=3)


def test_network_alone(benchmark: Any) -> None:
    benchmark.group = "training step"
    config = trainer_.config
    x = torch.zeros(config.batch_size, *config.image_shape, device=trainer_.device)
    t = torch.ones(config.batch_size, dtype=torch.int64, device=trainer_.device)

    def forward_and_backward() -> float:
        trainer_.optimiser.zero_grad(set_to_none=True)
        output: Tensor = trainer_.model(x, t)
        output.backward(x)  # type: ignore[no-untyped-call]
        return float(output[0, 0, 0, 0])

    benchmark.pedantic(forward_and_backward, rounds=40, warmup_rounds=3)


trainer_ = trainer()
