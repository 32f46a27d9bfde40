r"""One step of a solver for dx = f(x, t) dt + g(t) dw, forward or backward in time.

    Euler-Maruyama:  x + f(x, t) h + g(t) \sqrt{|h|} z,
    Heun:            x + (f(x, t) + f(\tilde x, t + h)) h / 2 + (g(t) + g(t + h)) \sqrt{|h|} z / 2,

where \tilde x is the Euler step with the same z. Their weak orders are 1 and 2. Without noise the
second is Heun's method for an ordinary equation. The step h is negative for a reversed equation.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .arrays import Array, as_float, shaped_like
from .sde import Curve, Drift

Step = Callable[[Array, float, float, Array], Array]


def euler_maruyama(
    drift: Drift, diffusion: Curve, x: Array, t: float, h: float, noise: Array
) -> Array:
    """One step of weak order 1.  G-5-solvers, G-53, G-54.

    Args:
        drift: f, from samples and a time to the shape of the samples.
        diffusion: g, from a time to a number.
        x: samples at t, shape (batch, ...).
        t: time at which the step starts.
        h: length of the step; negative to go back in time.
        noise: standard normal numbers, shaped like x.

    Raises:
        ValueError: the noise does not have the shape of x.
    """
    samples = as_float(x, "x")
    kick = diffusion(t) * np.sqrt(abs(h)) * shaped_like(noise, samples, "noise")
    return np.asarray(samples + drift(samples, t) * h + kick)


def stochastic_heun(
    drift: Drift, diffusion: Curve, x: Array, t: float, h: float, noise: Array
) -> Array:
    """One step of a two-stage stochastic Runge-Kutta method, weak order 2.  G-5-solvers.

    The order needs a diffusion that does not depend on x, as here.

    Args:
        drift: f, from samples and a time to the shape of the samples.
        diffusion: g, from a time to a number.
        x: samples at t, shape (batch, ...).
        t: time at which the step starts.
        h: length of the step; negative to go back in time.
        noise: standard normal numbers, shaped like x.

    Raises:
        ValueError: the noise does not have the shape of x.
    """
    samples = as_float(x, "x")
    guess = euler_maruyama(drift, diffusion, samples, t, h, noise)
    slope = (drift(samples, t) + drift(guess, t + h)) / 2
    kick = (diffusion(t) + diffusion(t + h)) / 2 * np.sqrt(abs(h)) * noise
    return np.asarray(samples + slope * h + kick)


def heun(drift: Drift, x: Array, t: float, h: float) -> Array:
    """One step of order 2 without noise, as the probability flow asks for.  G-5-solvers.

    Args:
        drift: the velocity, from samples and a time to the shape of the samples.
        x: samples at t, shape (batch, ...).
        t: time at which the step starts.
        h: length of the step; negative to go back in time.
    """
    return stochastic_heun(drift, lambda _: 0.0, x, t, h, np.zeros(np.shape(x)))


def solve(step: Step, x: Array, times: Sequence[float], noises: Array) -> Array:
    """Samples at the last of the times, one step from each time to the next.  G-5-solvers.

    Args:
        step: takes (x, t, h, noise) to the samples at t + h.
        x: samples at the first time, shape (batch, ...).
        times: shape (n + 1,), strictly monotone, n >= 1.
        noises: standard normal numbers, shape (n, batch, ...).

    Raises:
        ValueError: the times do not go one way, or the noises do not fit.
    """
    samples, gaps = as_float(x, "x"), np.diff(as_float(times, "times"))
    if gaps.size == 0 or not (np.all(gaps > 0) or np.all(gaps < 0)):
        raise ValueError(f"times must be at least two and strictly monotone, got {times}")
    if np.shape(noises) != (gaps.size, *samples.shape):
        raise ValueError(
            f"noises must have shape {(gaps.size, *samples.shape)}, got {np.shape(noises)}"
        )
    for t, h, noise in zip(times[:-1], gaps.tolist(), noises, strict=True):
        samples = step(samples, t, h, noise)
    return samples
