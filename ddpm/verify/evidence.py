"""What a proof has shown: how many examples it tried, and which comparison came closest to failing.

Every method asserts; none returns a verdict, so a proof cannot forget to look at one.
"""

from collections.abc import Iterable

import mpmath as mp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddpm.verify.oracles import worst_ulp

Z_BOUND = 5.0
"""Standard errors that a Monte Carlo mean may lie from the truth: one run in two million more."""


class Evidence:
    """Examples tried and the worst error of a proof, beside the tolerance it was held to."""

    def __init__(self) -> None:
        self.examples = 0
        self.error = 0.0
        self.tolerance = 0.0
        self.refuting = 0
        self.printed: list[float] = []
        self.right: list[float] = []
        self._ratio = -1.0

    def close(
        self,
        got: ArrayLike,
        want: ArrayLike,
        *,
        rtol: float = 0.0,
        atol: float = 0.0,
        what: str = "value",
    ) -> None:
        """Assert |got - want| <= atol + rtol |want| everywhere; infinities must be equal.

        Args:
            got: what the function under test gives.
            want: the truth, same shape or a number.
            rtol: relative tolerance.
            atol: absolute tolerance.
            what: name of the quantity, for the message.

        Raises:
            AssertionError: shapes differ, an entry is NaN, or an error exceeds its tolerance.
        """
        x, y = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
        assert x.shape == y.shape or y.ndim == 0, f"{what}: shape {x.shape}, not {y.shape}"
        error = distance(x, y)
        allowed = np.broadcast_to(atol + rtol * np.where(np.isfinite(y), np.abs(y), 0.0), x.shape)
        if error.size == 0:
            return
        ratio = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
        worst = np.unravel_index(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)), x.shape)
        self._compare(
            float(error[worst]),
            float(allowed[worst]),
            f"{what}{list(map(int, worst)) or ''}: got {x[worst]!r}, "
            f"want {np.broadcast_to(y, x.shape)[worst]!r}",
        )

    def equal(self, got: ArrayLike, want: ArrayLike, what: str = "value") -> None:
        """Assert that two arrays are equal to the last bit."""
        self.close(got, want, what=what)

    def at_most(self, value: ArrayLike, bound: ArrayLike, what: str = "value") -> None:
        """Assert value <= bound everywhere; what is recorded is the excess, zero where it holds."""
        x, y = np.broadcast_arrays(np.asarray(value, float), np.asarray(bound, float))
        held = x <= y
        assert np.all(held), f"{what}: {x[~held][:1]} exceeds {y[~held][:1]}"
        self._compare(0.0, 0.0, what)

    def holds(self, condition: ArrayLike, what: str) -> None:
        """Assert that a condition holds everywhere."""
        assert np.all(np.asarray(condition)), f"it does not hold that {what}"
        self._compare(0.0, 0.0, what)

    def mean(self, draws: ArrayLike, want: ArrayLike, what: str = "mean") -> None:
        """Assert that the mean of independent draws is the truth, up to five standard errors.

        Args:
            draws: shape (n, ...), independent along the first axis.
            want: the truth, shape (...) or a number.
            what: name of the quantity, for the message.
        """
        sample = np.asarray(draws, dtype=np.float64)
        error = sample.std(axis=0, ddof=1) / np.sqrt(sample.shape[0])
        z = (sample.mean(axis=0) - np.asarray(want)) / np.maximum(error, 1e-300)
        self.close(z, 0.0, atol=Z_BOUND, what=f"standard errors of {what}")

    def ulps(self, got: ArrayLike, want: Iterable[mp.mpf], bound: float, what: str) -> None:
        """Assert that float64 values lie within `bound` units in the last place of the truth."""
        self._compare(worst_ulp(got, want), bound, what)

    def _compare(self, error: float, tolerance: float, message: str) -> None:
        ratio = error / tolerance if tolerance > 0 else (np.inf if error > 0 else 0.0)
        if (ratio, tolerance) > (self._ratio, self.tolerance):
            self.error, self.tolerance, self._ratio = error, tolerance, ratio
        assert error <= tolerance, f"{message}; error {error:.3g}, allowed {tolerance:.3g}"


def distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |x - y|, 0 for equal infinities and NaN where either is NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(x == y, 0.0, np.abs(x - y)))
