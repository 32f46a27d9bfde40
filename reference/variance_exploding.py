r"""The chain that adds noise and keeps the signal, x_t = x_{t-1} + \sigma_t \epsilon_t.

With S_t = \sum_{r \le t} \sigma_r^2, x_t given x_0 is N(x_0, S_t I), and SNR(t) = 1 / S_t. Divided
by \sqrt{1 + S_t} it is the variance preserving chain of the same SNR.
"""

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .autoregression import telescope
from .chain import Chain, Levels, checked_pair
from .posterior import Coefficients


class VarianceExploding:
    """A noising chain whose signal keeps its size.  T-3-VE.

    Args:
        variances: sigma_t^2 of each step, positive, shape (T,), T >= 1.

    Raises:
        ValueError: variances is empty, not one-dimensional, or has an entry that is not positive.
    """

    def __init__(self, variances: ArrayLike) -> None:
        self.variances = as_float(variances, "variances")
        if self.variances.ndim != 1 or self.variances.size == 0 or np.any(self.variances <= 0):
            raise ValueError(f"variances must be positive numbers, shape (T,): {self.variances}")

    @cached_property
    def noise(self) -> Array:
        """Table of S_t, the variance of the noise in x_t, shape (T + 1,).  T-3-VE."""
        return telescope(np.ones_like(self.variances), self.variances)[1]

    @cached_property
    def snr(self) -> Array:
        """Table of 1 / S_t, infinite at level 0, shape (T + 1,).  T-3-VE."""
        return np.concatenate([[np.inf], 1 / self.noise[1:]])

    def posterior_coefficients(self, s: Levels, t: Levels) -> Coefficients:
        """Coefficients (a, b, s2) of q(x_s | x_t, x_0).  T-3-VE.

        Args:
            s: cleaner level, 0 <= s < t; an integer or integers.
            t: noisier level, t <= T; broadcast with s.

        Raises:
            ValueError: a level is out of range or s >= t.
        """
        low, high = checked_pair(s, t, self.variances.size)
        before, after = self.noise[low], self.noise[high]
        share = before / after
        return Coefficients((after - before) / after, share, (after - before) * share)

    def preserving(self) -> Chain:
        """The variance preserving chain of the same SNR, x_t / sqrt(1 + S_t).  T-3-VE."""
        return Chain(self.variances / (1 + self.noise[1:]))
