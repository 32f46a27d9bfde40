r"""The bound averaged over data: which part the model has, and how far it stays below the evidence.

    E \log p(x_0) \ge E \log p(x_T) + \sum_{t=1}^T E \log p(x_{t-1} | x_t) + c,
    c = -E \log q(x_{1:T} | x_0) = \sum_{t=1}^T \log(2 \pi e \beta_t) / 2.

With linear reverse steps only the mean and the variance of the data matter. Values are those of one
coordinate, in nats.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from .arrays import Array
from .augmentation import reverse_step_kl, terminal_kl
from .chain import Chain
from .gaussian import entropy, log_density
from .linear_reverse import LinearReverse, data_moments, expected_log_density
from .mixture import Mixture
from .reverse import exact_reverse_moments


class MatchedGap(NamedTuple):
    """Gap of the average bound, and KL from the data to the model, both in nats.  T-4.3.1-item5."""

    gap: float
    divergence: float


def expected_log_step(
    chain: Chain, model: LinearReverse, t: int, mean: ArrayLike, variance: ArrayLike = 0.0
) -> Array:
    """E log p(x_{t-1} | x_t) of one coordinate over data of these moments.  T-4.3-c, G-17, L-C0.

    Args:
        chain: the noising chain.
        model: its reverse.
        t: noisier level, 1 <= t <= T.
        mean: E x_0, any shape.
        variance: Var x_0, at least 0, broadcast with the mean; 0 for one clean sample.

    Raises:
        ValueError: t leaves 1..T, the model has another number of steps, or the variance is
            negative.
    """
    check_steps(chain, model)
    slope, shift, noise = model.step(t)
    centre, spread = data_moments(mean, variance)
    beta = chain.betas[t - 1]
    cleaner = chain.alpha_bar[t - 1] * spread + chain.one_minus_alpha_bar[t - 1]
    # x_{t-1} - k x_t = (1 - k sqrt(alpha)) x_{t-1} - k sqrt(beta) eps.
    varies = (1 - slope * np.sqrt(1 - beta)) ** 2 * cleaner + slope**2 * beta
    guess = slope * chain.c[t] * centre + shift
    return expected_log_density(chain.c[t - 1] * centre, varies, guess, noise)


def expected_log_terminal(
    chain: Chain, model: LinearReverse, mean: ArrayLike, variance: ArrayLike = 0.0
) -> Array:
    """E log p(x_T) of one coordinate over data of these moments.  T-4.3-c, G-17.

    Args:
        chain: the noising chain.
        model: its reverse.
        mean: E x_0, any shape.
        variance: Var x_0, at least 0.
    """
    centre, spread = data_moments(mean, variance)
    noised = chain.alpha_bar[-1] * spread + chain.one_minus_alpha_bar[-1]
    terminal = model.terminal_mean, model.terminal_variance
    return expected_log_density(chain.c[-1] * centre, noised, *terminal)


def path_entropy(chain: Chain) -> float:
    """Entropy of q(x_{1:T} | x_0) of one coordinate, free of the model and of x_0.  T-4.3-c."""
    return float(entropy(chain.betas, 1).sum())


def step_log_ratio(
    chain: Chain, model: LinearReverse, t: int, mean: ArrayLike, variance: ArrayLike = 0.0
) -> Array:
    """E log[q(x_t | x_{t-1}) / p(x_{t-1} | x_t)] of one coordinate, of either sign.  G-17, G-17b.

    It is no divergence: the two densities are of different variables.

    Args:
        chain: the noising chain.
        model: its reverse.
        t: noisier level, 1 <= t <= T.
        mean: E x_0, any shape.
        variance: Var x_0, at least 0.
    """
    reverse = expected_log_step(chain, model, t, mean, variance)
    return np.asarray(-entropy(chain.betas[t - 1], 1) - reverse)


def average_bound(
    chain: Chain, model: LinearReverse, mean: ArrayLike, variance: ArrayLike = 0.0
) -> Array:
    """E log[p(x_{0:T}) / q(x_{1:T} | x_0)] of one coordinate over data of these moments.

    It is E log p(x_T) + sum_t E log p(x_{t-1} | x_t) + c with c the entropy of the noised path, and
    at most E log p(x_0).  T-4.3-c, T-4.3-elbo, T-fn31, K-41..44, V-eq2, V-8.2, G-15..17, L-2.3.

    Args:
        chain: the noising chain.
        model: its reverse, of as many steps.
        mean: E x_0, any shape.
        variance: Var x_0, at least 0, broadcast with the mean; 0 for one clean sample.

    Raises:
        ValueError: the model has another number of steps, or the variance is negative.
    """
    check_steps(chain, model)
    levels = range(1, chain.steps + 1)
    steps = [expected_log_step(chain, model, t, mean, variance) for t in levels]
    terminal = expected_log_terminal(chain, model, mean, variance)
    return np.asarray(terminal + np.sum(steps, axis=0) + path_entropy(chain))


def average_gap(
    chain: Chain, model: LinearReverse, mean: ArrayLike, variance: ArrayLike = 0.0
) -> Array:
    """E KL(q(x_{1:T} | x_0) || p(x_{1:T} | x_0)), by which the average bound falls short.  T-fn31.

    Where it changes with the parameters, the best bound lies elsewhere than the best evidence.

    Args:
        chain: the noising chain.
        model: its reverse, of as many steps.
        mean: E x_0, any shape.
        variance: Var x_0, at least 0.
    """
    return model.average_log_evidence(mean, variance) - average_bound(chain, model, mean, variance)


def moment_matched_gap(chain: Chain, data: Mixture, reach: float, nodes: int) -> MatchedGap:
    """Gap of the chain whose steps have the data's own conditional means and variances.

    T-4.3.1-item5. It starts from p(x_T) = N(0, 1) and is integrated down on a grid.

    Args:
        chain: the noising chain.
        data: a mixture whose components all have width.
        reach: end of the grid -reach..reach, outside which no level has mass.
        nodes: number of points of the grid; their distance must resolve the narrowest step.

    Raises:
        ValueError: a component has no width, or the grid does not hold the data.
    """
    x, width = np.linspace(-reach, reach, nodes, retstep=True)
    log_data = data.log_density(x, 1.0, 0.0)
    clean = width * np.exp(log_data)
    if abs(clean.sum() - 1) > 1e-6:
        raise ValueError(f"reach and nodes must hold the data, got mass {clean.sum()}")
    log_model = log_density(x[:, None], 0.0, 1.0)
    paths = terminal_kl(data, chain)
    for t in range(chain.steps, 0, -1):
        mean, variance = exact_reverse_moments(data, chain, t - 1, t, x)
        steps = log_density(x[:, None, None], mean[:, None], variance)
        log_model = np.log(width) + np.asarray(logsumexp(steps + log_model, axis=1))
        paths += reverse_step_kl(data, chain, t - 1, t)
    divergence = float(clean @ (log_data - log_model))
    return MatchedGap(paths - divergence, divergence)


def check_steps(chain: Chain, model: LinearReverse) -> None:
    """Refuse a reverse chain of another length than the noising chain.  L-2.1.

    Raises:
        ValueError: the numbers of steps differ.
    """
    if model.steps != chain.steps:
        raise ValueError(f"model must have {chain.steps} steps like the chain, got {model.steps}")
