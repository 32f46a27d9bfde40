"""Laws of the levels counted over all random words.

The map from words to levels is monotone, so that bisection finds where each level begins.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm.training.loss_aware import LossAwareLevels

WORDS = 2**32
STEPS = 10
"""Levels of the laws that are tested by example."""
Z = 4.0
"""Standard deviations that a fair draw exceeds once in 16,000 times; seeds are fixed."""


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def experienced(steps: int = STEPS, kept: int = 3, share: float = 0.001) -> LossAwareLevels:
    """A law whose history is full, of losses that fall with the level."""
    law = LossAwareLevels(steps, kept=kept, share=share)
    t = torch.arange(1, steps + 1)
    for update in range(kept + 1):
        law.observe(t, (0.5 + numbers(steps, seed=update)) / t)
    return law


def counts(level: Callable[[Tensor], Tensor], steps: int, first: int, end: int) -> Tensor:
    """How many words in first..end-1 stand for each level, where the map does not fall there."""
    low, high = (torch.full((steps + 1,), w) for w in (first, end))
    wanted = torch.arange(1, steps + 2)
    # The least word of each level or a higher one lies in low..high.
    for _ in range(33):
        middle = (low + high) // 2
        reached = (level(middle.clamp(max=end - 1)) >= wanted) | (middle >= end)
        low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
        low = torch.minimum(low, high)
    return high.diff()


def probabilities(law: LossAwareLevels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability and weight of each level, counted over all words."""
    number = counts(lambda word: law.levels_of(word).t, law.steps, 0, WORDS)
    begins = number.cumsum(0) - number
    drawn = law.levels_of(begins)
    assert drawn.t.tolist() == list(range(1, law.steps + 1))
    return (number.double() / WORDS).numpy(), drawn.weight.double().numpy()
