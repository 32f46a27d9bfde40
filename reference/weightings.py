r"""Weights of the squared error by level, for any prediction.

    L = E_t w(t) ||target - output||^2,  w(t) = W(SNR(t)) J_t^2,

where W weighs the error of x_0 and J_t is the factor by which an error of the output moves x_0:
1 for x_0, d_t for v, d_t / c_t for eps and d_t^2 / c_t for the score.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .chain import Chain, Levels, checked_levels
from .parameterisations import Prediction
from .posterior import posterior_coefficients

Weighting = Literal["simple", "eps", "snr_drop", "min_snr", "p2", "truncated"]


def decoder_variance(chain: Chain) -> float:
    """Variance of the Gaussian decoder at level 1, where the posterior has none.  L-2.11-gamma0.

    The posterior's variance of the step from 2 to 1, and beta_1 in a chain of one step.

    Args:
        chain: the noising chain.
    """
    if chain.steps == 1:
        return float(chain.one_minus_alpha_bar[1])
    return float(posterior_coefficients(chain, 1, 2).s2)


def clean_weight(weighting: Weighting, chain: Chain, t: Levels, gamma: float, k: float) -> Array:
    """Weight W of the squared error of x_0.  V-eq6, T-fn28, L-2.6, L-2.11-gamma0, L-2.12.

    Half the drop of the SNR for "snr_drop", the variational bound, and 1 / (2 s2) with the
    decoder's variance at level 1; min(SNR, gamma) for "min_snr"; max(SNR, 1) for "truncated";
    SNR / (k + SNR)^gamma for "p2", which is 1 / (k + SNR)^gamma for the error of eps; SNR for
    "eps", which is 1 for that error.

    Args:
        weighting: name of the weighting, not "simple", which weighs no error of x_0.
        chain: the noising chain.
        t: level in 1..T.
        gamma: bound of "min_snr", exponent of "p2".
        k: addend of "p2".

    Raises:
        ValueError: t leaves 1..T or the name is unknown.
    """
    level = _noisy(chain, t)
    snr = chain.snr[level]
    if weighting == "eps":
        return np.asarray(snr)
    if weighting == "min_snr":
        return np.asarray(np.minimum(snr, gamma))
    if weighting == "truncated":
        return np.asarray(np.maximum(snr, 1.0))
    if weighting == "p2":
        return np.asarray(snr / (k + snr) ** gamma)
    if weighting != "snr_drop":
        raise ValueError(f"weighting must be one of the table, got {weighting!r}")
    later = np.asarray(np.maximum(level, min(2, chain.steps)))
    drop = chain.snr_drop(later - 1, later)
    return np.asarray(np.where(level == 1, 1 / decoder_variance(chain), drop) / 2)


def prediction_weight(
    prediction: Prediction,
    weighting: Weighting,
    chain: Chain,
    t: Levels,
    gamma: float = 5.0,
    k: float = 1.0,
) -> Array:
    """Weight w of the squared error of a prediction.  L-2.12, T-fn16, V-eq6, V-eq7, K-79.

    Args:
        prediction: what the network returns, not "mean".
        weighting: name of the weighting; "simple" is 1.
        chain: the noising chain.
        t: level in 1..T.
        gamma: bound of "min_snr", exponent of "p2".
        k: addend of "p2".

    Returns:
        w, shaped like t.

    Raises:
        ValueError: t leaves 1..T, a name is unknown, or eps or score at zero SNR.
    """
    level = _noisy(chain, t)
    c, d = chain.c[level], chain.d[level]
    if prediction in ("eps", "score") and np.any(c == 0):
        raise ValueError(f"{prediction} says nothing of x0 at zero SNR, t = {t}")
    safe = np.where(c == 0, 1.0, c)
    factors = {"x0": np.ones_like(c), "v": d, "eps": d / safe, "score": d**2 / safe}
    if prediction not in factors:
        raise ValueError(f"prediction must be one of {tuple(factors)}, got {prediction!r}")
    if weighting == "simple":
        return np.ones_like(c)
    return np.asarray(clean_weight(weighting, chain, level, gamma, k) * factors[prediction] ** 2)


def _noisy(chain: Chain, t: Levels) -> NDArray[np.int64]:
    level = checked_levels(t, chain.steps)
    if np.any(level == 0):
        raise ValueError(f"t must lie in 1..{chain.steps}, got {t}")
    return level
