r"""Noise that is added continuously: stochastic differential equations and their reversal.

    dx = f(x, t) dt + g(t) dw,
    reversed:          dx = (f - g^2 \nabla \log p_t) dt + g d\bar w,  dt < 0,
    without any noise: dx = (f - g^2 \nabla \log p_t / 2) dt.

All three keep the marginals p_t. The linear equations below start from x(0) and have the law
x(t) | x(0) = N(gain x(0), variance); each is built from one rate, a function of t >= 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import integrate

from .arrays import Array, as_float, shaped_like
from .chain import Chain

Curve = Callable[[float], float]
Drift = Callable[[Array, float], Array]


class Marginal(NamedTuple):
    """Law N(gain x(0), variance) of x(t) given x(0).  G-52, G-53."""

    gain: float
    variance: float


@dataclass(frozen=True)
class SDE:
    """The equation dx = f(x, t) dt + g(t) dw.  G-53.

    Args:
        drift: f, from samples of any shape and a time to that shape.
        diffusion: g, at least 0.
        law: the law of x(t) given x(0), where it is known.
    """

    drift: Drift
    diffusion: Curve
    law: Callable[[float], Marginal] | None = None

    @staticmethod
    def vp(rate: Curve) -> SDE:
        r"""Variance preserving, f = -\beta x / 2 and g^2 = \beta.  G-52.

        With B the integral of beta from 0 to t, gain = exp(-B / 2) and variance = 1 - exp(-B).
        """

        def law(t: float) -> Marginal:
            total = _integral(rate, t)
            return Marginal(float(np.exp(-total / 2)), float(-np.expm1(-total)))

        return SDE(lambda x, t: -rate(t) / 2 * x, lambda t: float(np.sqrt(rate(t))), law)

    @staticmethod
    def ve(rate: Curve) -> SDE:
        """Variance exploding, f = 0, g^2 the rate of sigma^2.  X-SDE-VE, G-53, T-3-VE.

        The gain is 1 and the variance sigma^2(t) - sigma^2(0), the integral of the rate.
        """
        return SDE(
            lambda x, _: np.zeros_like(x),
            lambda t: float(np.sqrt(rate(t))),
            lambda t: Marginal(1.0, _integral(rate, t)),
        )

    @staticmethod
    def sub_vp(rate: Curve) -> SDE:
        r"""The drift of VP with g^2 = \beta (1 - \exp(-2 B)).  X-SDE-subVP, G-53.

        The gain is that of VP and the variance (1 - exp(-B))^2 its square, so never larger.
        """

        def diffusion(t: float) -> float:
            return float(np.sqrt(-rate(t) * np.expm1(-2 * _integral(rate, t))))

        def law(t: float) -> Marginal:
            gain, variance = SDE.vp(rate).marginal(t)
            return Marginal(gain, variance**2)

        return SDE(SDE.vp(rate).drift, diffusion, law)

    def marginal(self, t: float) -> Marginal:
        """Law of x(t) given x(0).  G-52, G-53, X-SDE-VE, X-SDE-subVP.

        Raises:
            ValueError: t is negative, or the law of this equation is not known.
        """
        if not t >= 0:
            raise ValueError(f"t must be at least 0, got {t}")
        if self.law is None:
            raise ValueError("law must be given for the marginal of a general equation")
        return self.law(t)

    def reverse_drift(self, x: Array, t: float, score: Array) -> Array:
        r"""Drift f - g^2 \nabla \log p_t of the equation run from T down to 0.  G-54.

        Args:
            x: samples, shape (batch, ...).
            t: time.
            score: gradient of log p_t at x, same shape.

        Raises:
            ValueError: the shapes differ.
        """
        return self._steered(x, t, score, 1.0)

    def probability_flow_drift(self, x: Array, t: float, score: Array) -> Array:
        r"""Velocity f - g^2 \nabla \log p_t / 2 without noise.  X-probability-flow, G-54.

        Args:
            x: samples, shape (batch, ...).
            t: time.
            score: gradient of log p_t at x, same shape.

        Raises:
            ValueError: the shapes differ.
        """
        return self._steered(x, t, score, 0.5)

    def _steered(self, x: Array, t: float, score: Array, share: float) -> Array:
        samples = as_float(x, "x")
        slope = shaped_like(score, samples, "score")
        return self.drift(samples, t) - share * self.diffusion(t) ** 2 * slope


def linear_rate(first: float, last: float, horizon: float = 1.0) -> Curve:
    """The rate beta(t) that grows linearly from `first` to `last`.  G-52, T-2.6-linear.

    Args:
        first: rate at t = 0, at least 0.
        last: rate at t = horizon, at least 0.
        horizon: end of time, positive.

    Raises:
        ValueError: a rate is negative or the horizon is not positive.
    """
    if not (first >= 0 and last >= 0):
        raise ValueError(f"first and last must be at least 0, got {first} and {last}")
    _check_horizon(horizon)
    return lambda t: first + (last - first) * t / horizon


def geometric_rate(low: float, high: float) -> Curve:
    """Rate of sigma^2 for sigma(t) = low (high / low)^t on [0, 1].  X-SDE-VE, T-3-VE.

    Args:
        low: sigma(0), positive.
        high: sigma(1), greater than `low`.

    Raises:
        ValueError: not 0 < low < high.
    """
    if not 0 < low < high:
        raise ValueError(f"low and high must fulfil 0 < low < high, got {low} and {high}")
    growth = 2 * np.log(high / low)
    return lambda t: float(low**2 * growth * np.exp(growth * t))


def refined_chain(rate: Curve, steps: int, horizon: float = 1.0) -> Chain:
    """The chain with beta_i = beta(t_i) dt, t_i = i dt, dt = horizon / T.  G-52.

    Its alpha_bar tends to exp(-B(t)) as T grows, with an error of order dt. With the betas held
    fixed nothing converges.

    Args:
        rate: beta(t), positive.
        steps: T >= 1, so large that every beta_i <= 1.
        horizon: end of time, positive.

    Raises:
        ValueError: steps < 1, the horizon is not positive, or a beta_i leaves (0, 1].
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    _check_horizon(horizon)
    dt = horizon / steps
    return Chain([rate(i * dt) * dt for i in range(1, steps + 1)])


def _integral(rate: Curve, t: float) -> float:
    """Integral of the rate from 0 to t, on a unit interval so that a tiny t keeps its digits."""
    found = integrate.quad(lambda share: rate(share * t), 0.0, 1.0, epsabs=0.0, epsrel=1e-12)
    return float(t * found[0])


def _check_horizon(horizon: float) -> None:
    if not horizon > 0:
        raise ValueError(f"horizon must be positive, got {horizon}")
