"""Learning rate of every update: a linear warm-up, then a fall along the chosen curve."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ddpm.config import Decay, OptimiserConfig

FALLS: Mapping[Decay, Callable[[int, int], float]] = MappingProxyType(
    {
        "cosine": lambda done, steps: 0.5 * (1 + math.cos(math.pi * done / steps)),
        "linear": lambda done, steps: (steps - done) / steps,
        "constant": lambda _done, _steps: 1.0,
    }
)
"""Share of the peak that is left after `done` of `steps` updates."""


def learning_rate(update: int, steps: int, config: OptimiserConfig) -> float:
    """Learning rate of optimiser update number `update` in 1..steps.

    Updates are counted, not batches: the parts of an accumulated batch share one rate. The warm-up
    multiplies the curve, which begins at the first update, so that the peak lies below
    `config.learning_rate` by what the curve has fallen by then.

    Args:
        update: Number of the update, from 1.
        steps: Updates of the whole run.
        config: Peak, warm-up and curve.
    """
    warmup = min(1.0, update / (config.warmup + 1))
    return config.learning_rate * warmup * FALLS[config.decay](update - 1, steps)
