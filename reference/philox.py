"""Random numbers without state: each is a function of seed, stream, step, sample and element.

Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) encrypts a
128-bit counter under a 64-bit key. The key is the seed. The counter is

    c0 = element // 4, c1 = sample mod 2^32, c2 = step, c3 = stream + 2^8 (sample // 2^32),

and the element takes lane element % 4 of the block.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array

Words = NDArray[np.uint32]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF
_DATA_ORDER = 0


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Encrypt counters by ten rounds of Philox.

    Args:
        counter: shape (..., 4), uint32.
        key: two 32-bit words.

    Returns:
        Shape (..., 4), uint32.
    """
    x0, x1, x2, x3 = (counter[..., lane].astype(np.uint64) for lane in range(4))
    for turn in range(_ROUNDS):
        key0, key1 = ((key[i] + turn * _WEYL[i]) & _MASK for i in range(2))
        first, second = x0 * np.uint64(_MULTIPLIERS[0]), x2 * np.uint64(_MULTIPLIERS[1])
        x0 = _high(second) ^ x1 ^ np.uint64(key0)
        x2 = _high(first) ^ x3 ^ np.uint64(key1)
        x1, x3 = _low(second), _low(first)
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def words(seed: int, stream: int, step: int, samples: ArrayLike, count: int) -> Words:
    """Return random 32-bit words of samples at one step.

    Args:
        seed: 64-bit integer, signed or not.
        stream: what the numbers are used for, 0..255.
        step: 0..2^32 - 1.
        samples: global sample indices, shape (batch,), 0..2^56 - 1.
        count: words wanted of each sample, 0..2^34.

    Returns:
        Shape (batch, count), uint32.

    Raises:
        ValueError: an argument leaves its range.
    """
    index = _checked(seed, stream, step, samples, count)
    quads = np.arange(-(-count // 4), dtype=np.uint64)
    counter = np.empty((index.size, quads.size, 4), dtype=np.uint32)
    counter[..., 0] = quads
    counter[..., 1] = (index & np.uint64(_MASK))[:, None]
    counter[..., 2] = step
    counter[..., 3] = (np.uint64(stream) | (index >> np.uint64(32)) << np.uint64(8))[:, None]
    blocks = philox4x32(counter, (seed & _MASK, (seed >> 32) & _MASK))
    return blocks.reshape(index.size, 4 * quads.size)[:, :count]


def uniform(word: Words) -> NDArray[np.float32]:
    """Map words to float32 numbers in [2^-33, 1], never 0, so that a logarithm is finite.

    Args:
        word: uint32, any shape.
    """
    return word.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)


def normals(seed: int, stream: int, step: int, samples: ArrayLike, count: int) -> Array:
    """Return standard normal numbers by the method of Box and Muller, |z| <= 6.764.

    Args:
        seed: 64-bit integer, signed or not.
        stream: what the numbers are used for, 0..255.
        step: 0..2^32 - 1.
        samples: global sample indices, shape (batch,), 0..2^56 - 1.
        count: numbers wanted of each sample.

    Returns:
        Shape (batch, count), float64.

    Raises:
        ValueError: an argument leaves its range.
    """
    pairs = words(seed, stream, step, samples, count + count % 2).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log(uniform(pairs[:, 0]).astype(np.float64)))
    angle = np.pi * half_turns(pairs[:, 1])
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return values.reshape(np.size(samples), count + count % 2)[:, :count]


def half_turns(word: Words) -> Array:
    """Map words to angles in units of pi, in [-1/2, 3/2]: float32 below the top bit, float64 above.

    Args:
        word: uint32, any shape.
    """
    signed = (word << np.uint32(1)).view(np.int32).astype(np.float32) * np.float32(2.0**-32)
    return (word >> np.uint32(31)).astype(np.float64) + signed


def level(seed: int, stream: int, step: int, samples: ArrayLike, steps: int) -> NDArray[np.int64]:
    """Draw a level for each sample, uniform on 1..steps, both ends included.

    Args:
        seed: 64-bit integer, signed or not.
        stream: what the numbers are used for, 0..255.
        step: training step, 0..2^32 - 1.
        samples: global sample indices, shape (batch,).
        steps: number of levels, 1..2^31.

    Raises:
        ValueError: an argument leaves its range.
    """
    if not 1 <= steps <= 2**31:
        raise ValueError(f"steps must lie in 1..2^31, got {steps}")
    word = words(seed, stream, step, samples, 1)[:, 0].astype(np.uint64)
    return (1 + ((word * np.uint64(steps)) >> np.uint64(32))).astype(np.int64)


def permutation(seed: int, epoch: int, items: int) -> NDArray[np.int64]:
    """Order of the data in one epoch: a stable sort by 63 random bits of each item.

    Args:
        seed: 64-bit integer, signed or not.
        epoch: 0..2^32 - 1.
        items: how many, at least 0.

    Raises:
        ValueError: an argument leaves its range.
    """
    if items < 0:
        raise ValueError(f"items must be at least 0, got {items}")
    pair = words(seed, _DATA_ORDER, epoch, np.arange(items), 2).astype(np.int64)
    return np.argsort(pair[:, 0] * 2**31 + (pair[:, 1] >> 1), kind="stable")


def _high(product: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return product >> np.uint64(32)


def _low(product: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return product & np.uint64(_MASK)


def _checked(
    seed: int, stream: int, step: int, samples: ArrayLike, count: int
) -> NDArray[np.uint64]:
    for name, value, low, high in (
        ("seed", seed, -(2**63), 2**64),
        ("stream", stream, 0, 2**8),
        ("step", step, 0, 2**32),
        ("count", count, 0, 2**34 + 1),
    ):
        if not low <= value < high:
            raise ValueError(f"{name} must lie in {low}..{high - 1}, got {value}")
    index = np.asarray(samples)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise ValueError(
            f"samples must be integers of shape (batch,), got {index.dtype} {index.shape}"
        )
    if np.any((index < 0) | (index >= 2**56)):
        raise ValueError(f"samples must lie in 0..2^56 - 1, got {index.min()}..{index.max()}")
    return index.astype(np.uint64)
