r"""The bound along one path: four ways to write log q(x_{1:T} | x_0) / p(x_{0:T}).

    q(x_t | x_{t-1}) = q(x_{t-1} | x_t, x_0) q(x_t | x_0) / q(x_{t-1} | x_0),   t >= 2,

turns the product of the noising steps into a product of posteriors whose marginals cancel. The four
agree on every path, not only on average. At t = 1 the rule would divide point masses, so the first
step keeps its form. A path has shape (T + 1, batch, ...); values are in nats, (batch,).
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float
from .average_bound import check_steps
from .chain import Chain
from .elbo import BoundTerms
from .factorisation import forward_log_density
from .forward import q_mean_variance
from .gaussian import log_density
from .linear_reverse import LinearReverse
from .posterior import posterior_log_density


def joint_ratio(chain: Chain, model: LinearReverse, path: ArrayLike) -> Array:
    """Log ratio by the steps of both chains.  K-45..48, T-4.3-q, G-16, G-17, V-8.3, L-2.3.

    Args:
        chain: the noising chain, whose law of the latents is the approximate posterior.
        model: its reverse, of as many steps.
        path: samples at levels 0..T, shape (T + 1, batch, ...).

    Raises:
        ValueError: path, chain and model have different numbers of levels.
    """
    check_steps(chain, model)
    return forward_log_density(chain, path) - model.log_density(path)


def bayes_ratio(chain: Chain, model: LinearReverse, path: ArrayLike) -> Array:
    """Log ratio with Bayes' rule in every step but the first.  K-49, K-50, L-2.3, G-20, V-8.3.

    log q(x_1 | x_0) + sum_{t=2}^T log[q(x_{t-1} | x_t, x_0) q(x_t | x_0) / q(x_{t-1} | x_0)]
    - log p(x_{0:T}), each marginal in the sum belonging to its own factor.

    Args:
        chain: the noising chain.
        model: its reverse, of as many steps.
        path: samples at levels 0..T, shape (T + 1, batch, ...).
    """
    check_steps(chain, model)
    marginals = log_marginals(chain, path)
    swapped = log_posteriors(chain, path) + marginals[1:] - marginals[:-1]
    return np.asarray(marginals[0] + swapped.sum(axis=0) - model.log_density(path))


def posterior_ratio(chain: Chain, model: LinearReverse, path: ArrayLike) -> Array:
    """Log ratio after the marginals have cancelled.  K-51, K-52, G-20, V-8.3.

    Args:
        chain: the noising chain.
        model: its reverse, of as many steps.
        path: samples at levels 0..T, shape (T + 1, batch, ...).
    """
    check_steps(chain, model)
    posteriors = log_posteriors(chain, path).sum(axis=0)
    return np.asarray(log_marginals(chain, path)[-1] + posteriors - model.log_density(path))


def path_terms(chain: Chain, model: LinearReverse, path: ArrayLike) -> BoundTerms:
    """Log ratio as the terms of the bound, before any expectation.  K-53..55, L-2.3, V-8.3, G-20.

    Args:
        chain: the noising chain.
        model: its reverse, of as many steps.
        path: samples at levels 0..T, shape (T + 1, batch, ...).

    Returns:
        Terms that may be negative; their expectations are divergences.
    """
    check_steps(chain, model)
    levels = _checked(chain, path)
    prior = log_marginals(chain, levels)[-1] - model.log_terminal(levels[-1])
    steps = [model.log_step(t, levels[t - 1], levels[t]) for t in range(1, chain.steps + 1)]
    kls = log_posteriors(chain, levels) - np.reshape(steps[1:], (chain.steps - 1, levels.shape[1]))
    return BoundTerms(prior, kls, -steps[0])


def log_marginals(chain: Chain, path: ArrayLike) -> Array:
    """Log q(x_t | x_0) of levels 1..T, shape (T, batch).  K-49, G-20.

    Args:
        chain: the noising chain.
        path: samples at levels 0..T, shape (T + 1, batch, ...).
    """
    levels = _checked(chain, path)
    clean = np.broadcast_to(levels[0], levels[1:].shape)
    mean, variance = q_mean_variance(clean, chain.alpha_bar[1:], chain.one_minus_alpha_bar[1:])
    return log_density(_rows(levels[1:]), _rows(mean), variance[:, None])


def log_posteriors(chain: Chain, path: ArrayLike) -> Array:
    """Log q(x_{t-1} | x_t, x_0) of levels t = 2..T, shape (T - 1, batch).  K-49, L-2.3, G-20.

    Args:
        chain: the noising chain.
        path: samples at levels 0..T, shape (T + 1, batch, ...).
    """
    levels = _checked(chain, path)
    t = np.arange(2, chain.steps + 1)
    clean = np.broadcast_to(levels[0], levels[2:].shape)
    elements = posterior_log_density(chain, t - 1, t, clean, levels[2:], levels[1:-1])
    return np.asarray(_rows(elements).sum(axis=2))


def _checked(chain: Chain, path: ArrayLike) -> Array:
    levels = as_float(path, "path")
    if levels.ndim < 2 or levels.shape[0] != chain.steps + 1:
        raise ValueError(
            f"path must have shape ({chain.steps + 1}, batch, ...), got {levels.shape}"
        )
    return levels


def _rows(levels: Array) -> Array:
    return np.asarray(levels.reshape(*levels.shape[:2], int(np.prod(levels.shape[2:]))))
