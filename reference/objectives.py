r"""Training objectives: squared errors, and the divergences of the variational bound.

    KL(q(x_s | x_t, x_0) || N(mean, \sigma^2 I)) = w ||target - output||^2 + C,
    w = J^2 / (2 \sigma^2),  C = d/2 (s2/\sigma^2 - 1 - \log(s2/\sigma^2)),

where J is the factor by which an error of the output moves the mean: 1 for the mean, a for x0,
a d_t for v, a d_t / c_t for eps and a d_t^2 / c_t for the score.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .chain import Chain, Levels
from .gaussian import spread_divergence
from .parameterisations import Prediction
from .posterior import Variance, model_variance, posterior_coefficients


def simple_loss(target: Array, output: Array) -> Array:
    """Squared error of each sample, averaged over its elements.  K-79, V-alg1, G-41, L-2.12.

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
    """Simple loss of each sample times its weight.  T-2.3-obj, T-fn16, L-2.12, G-45-T.

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


def bound_weight(
    prediction: Prediction, chain: Chain, s: Levels, t: Levels, variance: Variance = "posterior"
) -> Array:
    """Weight w of the squared error in the bound.  V-eq5..7, L-2.5..2.9, K-78, T-eq3, G-40.

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
    jacobian = _mean_jacobian(prediction, chain, s, t)
    return np.asarray(jacobian**2 / (2 * model_variance(chain, s, t, variance)))


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
    """The part C of the divergence that no prediction changes, in nats.  K-66, V-eq5.

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
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in nats.  K-62, K-66, K-78, V-eq5..7, L-2.5..2.9, G-40.

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


def _mean_jacobian(prediction: Prediction, chain: Chain, s: Levels, t: Levels) -> Array:
    a = posterior_coefficients(chain, s, t).a
    c, d = chain.c[np.asarray(t)], chain.d[np.asarray(t)]
    if prediction in ("eps", "score") and np.any(c == 0):
        raise ValueError(f"{prediction} has no finite weight at zero SNR, t = {t}")
    with np.errstate(divide="ignore"):
        factors = {"eps": a * d / c, "score": a * d**2 / c, "v": a * d, "x0": a, "mean": a**0}
    if prediction not in factors:
        raise ValueError(f"prediction must be one of {tuple(factors)}, got {prediction!r}")
    return np.asarray(factors[prediction])


def _squared_error(target: Array, output: Array) -> Array:
    x, y = as_float(target, "target"), as_float(output, "output")
    if x.shape != y.shape or x.ndim == 0:
        raise ValueError(f"output must have the target's shape (batch, ...): {x.shape}, {y.shape}")
    return ((x - y) ** 2).reshape(x.shape[0], int(np.prod(x.shape[1:])))
