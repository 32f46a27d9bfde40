"""A transformer over the patches of an image, whose blocks are switched on by level and label."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.errors import check
from ddpm.models.blocks import crop, pad_edge, zeroed
from ddpm.models.checks import check_input, check_shared
from ddpm.models.conditions import conditional_labels, embed, level_layers
from ddpm.models.embedding import sinusoidal_embedding


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of a transformer; checked at construction.

    Raises:
        InputError: a size is not positive, or another field lies outside its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["transformer"] = "transformer"
    """Which network this configures."""
    patch: int = 2
    """Side of the square of pixels that is one token."""
    width: int = 128
    """Length of a token."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Heads of the attention."""
    mlp_ratio: float = 4.0
    """Units between the two layers of a block, as a multiple of `width`."""
    dropout: float = 0.0
    """Probability of dropping an activation before the last layer of a branch."""
    classes: int = 0
    """Number of classes that the images may be labelled with; 0 for a network without labels."""
    learned_variance: bool = False
    """Whether the output has twice the channels: the prediction, then the raw variance."""

    def __post_init__(self) -> None:
        check_shared(self, "patch", "width", "depth", "heads")
        check(self.width % 4 == 0, "width", self.width, "a multiple of 4, for codes of two axes")
        check(
            self.width % self.heads == 0, "heads", self.heads, f"a divisor of width = {self.width}"
        )
        check(
            1 <= self.width * self.mlp_ratio < 2**31,
            "mlp_ratio", self.mlp_ratio, "a number that leaves at least one unit",
        )  # fmt: skip


class Transformer(nn.Module):
    """Network of (x, t, labels) for images of any size.

    The blocks are those of Peebles and Xie, "Scalable Diffusion Models with Transformers", 2023,
    https://arxiv.org/abs/2212.09748: adaptive normalisation whose gates start at zero.

    Args:
        config: Sizes of the network.
        channels: Channels of the images.
        outputs: Channels of the output; None for those of the images, twice where the variance is
            learned.

    Raises:
        InputError: channels or outputs is not positive.
    """

    def __init__(
        self, config: TransformerConfig, channels: int, outputs: int | None = None
    ) -> None:
        super().__init__()
        check(channels >= 1, "channels", channels, "an integer of at least 1")
        check(outputs is None or outputs >= 1, "outputs", outputs, "an integer of at least 1")
        self.config = config
        self.channels = channels
        width, pixels = config.width, config.patch**2
        outputs = outputs or channels * (2 if config.learned_variance else 1)
        self.embed = level_layers(width, width)
        self.stem = nn.Linear(channels * pixels, width)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.depth))
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.head = zeroed(nn.Linear(width, outputs * pixels))
        # Last, so that the other weights begin like those of the network without classes.
        self.labels = conditional_labels(config.classes, width)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict from noisy images, of any size.

        Sides that the patches do not divide are padded with their edge and cropped again.

        Args:
            x: Noisy images [B, C, H, W].
            t: Their levels [B].
            labels: int64 [B] in 0..K, K for none; None is K for all.

        Returns:
            [B, C, H, W], or [B, 2 C, H, W] with a learned variance, or [B, outputs, H, W].

        Raises:
            ValueError: x does not fit, or there are labels that the network does not know.
        """
        check_input(x, (self.channels, None, None))
        height, width = x.shape[-2:]
        code = sinusoidal_embedding(t, self.config.width).to(x.dtype)
        embedding = embed(self.embed, self.labels, code, labels)
        patches = F.pixel_unshuffle(pad_edge(x, self.config.patch), self.config.patch)
        rows, columns = patches.shape[-2:]
        tokens = self.stem(patches.flatten(2).transpose(1, 2))
        tokens = tokens + positions(rows, columns, self.config.width, x.device).to(tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        out: Tensor = self.head(_modulated(tokens, shift, scale))
        out = out.transpose(1, 2).reshape(len(x), -1, rows, columns)
        return crop(F.pixel_shuffle(out, self.config.patch), height, width)


class TransformerBlock(nn.Module):
    """Attention and two layers, each normalised, scaled, shifted and gated by the embedding.

    Args:
        config: Sizes of the network.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.heads = config.heads
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.linear_in = nn.Linear(width, hidden)
        self.linear_out = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map tokens [B, N, width] to the same shape, given the embedding [B, width]."""
        modulation = self.modulation(embedding)[:, None].chunk(6, dim=-1)
        shift, scale, gate = modulation[:3]
        x = torch.addcmul(x, gate, self._attention(_modulated(x, shift, scale)))
        shift, scale, gate = modulation[3:]
        return torch.addcmul(x, gate, self._layers(_modulated(x, shift, scale)))

    def _attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.mix(self.dropout(h))
        return out

    def _layers(self, x: Tensor) -> Tensor:
        h = F.gelu(self.linear_in(x), approximate="tanh")
        out: Tensor = self.linear_out(self.dropout(h))
        return out


def positions(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Codes of places in a grid: half of each is the code of the row, half that of the column.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        width: Length of a code, a multiple of 4.
        device: Where the codes are made; they are no state of a network.

    Returns:
        float32 [rows * columns, width], row by row.
    """
    down = sinusoidal_embedding(torch.arange(rows, device=device), width // 2)
    across = sinusoidal_embedding(torch.arange(columns, device=device), width // 2)
    grid = (rows, columns, width // 2)
    pair = [down[:, None].expand(grid), across[None].expand(grid)]
    return torch.cat(pair, dim=-1).flatten(0, 1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens [B, N, width], normalised one by one, then scaled and shifted."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)
