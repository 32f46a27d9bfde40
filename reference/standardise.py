r"""Scaling data to zero mean and unit variance, z = (x - m) / d, and back.

The formulas of the chain assume such data; with other data the noised levels do not keep unit
variance, though every law given x_0 stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float


@dataclass(frozen=True)
class Standardiser:
    """Mean and deviation of every feature of the training data.  T-fn1, T-4.1.

    Args:
        mean: shape (...), one number for each feature.
        deviation: positive, same shape.
    """

    mean: Array
    deviation: Array

    @staticmethod
    def fit(data: ArrayLike) -> Standardiser:
        """Take mean and deviation from training data.  T-fn1, T-4.1.

        A feature that never varies keeps its scale, so that it becomes 0 and can be restored.

        Args:
            data: shape (n, ...), n >= 1.

        Raises:
            ValueError: data has no samples or an entry that is not finite.
        """
        samples = as_float(data, "data")
        if samples.ndim == 0 or samples.shape[0] == 0:
            raise ValueError(f"data must have shape (n, ...) with n >= 1, got {samples.shape}")
        # The mean of equal numbers rounds, and would leave a deviation of 1e-17 to divide by.
        constant = samples.max(axis=0) == samples.min(axis=0)
        mean = np.where(constant, samples[0], samples.mean(axis=0))
        return Standardiser(mean, np.where(constant, 1.0, samples.std(axis=0)))

    def standardise(self, x: ArrayLike) -> Array:
        """Return (x - mean) / deviation.  T-fn1, T-4.1.

        Args:
            x: shape (..., *features).

        Raises:
            ValueError: x has other features.
        """
        return (self._checked(x, "x") - self.mean) / self.deviation

    def restore(self, z: ArrayLike) -> Array:
        """Return mean + deviation z, the inverse.  T-fn1, T-4.1.

        Args:
            z: shape (..., *features).

        Raises:
            ValueError: z has other features.
        """
        return self.mean + self.deviation * self._checked(z, "z")

    def _checked(self, value: ArrayLike, name: str) -> Array:
        array, features = as_float(value, name), np.shape(self.mean)
        if array.shape[array.ndim - len(features) :] != features:
            raise ValueError(f"{name} must have the features {features}, got shape {array.shape}")
        return array
