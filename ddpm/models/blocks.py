"""Building blocks of the networks: residual block with FiLM, attention, resampling."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", bound=nn.Module)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with the largest number of groups up to 8 that divides the channels."""
    groups = next(g for g in range(min(8, channels), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the level enters as FiLM scale and shift.  T-fn14.

    Args:
        channels_in: Channels of the input [B, channels_in, H, W].
        channels_out: Channels of the output [B, channels_out, H, W].
        embedding: Length of the level embedding [B, embedding].
        dropout: Probability of dropping an activation before the second convolution, in [0, 1).
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = group_norm(channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels_out)
        self.norm_out = group_norm(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.shortcut = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map [B, channels_in, H, W] to [B, channels_out, H, W]."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm_out(h), 1 + scale)
        h = self.conv_out(self.dropout(F.silu(h)))
        out: Tensor = self.shortcut(x) + h
        return out


class Attention(nn.Module):
    """Self-attention over the pixels of a feature map, added to it.

    Args:
        channels: Channels of input and output [B, channels, H, W].
        head_channels: Channels of one head; the number of heads is channels // head_channels.
    """

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to the same shape."""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, -1, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)
        h = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        out: Tensor = x + self.out(h.reshape(batch, channels, height, width))
        return out


class Upsample(nn.Module):
    """Doubling of height and width by repetition, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to [B, channels, 2H, 2W]."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def zeroed(module: Layer) -> Layer:
    """Mark a layer whose weights start at zero, so that its branch starts as nothing."""
    module.starts_at_zero = True  # type: ignore[assignment]
    return module


def pad_edge(x: Tensor, unit: int) -> Tensor:
    """Repeat the last row and column of images [B, C, H, W] until `unit` divides both sides."""
    height, width = x.shape[-2:]
    if height % unit == 0 and width % unit == 0:
        return x
    return F.pad(x, (0, -width % unit, 0, -height % unit), mode="replicate")


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Undo `pad_edge` on images [B, C, H, W], in memory of their own, as the losses need them."""
    if x.shape[-2:] == (height, width):
        return x
    return x[..., :height, :width].contiguous()
