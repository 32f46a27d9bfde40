"""Where a random number is used: the whole state that our random numbers have."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.kernels.philox import words
from ddpm.kernels.streams import Stream


@dataclass(frozen=True, eq=False)
class Key:
    """Seed, step and global sample indices; equal keys draw equal numbers on every device.

    Attributes:
        seed: int64 0-d tensor.
        step: int64 0-d tensor in [0, 2^32): the optimiser update or the level.
        sample: int64 [B] in [0, 2^56): index of each sample in the run, not in the batch.
    """

    seed: Tensor
    step: Tensor
    sample: Tensor

    @staticmethod
    def of(
        seed: int, samples: Iterable[int], step: int = 0, device: torch.device | str = "cpu"
    ) -> "Key":
        """Key of the given sample indices, for example `Key.of(1, range(64))`.

        Raises:
            ValueError: step or a sample index is out of range.
        """
        index = list(samples)
        if not 0 <= step < 2**32:
            raise ValueError(f"step = {step}: allowed is 0 to 2^32 - 1")
        if index and not 0 <= min(index) <= max(index) < 2**56:
            raise ValueError(f"samples from {min(index)} to {max(index)}: allowed is 0 to 2^56 - 1")
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed = {seed}: allowed is a signed 64-bit integer")
        return Key(
            torch.tensor(seed, dtype=torch.int64, device=device),
            torch.tensor(step, dtype=torch.int64, device=device),
            torch.tensor(index, dtype=torch.int64, device=device),
        )


def draw_levels(key: Key, steps: int) -> Tensor:
    """Levels t drawn uniformly from 1..T, both ends included, one a sample.  T-2.3-uniform.

    Args:
        key: Where the draw is used.
        steps: T, in [1, 2^31).

    Returns:
        int64 [B].

    Raises:
        ValueError: steps is out of range.
    """
    if not 1 <= steps < 2**31:
        raise ValueError(f"steps = {steps}: allowed is 1 to 2^31 - 1")
    word = words(key.seed, key.step, key.sample, Stream.LEVEL, 1)[:, 0]
    return 1 + ((word * steps) >> 32)
