"""The U-Net of the diffusion papers: residual blocks with FiLM, skips, optional attention."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.models.blocks import Attention, ResidualBlock, Upsample, group_norm, zeroed
from ddpm.models.embedding import sinusoidal_embedding


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net; checked at construction.

    Raises:
        ValueError: a size is not positive, or dropout lies outside [0, 1).
    """

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
    dropout: float = 0.0
    """Probability of dropping an activation inside the residual blocks."""

    def __post_init__(self) -> None:
        for name in ("image_channels", "channels", "blocks"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} = {value}: allowed is an integer of at least 1")
        if self.channels % 2:
            raise ValueError(f"channels = {self.channels}: allowed is an even integer")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(
                f"multipliers = {self.multipliers}: allowed is at least one positive integer"
            )
        if any(not 0 <= i < len(self.multipliers) for i in self.attention):
            raise ValueError(
                f"attention = {self.attention}: allowed are indices into the "
                f"{len(self.multipliers)} multipliers"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout = {self.dropout}: allowed is a probability in [0, 1)")


class UNet(nn.Module):
    """Network of (x, t) with an output shaped like x.

    Args:
        config: Sizes of the network.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        embedding = 4 * width
        self.embed = nn.Sequential(
            nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = nn.Conv2d(config.image_channels, width, 3, padding=1)
        self.down, skips, current = _down_path(config, embedding)
        self.middle = Stage(current, current, embedding, config.dropout, bool(config.attention))
        self.up = _up_path(config, embedding, skips, current)
        finest = width * config.multipliers[0]
        self.norm = group_norm(finest)
        self.head = zeroed(nn.Conv2d(finest, config.image_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict from noisy images x [B, C, H, W] and their levels t [B].

        Sides that the halvings do not divide are padded with their edge and cropped again.
        """
        height, width = x.shape[-2:]
        unit = 1 << (len(self.config.multipliers) - 1)
        if height % unit or width % unit:
            padded = F.pad(x, (0, -width % unit, 0, -height % unit), mode="replicate")
            cropped: Tensor = self(padded, t)[..., :height, :width]
            return cropped
        embedding = self.embed(sinusoidal_embedding(t, self.config.channels))
        h = self.stem(x)
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
        return out


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
