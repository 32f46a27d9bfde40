r"""Matrices of one noising step of categories, rows as laws: Q[i, j] = q(x_t = j | x_{t-1} = i).

uniform:    Q = (1 - \beta) I + \beta 1 1^T / K,
absorbing:  Q = (1 - \beta) I + \beta 1 e_m^T,
Gaussian:   Q[i, j] = \exp(-4 (i - j)^2 / ((K - 1)^2 \beta)) / Z for i != j.
"""

import numpy as np

from .arrays import Array


def uniform_matrix(beta: float, states: int) -> Array:
    """Step that draws a new category uniformly with probability beta.  G-3.5-D3PM.

    Args:
        beta: in (0, 1].
        states: number K of categories, at least 2.

    Raises:
        ValueError: an argument leaves its range.
    """
    _check(beta, states, 1.0)
    return (1 - beta) * np.eye(states) + beta / states


def absorbing_matrix(beta: float, states: int, mask: int) -> Array:
    """Step that turns a category into the mask with probability beta, for good.  G-3.5-D3PM.

    Args:
        beta: in (0, 1].
        states: number K of categories with the mask, at least 2.
        mask: the category that absorbs, in 0..K-1.

    Raises:
        ValueError: an argument leaves its range.
    """
    _check(beta, states, 1.0)
    if not 0 <= mask < states:
        raise ValueError(f"mask must lie in 0..{states - 1}, got {mask}")
    return np.asarray((1 - beta) * np.eye(states) + beta * np.eye(states)[mask])


def gaussian_matrix(beta: float, states: int) -> Array:
    """Step to a category i - j away like a discretised normal law.  X-D3PM-gaussian, G-3.5-D3PM.

    exp(-4 n^2 / ((K - 1)^2 beta)) over its sum for n from 1 - K to K - 1; what leaves the range
    stays at i. Symmetric, so that the uniform law is stationary.

    Args:
        beta: positive; the variance of the law is about (K - 1)^2 beta / 8.
        states: number K of ordered categories, at least 2.

    Raises:
        ValueError: an argument leaves its range.
    """
    _check(beta, states, np.inf)
    n = np.arange(1 - states, states)
    law = np.exp(-4 * n**2 / ((states - 1) ** 2 * beta))
    law = law / law.sum()
    matrix = law[np.arange(states)[:, None] - np.arange(states) + states - 1]
    return np.asarray(matrix + np.diag(1 - matrix.sum(axis=1)))


def _check(beta: float, states: int, largest: float) -> None:
    if not 0 < beta <= largest or beta == np.inf:
        raise ValueError(f"beta must be finite and lie in (0, {largest}], got {beta}")
    if states < 2:
        raise ValueError(f"states must be at least 2, got {states}")
