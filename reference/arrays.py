"""Array types of the reference layer and the one rule by which coefficients meet samples."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Index = int | slice | NDArray[np.int64]


def as_float(value: ArrayLike, name: str) -> Array:
    """Return `value` as a float64 array and refuse what is not a finite number.

    Args:
        value: numbers, any shape.
        name: the argument's name, for the message.

    Raises:
        ValueError: an entry is NaN or infinite.
    """
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][:1]}")
    return array


def per_sample(coefficient: ArrayLike, x: Array) -> Array:
    """Shape a coefficient so that it multiplies whole samples.

    Args:
        coefficient: a number, or shape (batch,), one number for each sample.
        x: shape (batch, ...), or any shape when the coefficient is a number.

    Raises:
        ValueError: the coefficient is neither a number nor one number for each sample.
    """
    value = np.asarray(coefficient, dtype=np.float64)
    if value.ndim == 0:
        return value
    if value.shape != x.shape[:1]:
        raise ValueError(f"coefficient must have shape () or {x.shape[:1]}, got {value.shape}")
    return value.reshape(value.shape + (1,) * (x.ndim - 1))


def shaped_like(value: ArrayLike, x: Array, name: str) -> Array:
    """Return `value` as finite float64 after checking that it has the shape of x.

    Args:
        value: numbers.
        x: the array whose shape is asked for.
        name: the argument's name, for the message.

    Raises:
        ValueError: the shapes differ or an entry is not finite.
    """
    array = as_float(value, name)
    if array.shape != x.shape:
        raise ValueError(f"{name} must have shape {x.shape}, got {array.shape}")
    return array
