r"""Sampling near a reference y, whose low frequencies replace those of the sample at every step.

    y_{t-1} = \sqrt{\bar\alpha_{t-1}} y + \sqrt{1 - \bar\alpha_{t-1}} \epsilon,
    x' ~ p(x_{t-1} | x_t),   x_{t-1} = x' - \phi_n(x') + \phi_n(y_{t-1}).

The filter \phi_n lowers the resolution by n and raises it again. With block means and repetition
it is an orthogonal projection P, so that P x_{t-1} = P y_{t-1} after every step.
"""

from collections.abc import Callable

import numpy as np

from .arrays import Array, as_float, shaped_like
from .chain import Chain, Levels, checked_levels
from .forward import q_sample
from .parameterisations import predict_x0
from .sampling import ancestral_step, descend
from .variances import Variance

Filter = Callable[[Array], Array]
"""A low-pass filter phi_n of samples, shape (batch, ...) to the same shape."""

NoiseModel = Callable[[Array, int], Array]
"""The network's noise eps(x_t, t), shaped like x_t."""


def low_pass(x: Array, factor: int, axes: int = 1) -> Array:
    """phi_n by means over blocks of n and repetition, along the last axes.  G-ILVR-phi.

    An orthogonal projection of rank d / n on each axis; phi_1 = I, and phi_m phi_n = phi_m where n
    divides m. A filter that interpolates instead is no projection.

    Args:
        x: samples, shape (batch, ...).
        factor: n >= 1, a divisor of the length of each filtered axis.
        axes: how many of the last axes are filtered: 1 for signals, 2 for images.

    Raises:
        ValueError: factor < 1 or no divisor, or axes is out of range.
    """
    result = as_float(x, "x")
    if not 1 <= axes < result.ndim:
        raise ValueError(f"axes must lie in 1..{result.ndim - 1}, got {axes}")
    if factor < 1 or any(length % factor for length in result.shape[-axes:]):
        raise ValueError(f"factor must divide the lengths {result.shape[-axes:]}, got {factor}")
    for axis in range(-axes, 0):
        blocks = np.moveaxis(result, axis, -1)
        blocks = blocks.reshape(*blocks.shape[:-1], blocks.shape[-1] // factor, factor)
        means = np.repeat(blocks.mean(axis=-1), factor, axis=-1)
        result = np.moveaxis(means, -1, axis)
    return result


def noisy_reference(chain: Chain, t: Levels, reference: Array, noise: Array) -> Array:
    """The reference at level t, exactly itself at t = 0.  G-51.

    Where the model was trained with `priorgrad`, its `prior_q_sample` takes this place.

    Args:
        chain: the noising chain.
        t: level in 0..T, a number or shape (batch,).
        reference: y, shape (batch, ...).
        noise: standard normal numbers, same shape.

    Raises:
        ValueError: a level is out of range or the shapes differ.
    """
    level = checked_levels(t, chain.steps)
    return q_sample(reference, chain.alpha_bar[level], noise, chain.one_minus_alpha_bar[level])


def ilvr_step(
    chain: Chain,
    t: int,
    x_t: Array,
    eps: Array,
    reference: Array,
    noise: Array,
    reference_noise: Array,
    phi: Filter,
    variance: Variance = "posterior",
) -> Array:
    """Draw x_{t-1}: an ancestral step, then the low frequencies replaced.  G-Alg3, G-Alg3-eps.

    The mean is (x_t - beta_t / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t). With phi = 0 this is
    ancestral sampling.

    Args:
        chain: the noising chain.
        t: level of x_t in 1..T.
        x_t: noisy samples, shape (batch, ...).
        eps: the network's noise, same shape.
        reference: y, same shape.
        noise: standard normal numbers of the step, same shape.
        reference_noise: those of the noisy reference, drawn on their own.
        phi: the low-pass filter.
        variance: "posterior" or "beta".

    Raises:
        ValueError: the level is out of range, the shapes differ, or the signal is zero at t.
    """
    x = as_float(x_t, "x_t")
    target = noisy_reference(chain, t - 1, shaped_like(reference, x, "reference"), reference_noise)
    clean = predict_x0("eps", eps, x, chain, t)
    drawn = ancestral_step(chain, t - 1, t, x, clean, noise, variance)
    return np.asarray(drawn - phi(drawn) + phi(target))


def ilvr_sample(
    chain: Chain,
    model: NoiseModel,
    reference: Array,
    noise: Array,
    reference_noise: Array,
    phi: Filter,
    variance: Variance = "posterior",
) -> Array:
    """Samples whose low frequencies are those of the reference.  G-Alg3, G-Alg3/n, G-ILVR-phi.

    The smaller n, the nearer the sample lies to the reference; with phi = I it is the reference.

    Args:
        chain: the noising chain.
        model: the network.
        reference: y, shape (batch, ...).
        noise: standard normal numbers, shape (T + 1, batch, ...); entry t - 1 is used in the step
            that leaves level t, entry T at the start.
        reference_noise: those of the noisy reference, shape (T, batch, ...).
        phi: the low-pass filter.
        variance: "posterior" or "beta".

    Raises:
        ValueError: the noise does not fit.
    """
    y, others = as_float(reference, "reference"), as_float(reference_noise, "reference_noise")
    if others.shape != (chain.steps, *y.shape):
        raise ValueError(
            f"reference_noise must have shape {(chain.steps, *y.shape)}: {others.shape}"
        )

    def step(s: int, t: int, x_t: Array, eps: Array, z: Array) -> Array:
        return ilvr_step(chain, t, x_t, eps, y, z, others[s], phi, variance)

    return descend(step, model, range(chain.steps, -1, -1), noise)
