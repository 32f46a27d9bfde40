"""Small networks of every kind, and how to wake what starts at zero."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from ddpm.models.initialise import build
from ddpm.models.mlp import MLPConfig
from ddpm.models.network import build_network
from ddpm.models.transformer import TransformerConfig
from ddpm.models.unet import UNetConfig
from ddpm.models.untied import UntiedConfig

CLASSES = 3
T = torch.tensor([1, 500])
Config = UNetConfig | MLPConfig | TransformerConfig | UntiedConfig
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Case:
    """A kind of network, the shape of its inputs, and how to configure it."""

    shape: tuple[int, ...]
    config: Callable[..., Config]

    def model(self, seed: int = 1, **fields: object) -> nn.Module:
        """A network in evaluation mode in which nothing is idle."""
        return awake(lambda: build_network(self.config(**fields), self.shape), seed)

    def inputs(self, batch: int = 2, seed: int = 0) -> Tensor:
        return images(batch, *self.shape, seed=seed)


def unet(**fields: object) -> UNetConfig:
    sizes = {"image_channels": 2, "channels": 8, "multipliers": (1, 2), "blocks": 1}
    return UNetConfig(**sizes, attention=(1,), **fields)  # type: ignore[arg-type]


def mlp(**fields: object) -> MLPConfig:
    return MLPConfig(width=12, depth=2, **fields)  # type: ignore[arg-type]


def transformer(**fields: object) -> TransformerConfig:
    return TransformerConfig(width=16, depth=2, heads=2, **fields)  # type: ignore[arg-type]


def untied(**fields: object) -> UntiedConfig:
    return UntiedConfig(levels=1000, hidden=(7, 5), **fields)  # type: ignore[arg-type]


CASES = {
    "unet": Case((2, 6, 5), unet),
    "mlp": Case((2, 6, 5), mlp),
    "mlp of vectors": Case((7,), mlp),
    "transformer": Case((2, 6, 5), transformer),
    "untied": Case((2, 6, 5), untied),
    "unet with waves": Case((2, 6, 5), partial(unet, fourier=(1, 3))),
}


def awake(make: Callable[[], Network], seed: int = 1) -> Network:
    """A network whose zeroed branches hold numbers, so that nothing in it is idle."""
    model = build(make, seed, "cpu").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
