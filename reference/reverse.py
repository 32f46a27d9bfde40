r"""The exact reverse step where the law of the data is known, here a Gaussian mixture.

    q(x_s | x_t) = q(x_t | x_s) q(x_s) / q(x_t),

a mixture again, not a Gaussian, but the closer to one the smaller the step. It is wider than
q(x_s | x_t, x_0), because x_t leaves open which x_0 it came from.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .augmentation import at_level
from .chain import Chain
from .mixture import Mixture


def exact_reverse_log_density(
    data: Mixture, chain: Chain, s: int, t: int, x_t: ArrayLike, x_s: ArrayLike
) -> Array:
    """Log q(x_s | x_t) in nats by the rule of Bayes.  K-3.5-bayes.

    Args:
        data: law of x_0; every component needs a width if s = 0.
        chain: the noising chain.
        s: cleaner level.
        t: noisier level, s < t.
        x_t: points, any shape.
        x_s: points, broadcast with x_t.

    Raises:
        ValueError: a level is out of range, s >= t, or x_s has a component without width.
    """
    gain, noise = _step(chain, s, t)
    law, clean, noisy = at_level(data, chain, s), as_float(x_s, "x_s"), as_float(x_t, "x_t")
    step = -((noisy - gain * clean) ** 2 / noise + np.log(2 * np.pi * noise)) / 2
    return np.asarray(step + law.log_density(clean, 1.0, 0.0) - law.log_density(noisy, gain, noise))


def exact_reverse_moments(
    data: Mixture, chain: Chain, s: int, t: int, x_t: ArrayLike
) -> tuple[Array, Array]:
    """Mean and variance of q(x_s | x_t).  K-3.5-highvar, T-fn17, T-fn25, T-2.5-opt, T-2.5-var1.

    Args:
        data: law of x_0.
        chain: the noising chain.
        s: cleaner level.
        t: noisier level, s < t.
        x_t: points, any shape.

    Returns:
        Both shaped like x_t. The mean of the variance over x_t is the best constant variance.

    Raises:
        ValueError: a level is out of range or s >= t.
    """
    gain, noise = _step(chain, s, t)
    law = at_level(data, chain, s)
    return law.denoised(x_t, gain, noise), law.uncertainty(x_t, gain, noise)


def exact_reverse_kurtosis(data: Mixture, chain: Chain, s: int, t: int, x_t: ArrayLike) -> Array:
    """Excess kurtosis of q(x_s | x_t), 0 for a Gaussian.  T-fn17.

    For small steps it is beta^2 times the fourth derivative of log q(x_s), so that steps become
    Gaussian as they shrink.

    Args:
        data: law of x_0.
        chain: the noising chain.
        s: cleaner level, s >= 1.
        t: noisier level, s < t.
        x_t: points, any shape.

    Raises:
        ValueError: a level is out of range, s = 0, or s >= t.
    """
    if s == 0:
        raise ValueError("s must be at least 1, got 0: data may have no width")
    gain, noise = _step(chain, s, t)
    law, noisy = at_level(data, chain, s), as_float(x_t, "x_t")
    alone = [Mixture(np.ones(1), law.means[[k]], law.variances[[k]]) for k in range(law.means.size)]
    log_shares = [part.log_density(noisy, gain, noise) for part in alone]
    shares = law.weights * np.exp(
        np.stack(log_shares, axis=-1) - law.log_density(noisy, gain, noise)[..., None]
    )
    means = np.stack([part.denoised(noisy, gain, noise) for part in alone], axis=-1)
    spreads = np.stack([part.uncertainty(noisy, gain, noise) for part in alone], axis=-1)
    squares = (means - np.sum(shares * means, axis=-1, keepdims=True)) ** 2
    second = np.sum(shares * (spreads + squares), axis=-1)
    fourth = np.sum(shares * (3 * spreads**2 + 6 * spreads * squares + squares**2), axis=-1)
    return np.asarray(fourth / second**2 - 3)


def _step(chain: Chain, s: int, t: int) -> tuple[float, float]:
    """Amplitude and noise variance of the jump s -> t."""
    return float(np.sqrt(chain.alpha(s, t))), float(chain.beta(s, t))
