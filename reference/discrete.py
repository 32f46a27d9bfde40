r"""Diffusion of categories, D3PM: a Markov chain on K states and its reverse, with rows as laws.

    q(x_t = j | x_{t-1} = i) = Q_t[i, j],   q(x_t | x_0) = row x_0 of \bar Q_t = Q_1 \cdots Q_t,
    q(x_s = k | x_t, x_0) = Q_{s \to t}[k, x_t] \bar Q_s[x_0, k] / \bar Q_t[x_0, x_t],
    p(x_s | x_t) = \sum_{x_0} q(x_s | x_t, x_0) p(x_0 | x_t).

A network predicts the law of x_0. Categories are the integers 0..K-1, and every array of them has
the same meaning in any shape; laws have one more axis, of length K. Values are in nats.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from .arrays import Array, as_float
from .chain import checked_levels
from .elbo import BoundTerms

Categories = NDArray[np.int64]
Predict = Callable[[Categories, int], Array]
Reverse = Callable[["CategoricalChain", int, int, Categories, Array], Array]


class CategoricalChain:
    """A noising chain of categories.  G-3.5-D3PM.

    Args:
        matrices: Q_1..Q_T, shape (T, K, K), T >= 1, each row a law.

    Raises:
        ValueError: the shape differs, an entry is negative or a row does not sum to one.
    """

    def __init__(self, matrices: ArrayLike) -> None:
        values = as_float(matrices, "matrices")
        if values.ndim != 3 or values.shape[1] != values.shape[2] or values.size == 0:
            raise ValueError(f"matrices must have shape (T, K, K), T >= 1, got {values.shape}")
        self.matrices = _laws(values, "matrices")

    @property
    def steps(self) -> int:
        """Number T of noising steps.  G-3.5-D3PM."""
        return int(self.matrices.shape[0])

    @property
    def states(self) -> int:
        """Number K of categories.  G-3.5-D3PM."""
        return int(self.matrices.shape[1])

    def transition(self, s: int, t: int) -> Array:
        """Law of x_t for each x_s, Q_{s+1} ... Q_t, shape (K, K).  G-3.5-D3PM.

        Raises:
            ValueError: not 0 <= s <= t <= T.
        """
        checked_levels(np.array([s, t]), self.steps)
        if s > t:
            raise ValueError(f"s must be at most t, got s = {s}, t = {t}")
        return reduce(np.matmul, self.matrices[s:t], np.eye(self.states))


def q_marginal(chain: CategoricalChain, t: int, x_0: ArrayLike) -> Array:
    """Law of x_t given x_0, shape (..., K).  G-3.5-D3PM.

    Args:
        chain: the noising chain.
        t: level in 0..T.
        x_0: categories, any shape.
    """
    return np.asarray(chain.transition(0, t)[_categories(x_0, "x_0", chain.states)])


def q_posterior(chain: CategoricalChain, s: int, t: int, x_t: ArrayLike, x_0: ArrayLike) -> Array:
    """Law of x_s given x_t and x_0, shape (..., K).  G-3.5-D3PM.

    Args:
        chain: the noising chain.
        s: cleaner level, 0 <= s <= t.
        t: noisier level.
        x_t: categories, any shape.
        x_0: categories, broadcast with x_t.

    Raises:
        ValueError: some x_t cannot be reached from its x_0, where the law is 0/0: an absorbing
            chain holds only x_0 and the mask.
    """
    clean = _categories(x_0, "x_0", chain.states)
    return _joint(chain, s, t, _categories(x_t, "x_t", chain.states), np.eye(chain.states)[clean])


def reverse_step(
    chain: CategoricalChain, s: int, t: int, x_t: ArrayLike, prediction: ArrayLike
) -> Array:
    """Law of x_s given x_t, the posterior averaged over a predicted x_0.  G-3.5-D3PM.

    It is exact where the prediction is. A predicted x_0 from which x_t cannot be reached counts for
    nothing; the rest is scaled up.

    Args:
        chain: the noising chain.
        s: cleaner level, 0 <= s <= t.
        t: noisier level.
        x_t: categories, any shape.
        prediction: p(x_0 | x_t), shape (..., K).

    Returns:
        Shape (..., K).

    Raises:
        ValueError: a prediction is no law, or x_t cannot be reached from any x_0 it allows.
    """
    noisy, law = _pair(chain, x_t, prediction)
    reach = chain.transition(0, t).T[noisy]
    weights = np.divide(law, reach, out=np.zeros_like(law), where=reach > 0)
    return _joint(chain, s, t, noisy, weights)


def reverse_step_joint(
    chain: CategoricalChain, s: int, t: int, x_t: ArrayLike, prediction: ArrayLike
) -> Array:
    """Law of x_s in proportion to sum q(x_s, x_t | x_0) p(x_0), as D3PM writes it.  G-3.5-D3PM.

    The prediction is weighted once more by how likely each x_0 makes x_t, so an exact prediction
    gives an exact step only where all x_0 that it allows make x_t equally likely, as with a mask.

    Args:
        chain: the noising chain.
        s: cleaner level, 0 <= s <= t.
        t: noisier level.
        x_t: categories, any shape.
        prediction: p(x_0 | x_t), shape (..., K).

    Returns:
        Shape (..., K).

    Raises:
        ValueError: as `reverse_step`.
    """
    return _joint(chain, s, t, *_pair(chain, x_t, prediction))


def draw(law: ArrayLike, uniform: ArrayLike) -> Categories:
    """Draw categories by inverting the cumulative law.  G-3.5-D3PM.

    Args:
        law: shape (..., K).
        uniform: uniform numbers in [0, 1), shape (...).

    Raises:
        ValueError: a row is no law, or a number leaves [0, 1).
    """
    place = as_float(uniform, "uniform")
    if np.any((place < 0) | (place >= 1)):
        raise ValueError(f"uniform must lie in [0, 1), got {place.min()}..{place.max()}")
    # The last cumulative probability is one by right and may miss it by rounding.
    below = np.cumsum(_laws(as_float(law, "law"), "law"), axis=-1)[..., :-1]
    return np.asarray(np.sum(place[..., None] >= below, axis=-1), dtype=np.int64)


def categorical_sample(
    chain: CategoricalChain,
    predict: Predict,
    x_T: ArrayLike,
    uniform: Array,
    reverse: Reverse = reverse_step,
) -> Categories:
    """Ancestral samples of x_0.  G-3.5-D3PM.

    Args:
        chain: the noising chain.
        predict: gives p(x_0 | x_t), shape (..., K), for (x_t, t).
        x_T: categories at the last level, any shape.
        uniform: uniform numbers in [0, 1), shape (T, ...); entry t - 1 draws x_{t-1}.
        reverse: `reverse_step` or `reverse_step_joint`.
    """
    x = _categories(x_T, "x_T", chain.states)
    for t in range(chain.steps, 0, -1):
        x = draw(reverse(chain, t - 1, t, x, predict(x, t)), uniform[t - 1])
    return x


def categorical_bound(
    chain: CategoricalChain,
    x_0: ArrayLike,
    predict: Predict,
    prior: ArrayLike,
    reverse: Reverse = reverse_step,
) -> BoundTerms:
    """Terms of the bound on -log p(x_0), averaged over every x_t.  G-3.5-D3PM.

    At t = 1 the posterior is a point mass, and its divergence the decoder's -log p(x_0 | x_1).

    Args:
        chain: the noising chain.
        x_0: categories, shape (batch,).
        predict: gives p(x_0 | x_t), shape (M, K), for (x_t of shape (M,), t).
        prior: p(x_T), shape (K,).
        reverse: `reverse_step` or `reverse_step_joint`.
    """
    clean = _categories(x_0, "x_0", chain.states)
    last = rel_entr(q_marginal(chain, chain.steps, clean), _laws(as_float(prior, "prior"), "prior"))

    def divergence(t: int, category: int) -> float:
        law = q_marginal(chain, t, category)
        x_t = np.flatnonzero(law)
        model = reverse(chain, t - 1, t, x_t, predict(x_t, t))
        posterior = q_posterior(chain, t - 1, t, x_t, category)
        return float(law[x_t] @ rel_entr(posterior, model).sum(axis=1))

    kls = np.array([[divergence(t, k) for k in clean] for t in range(1, chain.steps + 1)])
    return BoundTerms(np.asarray(last.sum(axis=1)), kls[1:], kls[0])


def _joint(chain: CategoricalChain, s: int, t: int, x_t: Categories, weights: Array) -> Array:
    """Normalised q(x_s, x_t | x_0), summed over x_0 with these weights of shape (..., K)."""
    joint = chain.transition(s, t).T[x_t] * (weights @ chain.transition(0, s))
    total = joint.sum(axis=-1, keepdims=True)
    if np.any(total == 0):
        raise ValueError(f"x_t must be reachable from x_0, got x_t = {x_t} at t = {t}")
    return np.asarray(joint / total)


def _pair(
    chain: CategoricalChain, x_t: ArrayLike, prediction: ArrayLike
) -> tuple[Categories, Array]:
    noisy = _categories(x_t, "x_t", chain.states)
    law = _laws(as_float(prediction, "prediction"), "prediction")
    if law.shape != (*noisy.shape, chain.states):
        raise ValueError(
            f"prediction must have shape {(*noisy.shape, chain.states)}, got {law.shape}"
        )
    return noisy, law


def _laws(values: Array, name: str) -> Array:
    if np.any(values < 0) or np.any(np.abs(values.sum(axis=-1) - 1) > 1e-9):
        raise ValueError(f"{name} must hold probabilities that sum to 1, got {values}")
    return values


def _categories(value: ArrayLike, name: str, states: int) -> Categories:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be made of integers, got dtype {array.dtype}")
    if np.any((array < 0) | (array >= states)):
        raise ValueError(f"{name} must lie in 0..{states - 1}, got {array}")
    return array.astype(np.int64)
