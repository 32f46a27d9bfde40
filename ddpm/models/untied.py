"""One small network for each level: nothing is shared between levels.  T-2.2-untied.

This is for processes of few levels. The levels are stacked along the first dimension of every
weight, and each sample is multiplied by the weights of its own level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.errors import check
from ddpm.models.blocks import zeroed
from ddpm.models.checks import LARGEST_SIZE, check_input, check_shared
from ddpm.models.conditions import conditional_labels

MOST_LEVELS = 1000
"""Levels of a configuration; a network for each of more is a slip of the hand."""
GATHERED = 2**24
"""Weights gathered at a time where no gradient is asked for, so that a large batch needs 64 MiB."""


@dataclass(frozen=True, kw_only=True)
class UntiedConfig:
    """Sizes of the networks of all levels; checked at construction.

    Raises:
        InputError: a size is not positive, or another field lies outside its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["untied"] = "untied"
    """Which network this configures."""
    levels: int = 20
    """Number T of levels of the process, each with a network of its own."""
    hidden: tuple[int, ...] = (128, 128)
    """Units of the hidden layers of each network."""
    dropout: float = 0.0
    """Probability of dropping an activation of a hidden layer."""
    classes: int = 0
    """Number of classes that the images may be labelled with; 0 for a network without labels."""
    learned_variance: bool = False
    """Whether the output has twice the channels: the prediction, then the raw variance."""

    def __post_init__(self) -> None:
        check_shared(self, "levels")
        check(self.levels <= MOST_LEVELS, "levels", self.levels, f"at most {MOST_LEVELS}")
        check(
            len(self.hidden) > 0 and all(1 <= size <= LARGEST_SIZE for size in self.hidden),
            "hidden", self.hidden, f"at least one size from 1 to {LARGEST_SIZE}",
        )  # fmt: skip


class Untied(nn.Module):
    """Network of (x, t, labels) that is another network at each level.  T-2.2-untied, T-2.2-argmax.

    A step of training changes the levels of its batch, and the others by what the optimiser
    remembers of them. At each level the labels shift the units of the first hidden layer.

    Args:
        config: Sizes of the networks.
        shape: Of one input, such as (C, H, W), or (D,) for vectors.
        outputs: Channels of the output; None for those of the input, twice where the variance is
            learned.

    Raises:
        InputError: the shape is empty or has no values.
    """

    def __init__(
        self, config: UntiedConfig, shape: Sequence[int], outputs: int | None = None
    ) -> None:
        super().__init__()
        check(len(shape) > 0 and min(shape) >= 1, "shape", tuple(shape), "positive sizes")
        check(outputs is None or outputs >= 1, "outputs", outputs, "an integer of at least 1")
        self.config = config
        self.shape = tuple(shape)
        self.channels = outputs or self.shape[0] * (2 if config.learned_variance else 1)
        sizes = (math.prod(shape), *config.hidden)
        self.layers = nn.ModuleList(LinearByLevel(config.levels, *pair) for pair in pairwise(sizes))
        self.dropout = nn.Dropout(config.dropout)
        self.head = zeroed(
            LinearByLevel(config.levels, sizes[-1], self.channels * math.prod(self.shape[1:]))
        )
        # Last, so that the other weights begin like those of the network without classes.
        self.labels = conditional_labels(config.classes, config.levels * sizes[1])
        if self.labels is not None:
            self.labels.table.fan_in = sizes[1]  # type: ignore[assignment]

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict from noisy vectors or images, each by the network of its level.

        Args:
            x: Noisy inputs [B, C, ...].
            t: Their levels, int64 [B] in 1..T.
            labels: int64 [B] in 0..K, K for none; None is K for all.

        Returns:
            [B, C, ...], or [B, 2 C, ...] with a learned variance.

        Raises:
            ValueError: x or t does not fit, or there are labels that the network does not know.
        """
        check_input(x, self.shape)
        if t.dtype != torch.int64 or t.shape != x.shape[:1]:
            raise ValueError(
                f"t has shape {list(t.shape)} and type {t.dtype}: allowed is [{len(x)}] of "
                f"torch.int64"
            )
        level = t - 1
        try:
            h = self.layers[0](x.flatten(1), level)
        except IndexError:
            span = [int(t.min()), int(t.max())]
            raise ValueError(f"t lies in {span}: allowed is 1 to {self.config.levels}") from None
        h = self._labelled(h, level, labels)
        for layer in self.layers[1:]:
            h = layer(self.dropout(F.silu(h)), level)
        out: Tensor = self.head(self.dropout(F.silu(h)), level)
        return out.reshape(len(x), self.channels, *self.shape[1:])

    def _labelled(self, h: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Units [B, width] of the first hidden layer, shifted by what a label means at a level."""
        if self.labels is None:
            if labels is not None:
                raise ValueError("labels are given: allowed for a network with classes = 0 is None")
            return h
        shifts: Tensor = self.labels(labels, len(h), h.device)
        shifts = shifts.view(len(h), self.config.levels, h.shape[1])
        return h + shifts.gather(1, level[:, None, None].expand(-1, 1, h.shape[1])).squeeze(1)


class LinearByLevel(nn.Module):
    """Fully connected layers, one for each level.  T-2.2-untied.

    Args:
        levels: Number T of them.
        inputs: Length of the input [B, inputs].
        outputs: Length of the output [B, outputs].
    """

    def __init__(self, levels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fan_in = inputs
        self.weight = nn.Parameter(torch.empty(levels, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(levels, outputs))
        nn.init.uniform_(self.weight, -(inputs**-0.5), inputs**-0.5)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Map [B, inputs] to [B, outputs] by the layers of the levels, int64 [B] in 0..T - 1.

        Raises:
            IndexError: on a CPU, a level lies outside.
        """
        rows = len(x)
        if not torch.is_grad_enabled():
            rows = max(1, GATHERED // self.weight[0].numel())
        parts = zip(torch.split(x, rows), torch.split(level, rows), strict=True)
        return torch.cat([self._product(*part) for part in parts])

    def _product(self, x: Tensor, level: Tensor) -> Tensor:
        # The gradient of an embedding adds up samples of one level in a fixed order.
        weight = F.embedding(level, self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        bias = F.embedding(level, self.bias)
        return torch.baddbmm(bias[:, :, None], weight, x[:, :, None]).squeeze(2)
