"""Arithmetic on unevaluated sums of two float64 numbers, about 104 significant bits.

A noise schedule multiplies up to 100,000 factors close to one. Rounding each of them to 53 bits
costs more digits than the tables may lose, so the logarithms are carried as pairs and rounded
once, when a table is read. The methods are those of Dekker (1971) and Knuth (TAOCP 2, 4.2.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, Index

_SPLITTER = float(2**27 + 1)
_HALVINGS = 5
_LOWEST = -1e5


def two_sum(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return the rounded sum of a and b and its exact rounding error (zero if not finite)."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    total = x + y
    with np.errstate(invalid="ignore"):
        part = total - x
        error = (x - (total - part)) + (y - part)
    return total, np.where(np.isfinite(total), error, 0.0)


def two_product(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return the rounded product of a and b and its exact rounding error (zero if not finite)."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        product = x * y
        (x1, x2), (y1, y2) = _split(x), _split(y)
        error = x2 * y2 - (((product - x1 * y1) - x2 * y1) - x1 * y2)
    return product, np.where(np.isfinite(product) & np.isfinite(error), error, 0.0)


def _split(x: Array) -> tuple[Array, Array]:
    """Split into two halves of at most 26 bits each."""
    scaled = _SPLITTER * x
    high = scaled - (scaled - x)
    return high, x - high


@dataclass(frozen=True, slots=True)
class DoubleDouble:
    """An array of numbers high + low, with high the sum rounded to float64."""

    high: Array
    low: Array

    @staticmethod
    def of(value: ArrayLike) -> DoubleDouble:
        """Take float64 numbers as they are."""
        high = np.asarray(value, dtype=np.float64)
        return DoubleDouble(high, np.zeros_like(high))

    def __getitem__(self, index: Index) -> DoubleDouble:
        return DoubleDouble(np.asarray(self.high[index]), np.asarray(self.low[index]))

    def __neg__(self) -> DoubleDouble:
        return DoubleDouble(-self.high, -self.low)

    def __add__(self, other: DoubleDouble | float) -> DoubleDouble:
        right = _coerce(other)
        high, error = two_sum(self.high, right.high)
        low, error_of_low = two_sum(self.low, right.low)
        high, error = two_sum(high, error + low)
        return DoubleDouble(*two_sum(high, error + error_of_low))

    def __sub__(self, other: DoubleDouble | float) -> DoubleDouble:
        return self + (-_coerce(other))

    def __mul__(self, other: DoubleDouble | float) -> DoubleDouble:
        right = _coerce(other)
        high, error = two_product(self.high, right.high)
        with np.errstate(invalid="ignore", under="ignore"):
            cross = self.high * right.low + self.low * right.high
        return DoubleDouble(*two_sum(high, np.where(np.isfinite(high), error + cross, 0.0)))

    def __truediv__(self, other: DoubleDouble | float) -> DoubleDouble:
        right = _coerce(other)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            guess = DoubleDouble.of(self.high / right.high)
            rest = self - right * guess
            correction = np.asarray((rest.high + rest.low) / right.high)
        finite = np.isfinite(guess.high) & np.isfinite(correction)
        return DoubleDouble(*two_sum(guess.high, np.where(finite, correction, 0.0)))

    def sqrt(self) -> DoubleDouble:
        """Return the square root of numbers >= 0."""
        guess = DoubleDouble.of(np.sqrt(self.high))
        rest = self - guess * guess
        safe = np.where(guess.high > 0, guess.high, 1.0)
        return DoubleDouble(*two_sum(guess.high, rest.high / (2 * safe)))


def _coerce(value: DoubleDouble | float) -> DoubleDouble:
    return value if isinstance(value, DoubleDouble) else DoubleDouble.of(value)


_LN2 = DoubleDouble(np.asarray(math.log(2.0)), np.asarray(2.3190468138462996e-17))
_INVERSE_FACTORIALS = [DoubleDouble.of(1.0) / float(math.factorial(n)) for n in range(13)]
# From the seventh on, a term is so small beside the first that float64 suffices for it.
_PAIRS = 7


def _reduced_expm1(x: DoubleDouble) -> tuple[Array, DoubleDouble]:
    """Return k and exp(x - k ln 2) - 1 with |x - k ln 2| <= ln(2)/2, by Taylor and doubling."""
    k = np.rint(x.high / _LN2.high)
    rest = x - _LN2 * DoubleDouble.of(k)
    rest = DoubleDouble(rest.high / 2**_HALVINGS, rest.low / 2**_HALVINGS)
    tail = np.zeros_like(rest.high)
    for coefficient in reversed(_INVERSE_FACTORIALS[_PAIRS:]):
        tail = tail * rest.high + coefficient.high
    series = DoubleDouble.of(tail)
    for coefficient in reversed(_INVERSE_FACTORIALS[1:_PAIRS]):
        series = rest * series + coefficient
    result = rest * series
    for _ in range(_HALVINGS):
        result = result * (result + 2.0)
    return k, result


def _bounded(x: DoubleDouble) -> DoubleDouble:
    """Replace what is below every exponent that matters, minus infinity too, by a finite one."""
    keep = x.high > _LOWEST
    return DoubleDouble(np.where(keep, x.high, _LOWEST), np.where(keep, x.low, 0.0))


def _scaled(x: DoubleDouble, k: Array) -> DoubleDouble:
    exponent = k.astype(np.int64)
    with np.errstate(under="ignore"):
        return DoubleDouble(*two_sum(np.ldexp(x.high, exponent), np.ldexp(x.low, exponent)))


def exp(x: DoubleDouble) -> DoubleDouble:
    """Return e to the power x, for x < 709; minus infinity gives zero."""
    k, rest = _reduced_expm1(_bounded(x))
    return _scaled(rest + 1.0, k)


def root_exp(x: DoubleDouble) -> DoubleDouble:
    """Return the square root of e to the power x, also where e to the power x underflows."""
    return exp(DoubleDouble(x.high / 2, x.low / 2))


def expm1(x: DoubleDouble) -> DoubleDouble:
    """Return e to the power x, minus one, without loss near x = 0; minus infinity gives -1."""
    k, rest = _reduced_expm1(_bounded(x))
    away = _scaled(rest + 1.0, k) - 1.0
    near = k == 0
    return DoubleDouble(np.where(near, rest.high, away.high), np.where(near, rest.low, away.low))


def log1p(x: ArrayLike) -> DoubleDouble:
    """Return log(1 + x) for float64 x > -1: one Newton step on the float64 logarithm."""
    value = np.asarray(x, dtype=np.float64)
    guess = np.log1p(value)
    power = exp(DoubleDouble.of(guess))
    near = DoubleDouble.of(value) - expm1(DoubleDouble.of(guess))
    away = DoubleDouble(*two_sum(1.0, value)) - power
    rest = np.where(np.abs(value) < 0.25, near.high, away.high)
    return DoubleDouble(*two_sum(guess, rest / power.high))
