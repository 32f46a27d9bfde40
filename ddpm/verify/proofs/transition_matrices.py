"""Steps of categories against the experiments that they describe."""

import numpy as np
from hypothesis import strategies as st
from scipy import linalg, stats

from ddpm.reference.transition_matrices import absorbing_matrix, gaussian_matrix, uniform_matrix
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators

BETAS = st.floats(0.01, 1)
STATES = st.integers(2, 9)
DRAWS = 20_000


def stationary(matrix: Array) -> Array:
    """The law that a step leaves alone, from the null space of Q^T - 1."""
    law = linalg.null_space(matrix.T - np.eye(len(matrix)), rcond=1e-9)
    assert law.shape[1] == 1, "more than one law is stationary"
    return np.asarray(law[:, 0] / law[:, 0].sum())


@proof(
    "G-3.5-D3PM",
    of=(uniform_matrix, absorbing_matrix),
    oracle="simulating the step; the null space of Q^T - 1",
    given=(generators(), BETAS, STATES),
    examples=15,
)
def simulated(evidence: Evidence, generator: np.random.Generator, beta: float, states: int) -> None:
    """With probability beta the category is drawn anew, or masked; otherwise it stays."""
    start, mask = (int(k) for k in generator.integers(states, size=2))
    replaced = generator.random(DRAWS) < beta
    fresh = generator.integers(states, size=DRAWS)
    uniform, absorbing = uniform_matrix(beta, states), absorbing_matrix(beta, states, mask)
    for matrix, target in ((uniform, fresh), (absorbing, np.full(DRAWS, mask))):
        ends = np.where(replaced, target, start)
        counts, want = np.bincount(ends, minlength=states), DRAWS * matrix[start]
        # Five standard errors, and five draws for a category that is almost never drawn.
        allowed = 5 * np.sqrt(want * (1 - matrix[start])) + 5
        evidence.close((counts - want) / allowed, 0.0, atol=1.0, what="count by what is allowed")
    evidence.close(stationary(uniform), np.full(states, 1 / states), atol=1e-12, what="uniform law")
    evidence.close(stationary(absorbing), np.eye(states)[mask], atol=1e-12, what="mask")


@proof(
    "G-3.5-D3PM",
    of=(uniform_matrix, absorbing_matrix),
    oracle="a chain of two steps",
    given=(BETAS, BETAS, STATES),
)
def composed(evidence: Evidence, first: float, second: float, states: int) -> None:
    """Two steps are one that keeps the category with the product of the probabilities."""
    both = 1 - (1 - first) * (1 - second)
    for make in (uniform_matrix, lambda beta, k: absorbing_matrix(beta, k, k - 1)):
        matrix = make(first, states) @ make(second, states)
        evidence.close(matrix, make(both, states), atol=1e-14, what="two steps")
        evidence.close(matrix.sum(axis=1), np.ones(states), rtol=1e-14, what="sum of a row")


@proof(
    "X-D3PM-gaussian", "G-3.5-D3PM",
    of=gaussian_matrix,
    oracle="scipy's normal density at the integers",
    given=(st.floats(-4, 1).map(lambda power: float(10.0**power)), STATES),
)  # fmt: skip
def discretised_normal(evidence: Evidence, beta: float, states: int) -> None:
    """Off the diagonal it is a normal density, normalised over all differences."""
    matrix = gaussian_matrix(beta, states)
    deviation = (states - 1) * np.sqrt(beta / 8)
    density = stats.norm(scale=deviation).pdf
    total = sum(density(n) for n in range(1 - states, states))
    for i in range(states):
        others = [j for j in range(states) if j != i]
        want = np.array([density(i - j) / total for j in others])
        evidence.close(matrix[i, others], want, rtol=1e-12, atol=1e-300, what="entry")


@proof(
    "X-D3PM-gaussian",
    of=gaussian_matrix,
    oracle="sums of rows and columns; the null space of Q^T - 1; powers",
    given=(st.floats(0.5, 20), STATES),
)
def doubly_stochastic(evidence: Evidence, beta: float, states: int) -> None:
    """Rows and columns are laws, so the uniform law is stationary and is the limit."""
    matrix, ones = gaussian_matrix(beta, states), np.ones(states)
    evidence.holds(matrix >= 0, "no entry is negative")
    evidence.close(matrix.sum(axis=1), ones, rtol=1e-14, what="sum of a row")
    evidence.close(matrix.sum(axis=0), ones, rtol=1e-14, what="sum of a column")
    evidence.close(stationary(matrix), ones / states, atol=1e-9, what="stationary law")
    limit = np.linalg.matrix_power(matrix, 100_000)
    evidence.close(limit, np.full((states, states), 1 / states), atol=1e-8, what="limit")
