"""A network of fully connected layers for vectors and small images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.errors import check
from ddpm.models.blocks import zeroed
from ddpm.models.checks import check_input, check_shared
from ddpm.models.conditions import conditional_labels, embed, level_layers
from ddpm.models.embedding import sinusoidal_embedding

CODE = 64
"""Length of the code of a level."""


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Sizes of a network of fully connected layers; checked at construction.

    Raises:
        InputError: a size is not positive, or another field lies outside its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mlp"] = "mlp"
    """Which network this configures."""
    width: int = 500
    """Units of every hidden layer."""
    depth: int = 3
    """Residual blocks of two layers each; 0 for a single hidden layer."""
    dropout: float = 0.0
    """Probability of dropping an activation inside the residual blocks."""
    classes: int = 0
    """Number of classes that the images may be labelled with; 0 for a network without labels."""
    learned_variance: bool = False
    """Whether the output has twice the channels: the prediction, then the raw variance."""

    def __post_init__(self) -> None:
        check_shared(self, "width")
        check(self.depth >= 0, "depth", self.depth, "an integer of at least 0")


class MLP(nn.Module):
    """Network of (x, t, labels) that reads all values of x at once.

    Args:
        config: Sizes of the network.
        shape: Of one input, such as (C, H, W), or (D,) for vectors.
        outputs: Channels of the output; None for those of the input, twice where the variance is
            learned.

    Raises:
        InputError: the shape is empty or has no values, or outputs is not positive.
    """

    def __init__(self, config: MLPConfig, shape: Sequence[int], outputs: int | None = None) -> None:
        super().__init__()
        check(len(shape) > 0 and min(shape) >= 1, "shape", tuple(shape), "positive sizes")
        check(outputs is None or outputs >= 1, "outputs", outputs, "an integer of at least 1")
        self.config = config
        self.shape = tuple(shape)
        values, width = math.prod(shape), config.width
        self.embed = level_layers(CODE, width)
        self.stem = nn.Linear(values, width)
        self.blocks = nn.ModuleList(
            ResidualLayers(width, config.dropout) for _ in range(config.depth)
        )
        self.out = Modulated(width)
        channels = outputs or self.shape[0] * (2 if config.learned_variance else 1)
        self.head = zeroed(nn.Linear(width, channels * math.prod(self.shape[1:])))
        # Last, so that the other weights begin like those of the network without classes.
        self.labels = conditional_labels(config.classes, width)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict from noisy vectors or images.

        Args:
            x: Noisy inputs [B, C, ...].
            t: Their levels [B].
            labels: int64 [B] in 0..K, K for none; None is K for all.

        Returns:
            [B, C, ...], or [B, 2 C, ...] with a learned variance, or [B, outputs, ...].

        Raises:
            ValueError: x does not fit, or there are labels that the network does not know.
        """
        check_input(x, self.shape)
        code = sinusoidal_embedding(t, CODE).to(x.dtype)
        embedding = embed(self.embed, self.labels, code, labels)
        h = self.stem(x.flatten(1))
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.head(F.silu(self.out(h, embedding)))
        return out.reshape(len(x), -1, *self.shape[1:])


class Modulated(nn.Module):
    """Layer normalisation, then scale and shift by the level and label.  T-fn14.

    Args:
        width: Length of the input [B, width] and of the embedding [B, width].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map [B, width] to the same shape."""
        scale, shift = self.film(embedding).chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(x), 1 + scale)


class ResidualLayers(nn.Module):
    """Two fully connected layers around a shortcut, with FiLM between them.  T-fn14.

    Args:
        width: Length of the input [B, width] and of the embedding [B, width].
        dropout: Probability of dropping an activation before the second layer, in [0, 1).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.linear_in = nn.Linear(width, width)
        self.modulated = Modulated(width)
        self.dropout = nn.Dropout(dropout)
        self.linear_out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map [B, width] to the same shape."""
        h = self.linear_in(F.silu(self.norm_in(x)))
        h = self.dropout(F.silu(self.modulated(h, embedding)))
        out: Tensor = x + self.linear_out(h)
        return out
