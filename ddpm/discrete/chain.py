"""What the process asks of a chain of categories, and how categories are drawn.

A chain knows its laws in closed form: one number a level says how much of the clean category is
left, kept_t = prod (1 - beta), and no matrix of categories is ever made. Each chain draws with one
uniform number a pixel.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ddpm.kernels.philox import words
from ddpm.keys import Key


class Terms(NamedTuple):
    """Nats of every pixel, [B, C, H, W] in the type of the logits.

    Attributes:
        bound: KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)) for t >= 2, -log p(x_0 | x_1) for 1.
        cross_entropy: -log p(x_0 | x_t).
    """

    bound: Tensor
    cross_entropy: Tensor


class Chain(Protocol):
    """A chain of T noising steps on K grey levels.

    Logits are float32 or float64 [B, C, K, H, W], states int64 [B, C, H, W], levels t int64 [B],
    and places are uniform numbers in (0, 1), float64 [B, C, H, W].
    """

    @property
    def states(self) -> int:
        """Number of states of a pixel."""

    @property
    def views(self) -> int:
        """Channels that the network sees for each channel of the images."""

    def inputs(self, x: Tensor) -> Tensor:
        """States as the network sees them, float32 [B, views C, H, W]."""

    def shown(self, x: Tensor) -> Tensor:
        """States as a picture, float32 [B, C, H, W] in [-1, 1]."""

    def initial(self, place: Tensor) -> Tensor:
        """Draw x_T without knowledge of x_0."""

    def noised(self, clean: Tensor, t: Tensor, place: Tensor) -> Tensor:
        """Draw x_t from q(x_t | x_0)."""

    def terms(self, logits: Tensor, x: Tensor, clean: Tensor, t: Tensor) -> Terms:
        """Terms of the bound and of the cross-entropy at levels 1..T."""

    def step(self, logits: Tensor, x: Tensor, s: int, t: int, place: Tensor) -> Tensor:
        """Draw x_s from p(x_s | x_t), 0 <= s < t."""


class Tables:
    """Rows of numbers by level, kept on every device where they were asked for.

    Args:
        rows: float64 [T + 1, N].
    """

    def __init__(self, rows: Tensor) -> None:
        self._on = {torch.device("cpu"): rows}

    def at(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The N numbers of each level of t [B], rounded once, each shaped [B, 1, 1, 1]."""
        if t.device not in self._on:
            self._on[t.device] = self._on[torch.device("cpu")].to(t.device)
        table = self._on[t.device]
        # On a GPU a level outside is not looked for, and must not be read.
        rows = table[t.clamp(0, len(table) - 1)].to(dtype)
        return tuple(column.reshape(-1, 1, 1, 1) for column in rows.unbind(1))


def places(key: Key, stream: int, shape: torch.Size) -> Tensor:
    """Uniform numbers (word + 1/2) / 2^32, one a pixel.

    Args:
        key: Where the draw is used.
        stream: Tag of the use.
        shape: [B, C, H, W].

    Returns:
        float64 [B, C, H, W], exact, in (0, 1).
    """
    word = words(key.seed, key.step, key.sample, stream, shape[1:].numel())
    return ((word.double() + 0.5) * 2.0**-32).view(shape)


def draw(law: Tensor, place: Tensor) -> Tensor:
    """Draw categories by inverting the cumulative law, which is scaled to end at 1.  G-3.5-D3PM.

    Args:
        law: Weights [B, C, K, H, W], float32, at least 0 and not all 0.
        place: Uniform numbers in (0, 1), float64 [B, C, H, W].

    Returns:
        int64 [B, C, H, W] in 0..K-1, never a category of weight 0.
    """
    cumulative = law.cumsum(2)
    total = cumulative[:, :, -1]
    # Rounded to float32 a number close to 1 could reach the end, where there is no category.
    most = torch.nextafter(total, torch.zeros_like(total))
    at = torch.minimum((place * total).float(), most)
    return (cumulative <= at[:, :, None]).sum(2)
