r"""Which level a sample trains on: uniform, in proportion to a weight or loss, or stratified.

    1/T \sum_t w_t L_t = E_{t ~ p}[w_t L_t / (T p_t)]   for every p with p_t > 0 on 1..T.

Functions take numbers uniform on [0, 1) instead of drawing them; L_t is the loss of the step from
level t to t - 1, which the papers also write with the index t - 1.
"""

from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array, as_float, per_sample, shaped_like
from .chain import Chain, Levels, checked_levels
from .forward import forward_step, q_sample

LevelArray = NDArray[np.int64]


def uniform_level(uniform: ArrayLike, steps: int) -> LevelArray:
    """Levels uniform on 1..steps, both ends included: 1 + floor(steps u).  T-2.3-uniform.

    Args:
        uniform: u in [0, 1), any shape.
        steps: number T >= 1 of levels.

    Raises:
        ValueError: u leaves [0, 1) or steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return 1 + np.floor(_unit(uniform, "uniform") * steps).astype(np.int64)


def stratified_level(offset: ArrayLike, batch: int, steps: int) -> LevelArray:
    """A level for each of a batch, from one number: u_i = offset + i / batch modulo 1.

    X-stratified, T-2.3-uniform. Each level by itself is uniform on 1..steps, and together they
    spread as evenly as they can.

    Args:
        offset: a number in [0, 1), or several, shape (...).
        batch: how many levels, at least 1.
        steps: number T >= 1 of levels.

    Returns:
        Shape (..., batch).

    Raises:
        ValueError: offset leaves [0, 1), batch < 1 or steps < 1.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    spread = _unit(offset, "offset")[..., None] + np.arange(batch) / batch
    return uniform_level(spread % 1.0, steps)


def level_probabilities(weights: ArrayLike) -> Array:
    """Probability of each level in proportion to its weight, w_t / sum w.  T-fn16.

    The mean of the plain loss over these levels is sum(w L) / sum(w): the weighted objective up to
    the factor sum(w) / T.

    Args:
        weights: shape (T,), at least 0, not all 0; entry t - 1 belongs to the pair (t - 1, t).

    Raises:
        ValueError: weights is empty or not one-dimensional, a weight is negative, or all are 0.
    """
    w = as_float(weights, "weights")
    if w.ndim != 1 or np.any(w < 0) or not np.any(w > 0):
        raise ValueError(f"weights must be at least 0, not all 0, of shape (T,), got {w}")
    return np.asarray(w / w.sum())


def weighted_level(uniform: ArrayLike, weights: ArrayLike) -> LevelArray:
    """Levels drawn in proportion to their weight; weight 0 is never drawn.  T-fn16.

    Args:
        uniform: u in [0, 1), any shape.
        weights: shape (T,), at least 0, not all 0.

    Raises:
        ValueError: u leaves [0, 1), or the weights are not as above.
    """
    below = np.cumsum(level_probabilities(weights))
    return 1 + np.searchsorted(below / below[-1], _unit(uniform, "uniform"), side="right")


def adjacent_pair(
    chain: Chain, t: Levels, x0: Array, noise: Array, step_noise: Array
) -> tuple[Array, Array]:
    """Samples (x_{t-1}, x_t) of neighbouring levels, what weighted augmentation trains on.  T-fig2.

    Args:
        chain: the noising chain.
        t: the noisier level in 1..T, a number or shape (batch,).
        x0: clean samples, shape (batch, ...).
        noise: standard normal numbers that make x_{t-1}, same shape.
        step_noise: those of the step to x_t, same shape.

    Raises:
        ValueError: a level is out of range or the shapes differ.
    """
    s = _noisy(t, chain.steps) - 1
    before = q_sample(x0, chain.alpha_bar[s], noise, chain.one_minus_alpha_bar[s])
    mean, beta = forward_step(before, chain.betas[s])
    draws = shaped_like(step_noise, mean, "step_noise")
    return before, mean + per_sample(np.sqrt(beta), mean) * draws


def importance_weight(probabilities: ArrayLike, t: Levels) -> Array:
    """Weight 1 / (T p_t) that keeps the mean of the objective.  G-3.2, T-fn16.

    Args:
        probabilities: p_1..p_T, shape (T,), summing to one.
        t: levels drawn from them, so that p_t > 0.

    Raises:
        ValueError: the probabilities do not sum to one, or a level has probability 0.
    """
    p = as_float(probabilities, "probabilities")
    if p.ndim != 1 or abs(p.sum() - 1) > 1e-9:
        raise ValueError(f"probabilities must have shape (T,) and sum to 1, got {p}")
    drawn = p[_noisy(t, p.size) - 1]
    if np.any(drawn <= 0):
        raise ValueError(f"t must be a level of positive probability, got {t}")
    return np.asarray(1 / (p.size * drawn))


class LossHistory:
    """The last losses of each level, and the probabilities that lower the noise.  G-3.2.

    Args:
        steps: number T >= 1 of levels.
        size: losses kept of each level, at least 1.
        floor: share of the uniform law in (0, 1], which keeps every level drawn.

    Raises:
        ValueError: an argument leaves its range.
    """

    def __init__(self, steps: int, size: int = 10, floor: float = 0.001) -> None:
        if steps < 1 or size < 1 or not 0 < floor <= 1:
            raise ValueError(
                "steps and size must be at least 1 and floor in (0, 1], "
                f"got steps = {steps}, size = {size}, floor = {floor}"
            )
        self.floor = floor
        self._losses: list[deque[float]] = [deque(maxlen=size) for _ in range(steps)]

    def record(self, t: LevelArray, losses: ArrayLike) -> None:
        """Take in losses of levels; the oldest beyond `size` are forgotten.  G-3.2.

        Args:
            t: levels in 1..T, shape (batch,).
            losses: one number for each.

        Raises:
            ValueError: a level is out of range, a loss is not finite, or the shapes differ.
        """
        levels, values = _noisy(t, len(self._losses)), as_float(losses, "losses")
        if levels.ndim != 1 or values.shape != levels.shape:
            raise ValueError(f"losses must have the shape (batch,) of t, got {values.shape}")
        for level, value in zip(levels.tolist(), values.tolist(), strict=True):
            self._losses[level - 1].append(value)

    @property
    def filled(self) -> bool:
        """Whether every level has as many losses as are kept.  G-3.2."""
        return all(len(kept) == kept.maxlen for kept in self._losses)

    @property
    def probabilities(self) -> Array:
        """p_t in proportion to sqrt(E L_t^2), shape (T,); uniform until all are filled.  G-3.2."""
        steps = len(self._losses)
        uniform = np.full(steps, 1 / steps)
        if not self.filled or not np.any(self._losses):
            return uniform
        size = np.sqrt(np.mean(np.square(self._losses), axis=1))
        return (1 - self.floor) * level_probabilities(size) + self.floor * uniform


def _noisy(t: Levels, steps: int) -> LevelArray:
    level = checked_levels(t, steps)
    if np.any(level == 0):
        raise ValueError(f"t must lie in 1..{steps}, got {t}")
    return level


def _unit(value: ArrayLike, name: str) -> Array:
    array = as_float(value, name)
    if np.any((array < 0) | (array >= 1)):
        raise ValueError(f"{name} must lie in [0, 1), got {array[(array < 0) | (array >= 1)][:1]}")
    return array
