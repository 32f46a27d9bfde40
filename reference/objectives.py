r"""Training objectives: squared errors, and the divergences of the variational bound.

    KL(q(x_s | x_t, x_0) || N(mean, \sigma^2 I)) = w ||target - output||^2 + C,
    w = J^2 / (2 \sigma^2),  C = d/2 (s2/\sigma^2 - 1 - \log(s2/\sigma^2)),

where J is the factor by which an error of the output moves the mean: 1 for the mean, a for x0,
a d_t for v, a d_t / c_t for eps and a d_t^2 / c_t for the score.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array, as_float
from .chain import Chain, Levels, checked_levels
from .double_double import DoubleDouble, exp
from .forward import q_sample
from .gaussian import spread_divergence
from .parameterisations import Prediction
from .posterior import posterior_coefficients
from .variances import Variance, model_variance


def simple_loss(target: Array, output: Array) -> Array:
    """Squared error of each sample, averaged over its elements.  K-79, V-simple, G-41, L-2.12.

    The papers sum over the elements; the mean keeps the scale when the size of a sample changes.

    Args:
        target: what the network should return, shape (batch, ...).
        output: what it returns, same shape.

    Returns:
        Shape (batch,); zero for samples without elements.

    Raises:
        ValueError: the shapes differ or have no batch axis.
    """
    error = _squared_error(target, output)
    return np.asarray(error.sum(axis=1) / max(error.shape[1], 1))


def weighted_loss(target: Array, output: Array, weight: ArrayLike) -> Array:
    """Simple loss of each sample times its weight.  L-2.12, T-fn16.

    Args:
        target: what the network should return, shape (batch, ...).
        output: what it returns, same shape.
        weight: at least 0, a number or shape (batch,).

    Raises:
        ValueError: the shapes differ or a weight is negative.
    """
    factor = as_float(weight, "weight")
    if np.any(factor < 0):
        raise ValueError(f"weight must be at least 0, got {factor.min()}")
    return simple_loss(target, output) * factor


def noise_loss(
    predict: Callable[[Array, Levels], Array], x0: Array, chain: Chain, t: Levels, noise: Array
) -> Array:
    """Simple loss of one turn of the training loop, which forms x_t.  V-alg1, G-Alg1, K-79, G-41.

    Args:
        predict: the network, which gives the noise in (x_t, t).
        x0: clean samples, shape (batch, ...).
        chain: the noising chain.
        t: levels, uniform in 1..T, shape (batch,), or one number for all.
        noise: standard normal numbers, shaped like x0.

    Returns:
        Shape (batch,); its mean is to be minimised.

    Raises:
        ValueError: t leaves 1..T or a shape does not fit.
    """
    level = _noisy_levels(chain, t)
    x_t = q_sample(x0, chain.alpha_bar[level], noise, chain.one_minus_alpha_bar[level])
    return simple_loss(noise, predict(x_t, t))


def bound_weight(
    prediction: Prediction, chain: Chain, s: Levels, t: Levels, variance: Variance = "posterior"
) -> Array:
    """Weight w of the squared error in the bound.  V-eq5, V-eq6, V-eq7, K-78, G-40.

    With the posterior's variance it is 1 / (2 s2) for the mean (L-2.5), half of SNR(s) - SNR(t) for
    x0 (L-2.6) and half of SNR(s) / SNR(t) - 1 for eps (L-2.9).

    Args:
        prediction: what the network returns.
        chain: the noising chain.
        s: cleaner level, s >= 1: at s = 0 the term is the decoder's.
        t: noisier level.
        variance: variance of the model's step.

    Returns:
        w, shaped like the levels; the squared error is to be summed over the elements.

    Raises:
        ValueError: s = 0, or eps or score at zero SNR.
    """
    if np.any(np.asarray(s) == 0):
        raise ValueError(f"s must be at least 1, got {s}: the last step is the decoder's term")
    return _error_weight(prediction, chain, s, t, model_variance(chain, s, t, variance))


def noise_weight(chain: Chain, t: Levels, decoder_variance: float) -> Array:
    """Weight gamma_t of the noise's squared error, the first level's too.  L-2.12, L-2.11-gamma0.

    From level 2 on it is the bound's, beta_t / (2 alpha_t (1 - alpha_bar_{t-1})).  At level 1 the
    density N(mean, sigma_1^2 I) of the decoder gives beta_1 / (2 alpha_1 sigma_1^2), where the
    posterior's variance, 0, would make it infinite.

    Args:
        chain: the noising chain.
        t: level in 1..T.
        decoder_variance: sigma_1^2, positive.

    Raises:
        ValueError: t leaves 1..T, the variance is not positive, or there is no signal at t.
    """
    if not decoder_variance > 0:
        raise ValueError(f"decoder_variance must be positive, got {decoder_variance}")
    level = _noisy_levels(chain, t)
    s2 = posterior_coefficients(chain, level - 1, level).s2
    spread = np.where(level == 1, decoder_variance, s2)
    return _error_weight("eps", chain, level - 1, level, spread)


def simple_weight(chain: Chain, t: Levels) -> Array:
    """Weight that turns the bound's eps term (sigma^2 = beta) into the simple loss.  T-2.6-simple.

    alpha_t (1 - alpha_bar_t) / beta_t for the step t - 1 -> t, that is 1 / (2 w) of K-78.

    Args:
        chain: the noising chain.
        t: level in 1..T.
    """
    s = np.asarray(t) - 1
    noise = chain.one_minus_alpha_bar[np.asarray(t)]
    return np.asarray(chain.alpha(s, t) * noise / chain.beta(s, t))


def variance_constant(
    chain: Chain, s: Levels, t: Levels, elements: int, variance: Variance = "posterior"
) -> Array:
    """The part C of the divergence that no prediction changes, in nats.  K-66.

    Args:
        chain: the noising chain.
        s: cleaner level, s >= 1.
        t: noisier level.
        elements: number of coordinates of a sample.
        variance: variance of the model's step; zero for "posterior".

    Raises:
        ValueError: s = 0, where the posterior is a point mass.
    """
    ratio = posterior_coefficients(chain, s, t).s2 / model_variance(chain, s, t, variance)
    return np.asarray(elements * spread_divergence(ratio))


def level_kl(
    prediction: Prediction,
    target: Array,
    output: Array,
    chain: Chain,
    s: Levels,
    t: Levels,
    variance: Variance = "posterior",
) -> Array:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in nats.  K-62, K-66, K-78, V-eq5, L-2.5.

    Args:
        prediction: what target and output are.
        target: its true value for the sample, shape (batch, ...).
        output: the network's value, same shape.
        chain: the noising chain.
        s: cleaner level, s >= 1, a number or shape (batch,).
        t: noisier level, a number or shape (batch,).
        variance: variance of the model's step.

    Returns:
        Shape (batch,), summed over the elements of a sample.

    Raises:
        ValueError: the shapes differ, s = 0, or eps or score at zero SNR.
    """
    error = _squared_error(target, output)
    weight = bound_weight(prediction, chain, s, t, variance)
    constant = variance_constant(chain, s, t, error.shape[1], variance)
    return np.asarray(weight * error.sum(axis=1) + constant)


