r"""Sinusoidal code of the level, by which a network is told how noisy its input is.

    e(t) = (\sin \omega_0 t, ..., \sin \omega_{h-1} t, \cos \omega_0 t, ..., \cos \omega_{h-1} t),
    \omega_k = P^{-k/h},  h = d / 2.

A shift of t turns each pair of sine and cosine by a fixed angle.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float


def frequencies(dim: int, max_period: float = 10_000.0) -> Array:
    """Frequencies of the waves, from 1 down in geometric progression.  V-5.2.

    Args:
        dim: length d of the code, even and positive.
        max_period: P > 1, the ratio of the periods that the progression approaches.

    Returns:
        Shape (d / 2,).

    Raises:
        ValueError: dim is odd or not positive, or max_period <= 1.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"dim must be even and positive, got {dim}")
    if not 1 < max_period < np.inf:
        raise ValueError(f"max_period must be finite and greater than 1, got {max_period}")
    return np.asarray(max_period ** -(2 * np.arange(dim // 2) / dim))


def sinusoidal_embedding(t: ArrayLike, dim: int, max_period: float = 10_000.0) -> Array:
    """Code of a level: sines, then cosines.  V-5.2.

    Args:
        t: levels, any shape.
        dim: length d of the code, even and positive.
        max_period: see `frequencies`.

    Returns:
        Shape (*t.shape, d).

    Raises:
        ValueError: dim is odd or not positive, or max_period <= 1.
    """
    angle = as_float(t, "t")[..., None] * frequencies(dim, max_period)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def shift_matrix(offset: float, dim: int, max_period: float = 10_000.0) -> Array:
    """Rotation R with e(t + offset) = R e(t) for every t.  V-5.2.

    Args:
        offset: shift of the level, any real.
        dim: length d of the code, even and positive.
        max_period: see `frequencies`.

    Returns:
        Shape (d, d), orthogonal.

    Raises:
        ValueError: dim is odd or not positive, or max_period <= 1.
    """
    angle = as_float(offset, "offset") * frequencies(dim, max_period)
    sine, cosine = np.diag(np.sin(angle)), np.diag(np.cos(angle))
    return np.block([[cosine, sine], [-sine, cosine]])
