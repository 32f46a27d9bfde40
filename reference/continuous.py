r"""The objective of a denoiser as the number of levels grows: an integral over the SNR.

With u = SNR(t), drop_t = SNR(t - 1) - SNR(t) > 0 and E(u) the mean squared error of \hat x_0,

    L = -1/2 \sum_{t=2}^T w(u_t) drop_t E(u_t)
      -> 1/2 \int_0^1 w (d SNR / dt) E dt = -1/2 \int_{SNR_min}^{SNR_max} w(u) E(u) du,

with an error of order 1 / T. Only the ends of the schedule are left. The sum begins at t = 2: at
t = 1 the drop is infinite. E and w must be functions of the SNR alone.
"""

import numpy as np
from scipy import integrate

from .arrays import Array
from .chain import Chain
from .mixture import Mixture
from .sde import Curve


def unweighted(_: float) -> float:
    """The weight 1 of maximum likelihood.  T-eq5, T-fn29."""
    return 1.0


def level_masses(chain: Chain, error: Curve, weight: Curve = unweighted) -> Array:
    """What each level t = 2..T takes from the objective, w drop E / 2.  T-eq4, T-2.6-inv.

    Args:
        chain: the noising chain, T >= 2.
        error: E(u), mean squared error of the denoiser, summed over the elements.
        weight: w(u).

    Returns:
        Shape (T - 1,); entry t - 2 belongs to level t.

    Raises:
        ValueError: the chain has a single level.
    """
    if chain.steps < 2:
        raise ValueError(f"chain must have at least 2 steps, got {chain.steps}")
    t = np.arange(2, chain.steps + 1)
    values = [weight(u) * error(u) for u in chain.snr[t].tolist()]
    return np.asarray(chain.snr_drop(t - 1, t) / 2 * values)


def discrete_objective(chain: Chain, error: Curve, weight: Curve = unweighted) -> float:
    """The objective of a chain, to be maximised.  T-eq4, T-eq5, T-fn29, T-2.6-inv, T-extra.

    With the best denoiser it grows when levels are added between others.

    Args:
        chain: the noising chain, T >= 2.
        error: E(u), mean squared error of the denoiser.
        weight: w(u).
    """
    return -float(level_masses(chain, error, weight).sum())


def objective_in_time(snr: Curve, slope: Curve, error: Curve, weight: Curve = unweighted) -> float:
    """Its limit as an integral over time, 1/2 int w (dSNR/dt) E dt.  T-eq4.

    Any schedule between the same two SNRs gives the same number.

    Args:
        snr: SNR at a time in [0, 1], decreasing; time is t / T.
        slope: its derivative, negative.
        error: E(u), mean squared error of the denoiser.
        weight: w(u).
    """

    def integrand(time: float) -> float:
        u = snr(time)
        return weight(u) * slope(time) * error(u)

    return _integral(integrand, 0.0, 1.0) / 2


def objective_in_snr(
    lowest: float, highest: float, error: Curve, weight: Curve = unweighted
) -> float:
    """The same limit over the SNR, -1/2 int w(u) E(u) du.  T-eq5, T-fn29, T-2.6-inv, T-extra.

    Integrated over log(1 + u), since E falls like 1 / u for data with a density.

    Args:
        lowest: SNR(T), at least 0.
        highest: SNR(1), greater than `lowest`.
        error: E(u), mean squared error of the denoiser.
        weight: w(u).

    Raises:
        ValueError: not 0 <= lowest < highest < infinity.
    """
    if not 0 <= lowest < highest < np.inf:
        raise ValueError(
            f"lowest and highest must fulfil 0 <= lowest < highest, got {lowest} and {highest}"
        )

    def integrand(y: float) -> float:
        u = float(np.expm1(y))
        return weight(u) * error(u) * (1 + u)

    return -_integral(integrand, float(np.log1p(lowest)), float(np.log1p(highest))) / 2


def information(data: Mixture, snr: float) -> float:
    """Mutual information of x_0 and sqrt(snr) x_0 + n in nats, n standard normal.  T-extra.

    Its derivative in the SNR is half the least squared error, so that the best objective between
    two SNRs is the information that is lost between them.

    Args:
        data: the law of x_0.
        snr: at least 0.

    Raises:
        ValueError: snr is negative.
    """
    if not snr >= 0:
        raise ValueError(f"snr must be at least 0, got {snr}")
    c = float(np.sqrt(snr))
    entropy = -data.expectation(lambda x: data.log_density(x, c, 1.0), c, 1.0)
    return entropy - float(np.log(2 * np.pi * np.e)) / 2


def _integral(integrand: Curve, start: float, end: float) -> float:
    return float(integrate.quad(integrand, start, end, epsabs=1e-13, epsrel=1e-11, limit=200)[0])
