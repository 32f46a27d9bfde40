r"""The noising chain of a schedule and every coefficient that depends on beta alone.

    q(x_t | x_{t-1}) = N(\sqrt{1 - \beta_t} x_{t-1}, \beta_t I),
    \bar\alpha_t = \prod_{r \le t} (1 - \beta_r),   SNR(t) = \bar\alpha_t / (1 - \bar\alpha_t).

Tables have T + 1 entries and are indexed by the level t; level 0 is clean data. The chain carries
log alpha_bar in three float64 parts, so that the difference of two levels keeps its digits even
where a tiny step follows large ones, and rounds once, at the end of each formula.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array, Index
from .double_double import DoubleDouble, exp, expm1, log1p, root_exp, two_sum

Levels = int | NDArray[np.int64]
_Parts = tuple[Array, Array, Array]
_LN2 = log1p(1.0)


class Chain:
    """A variance preserving noising chain.  T-fn7, T-fn9, K-5, G-2, G-22, L-2.0, V-2.

    Args:
        betas: shape (T,), T >= 1, variance of the noise of each step, in (0, 1]; only the last
            may be 1 (zero terminal SNR).

    Raises:
        ValueError: betas is empty, not one-dimensional, or leaves its range.
    """

    def __init__(self, betas: ArrayLike) -> None:
        self.betas = _checked(np.array(betas, dtype=np.float64))
        self.betas.setflags(write=False)
        self._log = _cumulative_log(self.betas)

    @property
    def steps(self) -> int:
        """Number T of noising steps.  K-1..4."""
        return int(self.betas.size)

    @cached_property
    def lambdas(self) -> Array:
        """Amplitude sqrt(1 - beta_t) that step t keeps, shape (T,).  T-fn7, T-4.1.4, G-22."""
        return np.sqrt(1 - self.betas)

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last level holds no signal, beta_T = 1.  T-2.6-cosine."""
        return bool(self.betas[-1] == 1.0)

    def log_signal(self, t: Levels) -> DoubleDouble:
        """Logarithm of alpha_bar at level t, unrounded.  T-eq1, T-fn10."""
        level = checked_levels(t, self.steps)
        return DoubleDouble(self._log[0], self._log[1])[level]

    def log_signal_ratio(self, s: Levels, t: Levels) -> DoubleDouble:
        """Logarithm of alpha_bar_t / alpha_bar_s for s < t, unrounded.  L-tau, K-8..14."""
        low, high = checked_pair(s, t, self.steps)
        parts = _add(_at(self._log, high), _negated(_at(self._log, low)))
        return DoubleDouble(parts[0], parts[1])

    def signal(self, t: Levels) -> DoubleDouble:
        """Signal power alpha_bar at level t, unrounded.  T-eq1, L-fwd, G-23."""
        return self._signal[checked_levels(t, self.steps)]

    def amplitude(self, t: Levels) -> DoubleDouble:
        """Amplitude sqrt(alpha_bar) of the signal at level t, unrounded.  T-eq1, V-eq1."""
        return self._amplitude[checked_levels(t, self.steps)]

    def noise(self, t: Levels) -> DoubleDouble:
        """Noise power 1 - alpha_bar at level t, unrounded.  T-eq1, T-4.1.2."""
        return self._noise[checked_levels(t, self.steps)]

    def step_noise(self, s: Levels, t: Levels) -> DoubleDouble:
        """Noise power 1 - alpha_bar_t / alpha_bar_s of the jump s -> t, unrounded.  L-tau."""
        return one_minus_exp(self.log_signal_ratio(s, t))

    @cached_property
    def log_alpha_bar(self) -> Array:
        """Table of log alpha_bar, shape (T + 1,).  T-eq1, T-fn10."""
        return self._log[0]

    @cached_property
    def alpha_bar(self) -> Array:
        """Table of the signal power alpha_bar, shape (T + 1,).  T-4.1.4, K-abar, G-23, L-fwd."""
        return self._signal.high

    @cached_property
    def one_minus_alpha_bar(self) -> Array:
        """Table of the noise power 1 - alpha_bar, shape (T + 1,).  T-eq1, V-8.1, X-float32."""
        return self._noise.high

    @cached_property
    def c(self) -> Array:
        """Table of sqrt(alpha_bar), the signal's amplitude, (T + 1,).  T-2.1-lim, T-4.1.4."""
        return self._amplitude.high

    @cached_property
    def d(self) -> Array:
        """Table of sqrt(1 - alpha_bar), the noise's deviation, (T + 1,).  T-eq1, V-eq1."""
        return self._noise.sqrt().high

    @cached_property
    def snr(self) -> Array:
        """Table of alpha_bar / (1 - alpha_bar), infinite at level 0.  T-SNR, T-fn27, T-4.2-ends."""
        return (self._signal / self._noise).high

    @cached_property
    def log_snr(self) -> Array:
        """Table of log SNR, from infinity down; minus infinity at zero SNR.  T-2.6-logsnr.

        Near SNR = 1 the logarithm passes through zero, so three forms share the range: with
        u = 1 / SNR = expm1(-log alpha_bar) it is -log u, -log1p(u - 1), or
        log alpha_bar - log(1 - alpha_bar).
        """
        # The bounds on the arguments only keep the branches that are not chosen from overflowing.
        bounded = DoubleDouble(np.maximum(self._log[0], -600.0), self._log[1])
        excess = 2 * expm1(-(bounded + _LN2)).high
        with np.errstate(divide="ignore"):
            clean = -np.log(expm1(-bounded).high)
        near = -np.log1p(np.maximum(excess, -0.75))
        noisy = self._log[0] - np.log1p(-np.minimum(self.alpha_bar, 0.5))
        return np.where(excess < -0.5, clean, np.where(excess < 1.0, near, noisy))

    def alpha(self, s: Levels, t: Levels) -> Array:
        """Signal kept by the jump s -> t, alpha_bar_t / alpha_bar_s.  K-8..14, L-tau."""
        return exp(self.log_signal_ratio(s, t)).high

    def beta(self, s: Levels, t: Levels) -> Array:
        """Noise power of the jump s -> t, 1 - alpha_bar_t / alpha_bar_s.  K-8..14, L-tau, G-48."""
        return self.step_noise(s, t).high

    def marginal_variance(self, data_variance: float) -> Array:
        """Table of Var x_t, alpha_bar Var x_0 + 1 - alpha_bar, shape (T + 1,).  T-fn9, T-fn27.

        Args:
            data_variance: variance of the data, at least 0; with 1 every level has variance 1.

        Raises:
            ValueError: data_variance is negative or not finite.
        """
        if not 0 <= data_variance < np.inf:
            raise ValueError(f"data_variance must be finite and at least 0, got {data_variance}")
        return self.alpha_bar * data_variance + self.one_minus_alpha_bar

    def snr_drop(self, s: Levels, t: Levels) -> Array:
        """SNR(s) - SNR(t) >= 0 for s < t, infinite at s = 0.  T-fn28, T-eq3, V-eq6, L-2.6.

        Written as alpha_bar_s beta / ((1 - alpha_bar_s)(1 - alpha_bar_t)), which subtracts nothing.
        """
        left = self.signal(s) * self.step_noise(s, t)
        return (left / self.noise(s) / self.noise(t)).high

    @cached_property
    def _signal(self) -> DoubleDouble:
        return exp(DoubleDouble(self._log[0], self._log[1]))

    @cached_property
    def _amplitude(self) -> DoubleDouble:
        return root_exp(DoubleDouble(self._log[0], self._log[1]))

    @cached_property
    def _noise(self) -> DoubleDouble:
        return one_minus_exp(DoubleDouble(self._log[0], self._log[1]))


