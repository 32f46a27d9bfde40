r"""Samplers that keep the marginals of the chain and give up the Markov property (DDIM).

    q_\sigma(x_s | x_t, x_0) = N(c_s x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2} \epsilon, \sigma^2 I),
    \epsilon = (x_t - c_t x_0) / \sqrt{1 - \bar\alpha_t},   0 <= \sigma^2 <= 1 - \bar\alpha_s,

for any s < t, so that q_\sigma(x_s | x_0) = N(c_s x_0, (1 - \bar\alpha_s) I) whatever sigma is. On
a subsequence \sigma^2 = \eta^2 s2, with s2 the posterior variance of the jump s -> t and not of one
step: eta = 1 is ancestral sampling, eta = 0 draws no noise.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels, checked_pair
from .double_double import DoubleDouble, exp, root_exp
from .forward import q_sample
from .posterior import Coefficients
from .sampling import Denoiser, descend


def ddim_coefficients(chain: Chain, s: Levels, t: Levels, sigma2: ArrayLike) -> Coefficients:
    """Weights of x_0 and x_t in the mean of q_sigma(x_s | x_t, x_0).  L-2.13, L-Lemma2.1, L-2.14.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level, s < t; broadcast with s.
        sigma2: variance, in [0, 1 - alpha_bar_s], a number or shaped like the levels.

    Returns:
        (a, b, s2), with s2 the given sigma2; mean a x_0 + b x_t.

    Raises:
        ValueError: a level is out of range, s >= t, or sigma2 leaves its range.
    """
    variance = _admissible(chain, s, t, sigma2)
    a, b = _weights(chain, s, t, _root(chain.noise(s) - DoubleDouble.of(variance)))
    return Coefficients(a.high, b.high, np.broadcast_to(variance, a.high.shape))


def largest_eta(chain: Chain, s: Levels, t: Levels) -> Array:
    """Largest eta that leaves 1 - alpha_bar_s - sigma^2 >= 0, at least 1.  L-tau-etamax, L-2.13.

    sqrt((1 - alpha_bar_t) / beta), beta that of the jump; infinite at s = 0, where sigma is 0.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level, s < t; broadcast with s.

    Raises:
        ValueError: a level is out of range or s >= t.
    """
    bound = (chain.noise(t) / chain.step_noise(s, t)).sqrt().high
    return np.where(np.asarray(s) == 0, np.inf, bound)


def ddim_variance(chain: Chain, s: Levels, t: Levels, eta: float) -> Array:
    """Noise variance eta^2 s2 of a step on a subsequence.  L-tau, L-2.14, L-tau-etamax.

    Args:
        chain: the noising chain.
        s: cleaner level.
        t: noisier level, s < t; broadcast with s.
        eta: at least 0 and at most `largest_eta`; 0 is deterministic, 1 ancestral.

    Raises:
        ValueError: a level is out of range, s >= t, or eta leaves its range.
    """
    return _split(chain, s, t, eta)[0].high


def ddim_mean(
    chain: Chain, s: Levels, t: Levels, x_t: Array, eps: Array, sigma2: ArrayLike
) -> Array:
    """Mean of q_sigma(x_s | x_t, x_0) from x_t and the noise in it.  L-DDIM-mean.

    x_t / sqrt(alpha) + (sqrt(1 - alpha_bar_s - sigma^2) - sqrt((1 - alpha_bar_t) / alpha)) eps
    with the alpha of the jump; it needs signal in x_t, which `ddim_step` does not.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: level of x_t, s < t.
        x_t: noisy samples, shape (batch, ...).
        eps: the noise in x_t, or its prediction, same shape.
        sigma2: variance, in [0, 1 - alpha_bar_s], a number or shaped like the levels.

    Raises:
        ValueError: a level is out of range, x_t holds no signal, or sigma2 leaves its range.
    """
    noisy = as_float(x_t, "x_t")
    weight = _noise_weight(chain, s, t, _admissible(chain, s, t, sigma2))
    scaled = noisy / per_sample(root_exp(chain.log_signal_ratio(s, t)).high, noisy)
    return scaled + per_sample(weight.high, noisy) * shaped_like(eps, noisy, "eps")


def ddim_kl_weight(chain: Chain, s: Levels, t: Levels, sigma2: ArrayLike) -> Array:
    """Weight gamma_t(sigma) of the squared error of eps in the bound.  L-DDIM-KL, L-2.15.

    KL(q_sigma(x_s | x_t, x_0) || p(x_s | x_t)) = gamma |eps - eps_hat|^2 in nats, where p has the
    same variance. It grows as 1 / sigma^2; only sigma^2 gamma has a limit at sigma = 0.

    Args:
        chain: the noising chain.
        s: cleaner level, s >= 1.
        t: noisier level, s < t; broadcast with s.
        sigma2: variance, in (0, 1 - alpha_bar_s], a number or shaped like the levels.

    Raises:
        ValueError: a level is out of range, x_t holds no signal, or sigma2 leaves its range.
    """
    variance = _admissible(chain, s, t, sigma2)
    weight = _noise_weight(chain, s, t, variance)
    if np.any(variance == 0):
        raise ValueError(f"sigma2 must be positive, got {variance}: at 0 the weight is infinite")
    return (weight * weight / DoubleDouble.of(2 * variance)).high


def ddim_step(
    chain: Chain,
    s: Levels,
    t: Levels,
    x_t: Array,
    x0_hat: Array,
    noise: Array,
    eta: float = 0.0,
) -> Array:
    """Draw x_s, c_s x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma z.  L-DDIM-step, L-tau.

    The eps is the noise in x_t given x0_hat, so that a clipped estimate stays consistent. The same
    for every parameterisation and with no signal in x_t; see L-2.14, L-DDIM-det, G-3.5-DDIM.

    Args:
        chain: the noising chain.
        s: cleaner level, a number or shape (batch,).
        t: level of x_t, s < t.
        x_t: noisy samples, shape (batch, ...).
        x0_hat: the denoiser's estimate, same shape.
        noise: standard normal numbers z, same shape; of no effect where eta = 0.
        eta: see `ddim_variance`.

    Raises:
        ValueError: a level is out of range, the shapes differ, or eta leaves its range.
    """
    clean, (variance, rest) = as_float(x0_hat, "x0_hat"), _split(chain, s, t, eta)
    a, b = _weights(chain, s, t, _root(rest))
    mean = per_sample(a.high, clean) * clean
    mean = mean + per_sample(b.high, clean) * shaped_like(x_t, clean, "x_t")
    return mean + per_sample(variance.sqrt().high, clean) * shaped_like(noise, clean, "noise")


def ddim_sample(
    chain: Chain, denoiser: Denoiser, levels: Sequence[int], noise: Array, eta: float = 0.0
) -> Array:
    """Samples of the model on a subsequence of levels, or on all.  L-tau, L-DDIM-exact, G-3.5-DDIM.

    Args:
        chain: the noising chain.
        denoiser: the model.
        levels: as in `sampling.descend`.
        noise: as in `sampling.descend`.
        eta: see `ddim_variance`.

    Raises:
        ValueError: the levels or the noise do not fit, or eta leaves its range.
    """
    return descend(partial(ddim_step, chain, eta=eta), denoiser, levels, noise)


def ddim_inversion_step(chain: Chain, s: Levels, t: Levels, x_s: Array, x0_hat: Array) -> Array:
    """The x_t from which `ddim_step` with eta = 0 and the same estimate gives x_s.  L-DDIM-det.

    Args:
        chain: the noising chain.
        s: level of x_s, at least 1, a number or shape (batch,).
        t: noisier level, s < t.
        x_s: samples, shape (batch, ...).
        x0_hat: the clean samples or their estimate, same shape.

    Raises:
        ValueError: a level is out of range, s >= t, s is 0, or the shapes differ.
    """
    if np.any(np.asarray(s) == 0):
        raise ValueError(f"s must be at least 1, got {s}: level 0 holds no noise to tell x_t from")
    x, (a, b, _) = as_float(x_s, "x_s"), ddim_coefficients(chain, s, t, 0.0)
    return (x - per_sample(a, x) * shaped_like(x0_hat, x, "x0_hat")) / per_sample(b, x)


def ddim_path(chain: Chain, x0: Array, noise: Array) -> Array:
    """The forward process with sigma = 0: x_1 is drawn, the others are solved for.  L-DDIM-det.

    Args:
        chain: the noising chain.
        x0: clean samples, shape (batch, ...).
        noise: standard normal numbers of x_1, same shape; every later level holds the same.

    Returns:
        Samples at levels 0..T, shape (T + 1, batch, ...).

    Raises:
        ValueError: the shapes differ.
    """
    clean = as_float(x0, "x0")
    path = [clean, q_sample(clean, chain.alpha_bar[1], noise, chain.one_minus_alpha_bar[1])]
    for s in range(1, chain.steps):
        path.append(ddim_inversion_step(chain, s, s + 1, path[s], clean))
    return np.stack(path)


def _admissible(chain: Chain, s: Levels, t: Levels, sigma2: ArrayLike) -> Array:
    low, _ = checked_pair(s, t, chain.steps)
    variance, room = as_float(sigma2, "sigma2"), chain.one_minus_alpha_bar[low]
    if np.any((variance < 0) | (variance > room)):
        raise ValueError(f"sigma2 must lie in [0, 1 - alpha_bar_s], here {room}, got {variance}")
    return variance


def _split(chain: Chain, s: Levels, t: Levels, eta: float) -> tuple[DoubleDouble, DoubleDouble]:
    """Share 1 - alpha_bar_s into sigma^2 and the rest, without a subtraction at eta = 1."""
    if not 0 <= eta < np.inf:
        raise ValueError(f"eta must be finite and at least 0, got {eta}")
    if np.any(eta > largest_eta(chain, s, t)):
        raise ValueError(f"eta = {eta} asks for more noise than level s = {s} holds")
    room, noise, square = chain.noise(s), chain.noise(t), DoubleDouble.of(eta) * eta
    kept = exp(chain.log_signal_ratio(s, t)) * room / noise
    variance = square * chain.step_noise(s, t) * room / noise
    return variance, room * (-square + 1.0 + square * kept)


def _root(room: DoubleDouble) -> DoubleDouble:
    """Square root, 0 where rounding leaves less."""
    positive = room.high > 0
    return DoubleDouble(np.where(positive, room.high, 0), np.where(positive, room.low, 0)).sqrt()


def _weights(
    chain: Chain, s: Levels, t: Levels, rest: DoubleDouble
) -> tuple[DoubleDouble, DoubleDouble]:
    b = rest / chain.noise(t).sqrt()
    return chain.amplitude(s) - chain.amplitude(t) * b, b


def _noise_weight(chain: Chain, s: Levels, t: Levels, variance: Array) -> DoubleDouble:
    """Weight of the noise in `ddim_mean`."""
    if np.any(chain.amplitude(t).high == 0):
        raise ValueError(f"t must be a level with signal, got {t}: eps alone does not tell x_0")
    rest = _root(chain.noise(s) - DoubleDouble.of(variance))
    return rest - chain.noise(t).sqrt() / root_exp(chain.log_signal_ratio(s, t))
