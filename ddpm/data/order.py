"""The order of data as a pure function of (number of items, epoch, seed), without state."""

import torch
from torch import Tensor

from ddpm.errors import check
from ddpm.kernels.philox import words


def permutation(n: int, epoch: int, seed: int, stream: int) -> Tensor:
    """Order in which the `n` items of a set are visited in one epoch.

    Item i has a 63-bit random key from the counter (element 0 and 1, sample i, step `epoch`); the
    order is the stable sort of the keys, so it depends on no other draw and on no machine.

    Args:
        n: number of items, >= 0.
        epoch: 0..2^32 - 1.
        seed: -2^63..2^63 - 1.
        stream: tag of the stream, 0..255.

    Returns:
        int64 [n], a permutation of 0..n-1.

    Raises:
        InputError: if `n`, `epoch` or `seed` lies outside its range.
    """
    check(n >= 0, "n", n, "0 or more")
    check(0 <= epoch < 1 << 32, "epoch", epoch, "0 to 2^32 - 1")
    check(-(1 << 63) <= seed < 1 << 63, "seed", seed, "-2^63 to 2^63 - 1")
    pair = words(torch.tensor(seed), torch.tensor(epoch), torch.arange(n), stream, 2)
    keys = pair[:, 0] * (1 << 31) + (pair[:, 1] >> 1)
    return torch.argsort(keys, stable=True)