def one_minus_exp(x: DoubleDouble) -> DoubleDouble:
    """Return 1 - exp(x) for x <= 0 without cancellation, and +0 at x = 0.  T-eq1, T-4.1.2."""
    return -expm1(x) + 0.0


def checked_levels(t: Levels, steps: int) -> NDArray[np.int64]:
    """Return levels as int64 after checking 0 <= t <= steps.  T-2.3-uniform.

    Raises:
        TypeError: t is not made of integers.
        ValueError: a level lies outside 0..steps.
    """
    level = np.asarray(t)
    if level.dtype.kind not in "iu":
        raise TypeError(f"t must be an integer or integers, got dtype {level.dtype}")
    if np.any((level < 0) | (level > steps)):
        raise ValueError(f"t must lie in 0..{steps}, got {t}")
    return level.astype(np.int64)


def checked_pair(s: Levels, t: Levels, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two levels as int64 after checking 0 <= s < t <= steps.  L-tau.

    Raises:
        TypeError: s or t is not made of integers.
        ValueError: a level lies outside 0..steps, or some s >= t.
    """
    low, high = checked_levels(s, steps), checked_levels(t, steps)
    if np.any(low >= high):
        raise ValueError(f"s must be less than t, got s = {s}, t = {t}")
    return low, high


def _checked(betas: Array) -> Array:
    if betas.ndim != 1 or betas.size == 0:
        raise ValueError(f"betas must have shape (T,) with T >= 1, got {betas.shape}")
    if not np.all((betas > 0) & (betas <= 1)):
        raise ValueError(
            f"betas must lie in (0, 1], got {betas[~((betas > 0) & (betas <= 1))][:1]}"
        )
    if np.any(betas[:-1] == 1):
        raise ValueError("betas may be 1 at the last level only")
    return betas


def _cumulative_log(betas: Array) -> _Parts:
    """Return log alpha_bar at levels 0..T in three parts, summed by doubling strides."""
    last_is_one = betas[-1] == 1.0
    terms = log1p(-betas[:-1] if last_is_one else -betas)
    zero = np.zeros(1)
    parts: _Parts = (
        np.concatenate([zero, terms.high]),
        np.concatenate([zero, terms.low]),
        np.zeros(terms.high.size + 1),
    )
    stride = 1
    while stride < parts[0].size:
        tail = _add(_at(parts, slice(stride, None)), _at(parts, slice(None, -stride)))
        parts = _joined(_at(parts, slice(None, stride)), tail)
        stride *= 2
    return _joined(parts, (-np.array([np.inf]), zero, zero)) if last_is_one else parts


def _add(x: _Parts, y: _Parts) -> _Parts:
    """Add two three-part numbers and push the errors down."""
    high, error = two_sum(x[0], y[0])
    middle, error_of_middle = two_sum(x[1], y[1])
    middle, error_of_carry = two_sum(middle, error)
    low = x[2] + y[2] + error_of_middle + error_of_carry
    high, middle = two_sum(high, middle)
    middle, low = two_sum(middle, low)
    high, middle = two_sum(high, middle)
    return high, middle, low


def _at(parts: _Parts, index: Index) -> _Parts:
    high, middle, low = parts
    return np.asarray(high[index]), np.asarray(middle[index]), np.asarray(low[index])


def _negated(parts: _Parts) -> _Parts:
    return -parts[0], -parts[1], -parts[2]


def _joined(x: _Parts, y: _Parts) -> _Parts:
    high, middle, low = (np.concatenate(pair) for pair in zip(x, y, strict=True))
    return high, middle, low
