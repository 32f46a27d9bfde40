"""A run small enough to train inside a test."""

import torch

from ddpm.config import OptimiserConfig, RunConfig, ScheduleConfig
from ddpm.kernels.philox import words
from ddpm.models.unet import UNetConfig
from ddpm.training.trainer import Trainer

IMAGES = (
    words(torch.tensor(3), torch.tensor(0), torch.arange(10), 255, 16).reshape(10, 1, 4, 4) % 17
).to(torch.uint8)
"""Ten 4 x 4 images of 17 grey levels."""


def small_config(*, steps: int = 6, seed: int = 0, dropout: float = 0.1) -> RunConfig:
    return RunConfig(
        data="none",
        data_digest="0",
        image_shape=(1, 4, 4),
        grey_levels=17,
        steps=steps,
        seed=seed,
        batch_size=7,
        schedule=ScheduleConfig(levels=20),
        model=UNetConfig(channels=4, multipliers=(1, 2), blocks=1, dropout=dropout),
        optimiser=OptimiserConfig(warmup=2),
    )


def small_trainer(config: RunConfig | None = None) -> Trainer:
    return Trainer(config or small_config(), IMAGES, torch.device("cpu"))
