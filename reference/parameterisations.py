r"""What a network may predict, and how each prediction becomes each other one.

With c = \sqrt{\bar\alpha_t}, d = \sqrt{1 - \bar\alpha_t} and the posterior weights (a, b):

    x_t = c x_0 + d \epsilon,  v = c \epsilon - d x_0,
    score = -\epsilon / d,  mean_s = a x_0 + b x_t.

The pair (x_t, v) is the pair (x_0, eps) turned by an angle, so v works at every level. eps and the
score hold no information on x_0 where c = 0, and are refused there.
"""

from typing import Literal, get_args

import numpy as np

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels, checked_levels
from .posterior import posterior_coefficients

Prediction = Literal["eps", "x0", "v", "score", "mean"]


def predict_x0(
    prediction: Prediction,
    output: Array,
    x_t: Array,
    chain: Chain,
    t: Levels,
    s: Levels | None = None,
) -> Array:
    """The clean sample that an output stands for.  T-2.5-x0, T-fn22, K-68, K-69, K-73, K-74.

    Also L-2.7 and G-36.

    Args:
        prediction: what the output is.
        output: the network's output, shape (batch, ...).
        x_t: noisy samples, same shape.
        chain: the noising chain.
        t: level of x_t in 1..T, a number or shape (batch,).
        s: level whose mean is predicted, for "mean" only.

    Raises:
        ValueError: a level out of range, eps or score at zero SNR, mean without s, unknown name.
    """
    c, d = _amplitudes(chain, t, x_t)
    value, noisy = _pair(output, x_t)
    if prediction == "x0":
        return value
    if prediction == "v":
        return c * noisy - d * value
    if prediction == "mean":
        a, b, _ = posterior_coefficients(chain, _needed(s), t)
        return (value - per_sample(b, noisy) * noisy) / per_sample(a, noisy)
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction must be one of {get_args(Prediction)}, got {prediction!r}")
    if np.any(c == 0):
        raise ValueError(f"{prediction} cannot be turned into x0 at zero SNR, t = {t}")
    noise = value if prediction == "eps" else -d * value
    return (noisy - d * noise) / c


def predict_eps(
    prediction: Prediction,
    output: Array,
    x_t: Array,
    chain: Chain,
    t: Levels,
    s: Levels | None = None,
) -> Array:
    """The noise that an output stands for.  T-2.5-eps, T-fn22, K-68, K-73, K-74, L-2.7, T-fn23.

    Args:
        prediction: what the output is.
        output: the network's output, shape (batch, ...).
        x_t: noisy samples, same shape.
        chain: the noising chain.
        t: level of x_t in 1..T, a number or shape (batch,).
        s: level whose mean is predicted, for "mean" only.

    Raises:
        ValueError: as `predict_x0`; eps and score are their own noise and never refused.
    """
    c, d = _amplitudes(chain, t, x_t)
    value, noisy = _pair(output, x_t)
    if prediction == "eps":
        return value
    if prediction == "score":
        return -d * value
    if prediction == "v":
        return d * noisy + c * value
    return (noisy - c * predict_x0(prediction, value, noisy, chain, t, s)) / d


def predict_score(
    prediction: Prediction,
    output: Array,
    x_t: Array,
    chain: Chain,
    t: Levels,
    s: Levels | None = None,
) -> Array:
    """The gradient of log q(x_t) that an output stands for, -eps / d.  T-fn23, G-55, G-56.

    Args:
        prediction: what the output is.
        output: the network's output, shape (batch, ...).
        x_t: noisy samples, same shape.
        chain: the noising chain.
        t: level of x_t in 1..T, a number or shape (batch,).
        s: level whose mean is predicted, for "mean" only.

    Raises:
        ValueError: as `predict_eps`.
    """
    _, d = _amplitudes(chain, t, x_t)
    return -predict_eps(prediction, output, x_t, chain, t, s) / d


def predict_v(
    prediction: Prediction,
    output: Array,
    x_t: Array,
    chain: Chain,
    t: Levels,
    s: Levels | None = None,
) -> Array:
    """The velocity c eps - d x_0 that an output stands for.  T-fn22, L-2.7.

    From eps it is (eps - d x_t) / c, from x_0 it is (c x_t - x_0) / d.

    Args:
        prediction: what the output is.
        output: the network's output, shape (batch, ...).
        x_t: noisy samples, same shape.
        chain: the noising chain.
        t: level of x_t in 1..T, a number or shape (batch,).
        s: level whose mean is predicted, for "mean" only.

    Raises:
        ValueError: as `predict_x0`.
    """
    c, d = _amplitudes(chain, t, x_t)
    value, noisy = _pair(output, x_t)
    if prediction == "v":
        return value
    noise = predict_eps(prediction, value, noisy, chain, t, s)
    return c * noise - d * predict_x0(prediction, value, noisy, chain, t, s)


def predict_mean(
    prediction: Prediction, output: Array, x_t: Array, chain: Chain, t: Levels, s: Levels
) -> Array:
    """The mean of p(x_s | x_t) that an output stands for.  T-2.5-x0, T-2.5-eps, T-fn21, K-70..77.

    Also V-eq8, V-8.6, L-2.8, L-2.10mu, G-37, G-38. For every output it is the posterior mean at
    the x_0 it stands for; for eps and s = t - 1 that is (x_t - beta_t eps / d) / sqrt(1 - beta_t).

    Args:
        prediction: what the output is; "mean" is taken to be that of level s.
        output: the network's output, shape (batch, ...).
        x_t: noisy samples, same shape.
        chain: the noising chain.
        t: level of x_t in 1..T, a number or shape (batch,).
        s: level of the mean, s < t.

    Raises:
        ValueError: as `predict_x0`.
    """
    a, b, _ = posterior_coefficients(chain, s, t)
    value, noisy = _pair(output, x_t)
    if prediction == "mean":
        return value
    clean = predict_x0(prediction, value, noisy, chain, t)
    return per_sample(a, noisy) * clean + per_sample(b, noisy) * noisy


def additive_noise(chain: Chain, t: Levels, x_t: Array) -> tuple[Array, Array]:
    """The noisy sample as a denoising autoencoder sees it, x_0 plus noise.  T-fn21.

    Args:
        chain: the noising chain.
        t: level of x_t in 1..T, a number or shape (batch,).
        x_t: noisy samples, shape (batch, ...).

    Returns:
        x_t / c = x_0 + (d / c) eps, and the deviation d / c of its noise, shaped like t.

    Raises:
        ValueError: t is out of range or has zero SNR.
    """
    noisy = as_float(x_t, "x_t")
    c, _ = _amplitudes(chain, t, noisy)
    if np.any(c == 0):
        raise ValueError(f"x_t at zero SNR, t = {t}, is no clean sample plus noise")
    return noisy / c, chain.d[np.asarray(t)] / chain.c[np.asarray(t)]


def _amplitudes(chain: Chain, t: Levels, x_t: Array) -> tuple[Array, Array]:
    level = checked_levels(t, chain.steps)
    if np.any(level == 0):
        raise ValueError(f"t must be at least 1, got {t}: nothing is to be predicted at level 0")
    noisy = np.asarray(x_t)
    return per_sample(chain.c[level], noisy), per_sample(chain.d[level], noisy)


def _pair(output: Array, x_t: Array) -> tuple[Array, Array]:
    value = as_float(output, "output")
    return value, shaped_like(x_t, value, "x_t")


def _needed(s: Levels | None) -> Levels:
    if s is None:
        raise ValueError("s must be given when the prediction is 'mean'")
    return s