def prior_kl(x0: Array, chain: Chain) -> Array:
    """KL(q(x_T | x_0) || N(0, I)) in nats.  K-61, L-CT-closed, L-CT, V-eq3.

    Args:
        x0: clean samples, shape (batch, ...).
        chain: the noising chain.

    Returns:
        Shape (batch,), summed over the elements of a sample.

    Raises:
        ValueError: x0 has no batch axis.
    """
    square = _squared_error(x0, np.zeros_like(as_float(x0, "x0")))
    signal = chain.alpha_bar[-1]
    log_noise = np.log1p(-signal) if signal < 0.5 else np.log(chain.one_minus_alpha_bar[-1])
    return np.asarray((signal * square.sum(axis=1) - square.shape[1] * (signal + log_noise)) / 2)


def _noisy_levels(chain: Chain, t: Levels) -> NDArray[np.int64]:
    level = checked_levels(t, chain.steps)
    if np.any(level == 0):
        raise ValueError(f"t must lie in 1..{chain.steps}, got {t}")
    return level


def _error_weight(
    prediction: Prediction, chain: Chain, s: Levels, t: Levels, variance: Array
) -> Array:
    """J^2 / (2 sigma^2), with the signal, which may be tiny, as the last factor."""
    beta, noise, kept = chain.step_noise(s, t), chain.noise(t), exp(chain.log_signal_ratio(s, t))
    if prediction in ("eps", "score") and np.any(kept.high == 0):
        raise ValueError(f"{prediction} has no finite weight at zero SNR, t = {t}")
    share, unit = beta / noise, DoubleDouble.of(np.ones_like(beta.high))
    signal = chain.signal(s)
    factors = {
        "eps": (beta * share, unit / kept),
        "score": (beta * beta, unit / kept),
        "v": (beta * share, signal),
        "x0": (share * share, signal),
        "mean": (unit, unit),
    }
    if prediction not in factors:
        raise ValueError(f"prediction must be one of {tuple(factors)}, got {prediction!r}")
    square, last = factors[prediction]
    return (square / DoubleDouble.of(2 * variance) * last).high


def _squared_error(target: Array, output: Array) -> Array:
    x, y = as_float(target, "target"), as_float(output, "output")
    if x.shape != y.shape or x.ndim == 0:
        raise ValueError(f"output must have the target's shape (batch, ...): {x.shape}, {y.shape}")
    return ((x - y) ** 2).reshape(x.shape[0], int(np.prod(x.shape[1:])))
