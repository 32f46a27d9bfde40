"""Hypothesis strategies shared by every test: schedules, levels, shapes, seeds."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALLEST_BETA = 1e-12
EDGE_BETAS = (SMALLEST_BETA, 1e-8, 1e-4, 0.02, 0.5, 0.999, 1 - 2.0**-53)
EDGE_LENGTHS = (0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33)


def seeds() -> st.SearchStrategy[int]:
    """64-bit seeds, signed as users and tensors hold them."""
    return st.integers(-(2**63), 2**63 - 1)


def generators() -> st.SearchStrategy[np.random.Generator]:
    """NumPy generators; one seed shrinks better than an array of floats."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def betas(draw: st.DrawFn, max_steps: int = 12, min_steps: int = 1, terminal: bool = True) -> Array:
    """Any valid schedule: from 1e-12 up to nearly 1, and 1 at the last level if terminal."""
    anything = st.sampled_from(EDGE_BETAS) | st.floats(-12.0, -1e-9).map(lambda power: 10.0**power)
    values = draw(st.lists(anything, min_size=min_steps, max_size=max_steps))
    if terminal and draw(st.booleans()):
        values[-1] = 1.0
    return np.asarray(np.maximum(values, SMALLEST_BETA), dtype=np.float64)


@st.composite
def moderate_betas(draw: st.DrawFn, max_steps: int = 8, min_steps: int = 1) -> Array:
    """Schedules whose joint covariance is well conditioned."""
    sizes = st.floats(0.02, 0.5)
    return np.array(draw(st.lists(sizes, min_size=min_steps, max_size=max_steps)))


@st.composite
def level_pairs(draw: st.DrawFn, steps: int, lowest: int = 0) -> tuple[int, int]:
    """Levels s < t of a chain, s not below `lowest`."""
    s = draw(st.integers(lowest, steps - 1))
    return s, draw(st.integers(s + 1, steps))


@st.composite
def subsequences(draw: st.DrawFn, steps: int) -> list[int]:
    """Strictly decreasing levels that end at 0."""
    chosen = draw(st.sets(st.integers(1, steps), min_size=1))
    return [*sorted(chosen, reverse=True), 0]


@st.composite
def shapes(draw: st.DrawFn, max_dims: int = 2, min_batch: int = 0) -> tuple[int, ...]:
    """Shapes (batch, ...) with 0, 1, odd numbers and neighbours of powers of two."""
    lengths = st.sampled_from(EDGE_LENGTHS)
    batch = draw(st.sampled_from([n for n in EDGE_LENGTHS if min_batch <= n <= 5]))
    return (batch, *draw(st.lists(lengths, max_size=max_dims)))
