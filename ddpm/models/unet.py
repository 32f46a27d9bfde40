"""The U-Net of the diffusion papers: residual blocks with FiLM, skips, optional attention."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.errors import check
from ddpm.models.blocks import (
    Attention,
    ResidualBlock,
    Upsample,
    crop,
    group_norm,
    pad_edge,
    zeroed,
)
from ddpm.models.checks import check_input, check_shared
from ddpm.models.conditions import conditional_labels, embed, level_layers
from ddpm.models.embedding import fourier_features, sinusoidal_embedding


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net; checked at construction.

    Raises:
        InputError: a size is not positive, or another field lies outside its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["unet"] = "unet"
    """Which network this configures."""
    image_channels: int = 1
    """Channels of the images."""
    channels: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2)
    """Channels at each resolution, as multiples of `channels`; each resolution halves the last."""
    blocks: int = 2
    """Residual blocks at each resolution, on the way down."""
    attention: tuple[int, ...] = ()
    """Indices into `multipliers` of the resolutions that get attention."""
    fourier: tuple[int, ...] = ()
    """Powers n for which the network also sees sin and cos of 2^n pi x, see `fourier_features`."""
    dropout: float = 0.0
    """Probability of dropping an activation inside the residual blocks."""
    classes: int = 0
    """Number of classes that the images may be labelled with; 0 for a network without labels."""
    learned_variance: bool = False
    """Whether the output has twice the channels: the prediction, then the raw variance."""

    def __post_init__(self) -> None:
        check_shared(self, "image_channels", "channels", "blocks")
        check(self.channels % 2 == 0, "channels", self.channels, "an even integer")
        check(
            len(self.multipliers) > 0 and min(self.multipliers) >= 1,
            "multipliers", self.multipliers, "at least one positive integer",
        )  # fmt: skip
        check(
            len(self.multipliers) <= 16 and max(self.multipliers) <= 64,
            "multipliers", self.multipliers, "at most 16 integers of at most 64",
        )  # fmt: skip
        check(self.blocks <= 64, "blocks", self.blocks, "at most 64")
        check(
            len(self.fourier) <= 16 and all(0 <= n <= 16 for n in self.fourier),
            "fourier", self.fourier, "at most 16 integers from 0 to 16",
        )  # fmt: skip
        count = len(self.multipliers)
        check(
            all(0 <= i < count for i in self.attention),
            "attention", self.attention, f"any choice of indices into the {count} multipliers",
        )  # fmt: skip


class UNet(nn.Module):
    """Network of (x, t, labels) with an output shaped like x, but for its channels where asked.

    Args:
        config: Sizes of the network.
        outputs: Channels of the output; None for those of the images, twice where the variance is
            learned.

    Raises:
        InputError: outputs is not positive.
    """

    def __init__(self, config: UNetConfig, outputs: int | None = None) -> None:
        super().__init__()
        check(outputs is None or outputs >= 1, "outputs", outputs, "an integer of at least 1")
        self.config = config
        width = config.channels
        embedding = 4 * width
        self.embed = level_layers(width, embedding)
        seen = config.image_channels * (1 + 2 * len(config.fourier))
        self.stem = nn.Conv2d(seen, width, 3, padding=1)
        self.down, skips, current = _down_path(config, embedding)
        self.middle = Stage(current, current, embedding, config.dropout, bool(config.attention))
        self.up = _up_path(config, embedding, skips, current)
        finest = width * config.multipliers[0]
        outputs = outputs or config.image_channels * (2 if config.learned_variance else 1)
        self.norm = group_norm(finest)
        self.head = zeroed(nn.Conv2d(finest, outputs, 3, padding=1))
        # Last, so that the other weights begin like those of the network without classes.
        self.labels = conditional_labels(config.classes, embedding)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict from noisy images, of any size.

        Sides that the halvings do not divide are padded with their edge and cropped again.

        Args:
            x: Noisy images [B, C, H, W].
            t: Their levels [B].
            labels: int64 [B] in 0..K, K for none; None is K for all.

        Returns:
            [B, C, H, W], or [B, 2 C, H, W] with a learned variance, or [B, outputs, H, W].

        Raises:
            ValueError: x does not fit, or there are labels that the network does not know.
        """
        check_input(x, (self.config.image_channels, None, None))
        height, width = x.shape[-2:]
        code = sinusoidal_embedding(t, self.config.channels).to(x.dtype)
        embedding = embed(self.embed, self.labels, code, labels)
        seen = fourier_features(x, self.config.fourier)
        h = self.stem(pad_edge(seen, 1 << (len(self.config.multipliers) - 1)))
        skips = [h]
        for module in self.down:
            h = module(h, embedding) if isinstance(module, Stage) else module(h)
            skips.append(h)
        h = self.middle(h, embedding)
        for module in self.up:
            if isinstance(module, Stage):
                h = module(torch.cat([h, skips.pop()], dim=1), embedding)
            else:
                h = module(h)
        out: Tensor = self.head(F.silu(self.norm(h)))
        return crop(out, height, width)


class Stage(nn.Module):
    """One residual block, followed by attention where it is asked for."""

    def __init__(
        self, channels_in: int, channels_out: int, embedding: int, dropout: float, attention: bool
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(channels_in, channels_out, embedding, dropout)
        self.attention = Attention(channels_out) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map [B, channels_in, H, W] to [B, channels_out, H, W]."""
        out: Tensor = self.attention(self.block(x, embedding))
        return out


def _down_path(config: UNetConfig, embedding: int) -> tuple[nn.ModuleList, list[int], int]:
    """Blocks and halvings of the way down, the channels of every skip, and the last channels."""
    modules, current = nn.ModuleList(), config.channels
    skips = [current]
    for i, multiplier in enumerate(config.multipliers):
        for _ in range(config.blocks):
            out = config.channels * multiplier
            modules.append(Stage(current, out, embedding, config.dropout, i in config.attention))
            current = out
            skips.append(current)
        if i + 1 < len(config.multipliers):
            modules.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
            skips.append(current)
    return modules, skips, current


def _up_path(config: UNetConfig, embedding: int, skips: list[int], current: int) -> nn.ModuleList:
    """Blocks and doublings of the way up; every block takes one skip of the way down."""
    modules, skips = nn.ModuleList(), list(skips)
    for i, multiplier in reversed(list(enumerate(config.multipliers))):
        for _ in range(config.blocks + 1):
            out = config.channels * multiplier
            width = current + skips.pop()
            modules.append(Stage(width, out, embedding, config.dropout, i in config.attention))
            current = out
        if i > 0:
            modules.append(Upsample(current))
    return modules
