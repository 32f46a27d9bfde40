from collections.abc import Callable

import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.hybrid import (
    RATE,
    HybridGradient,
    bound_term,
    hybrid_estimate,
    hybrid_gradient,
    hybrid_loss,
)

CHAIN = Chain([0.1, 0.2, 0.3])
X, ONES = np.zeros((2, 3)), np.ones((2, 3))


def test_the_rate_is_small() -> None:
    assert RATE == 0.001
    assert hybrid_estimate(np.zeros(1), np.ones(1), 5).tolist() == [0.005]


def test_shapes() -> None:
    for t in (1, 2):
        assert bound_term(ONES, ONES, CHAIN, t, ONES, ONES).shape == (2,)
        assert bound_term(X[:, :0], X[:, :0], CHAIN, t, X[:, :0], X[:, :0]).tolist() == [0, 0]
    deep = np.zeros((2, 3, 4))
    assert bound_term(deep, deep, CHAIN, 3, deep, deep + 1).shape == (2,)
    gradient = hybrid_gradient(deep, deep, CHAIN, 3, deep + 1, deep)
    assert isinstance(gradient, HybridGradient)
    assert gradient.output.shape == gradient.fraction.shape == deep.shape
    np.testing.assert_allclose(gradient.output, 2 / 12)


def test_the_decoder_has_256_grey_levels() -> None:
    grey = np.full((1, 1), 1 / 255)
    got = bound_term(grey, grey, CHAIN, 1, grey, np.ones((1, 1)))
    np.testing.assert_allclose(got, -np.log(2 / 255 / np.sqrt(2 * np.pi)), rtol=1e-5)


def test_one_step_and_no_rate_are_allowed() -> None:
    assert hybrid_loss(lambda t: np.array([t]), lambda _: np.ones(1), 1, 0.0).tolist() == [1]
    assert hybrid_estimate(np.ones(1), np.ones(1), 1, 0.0).tolist() == [1]


def test_each_sample_has_its_loss() -> None:
    got = hybrid_loss(lambda t: np.array([t, 0.0]), lambda t: np.array([0.0, t]), 3, 0.5)
    assert got.tolist() == [2, 3]


def empty(_: int) -> np.ndarray:
    return np.zeros(1)


BAD: dict[str, Callable[[], object]] = {
    "mean must have shape": lambda: bound_term(X, X, CHAIN, 2, X[0], ONES),
    "variance must have shape": lambda: bound_term(X, X, CHAIN, 2, X, ONES[0]),
    "x_t must have shape": lambda: bound_term(X, X[0], CHAIN, 2, X, ONES),
    "variance must be positive, got 0": lambda: bound_term(X, X, CHAIN, 2, X, X),
    "variance must be positive": lambda: bound_term(ONES, X, CHAIN, 1, X, -ONES),
    "steps must be at least 1, got 0": lambda: hybrid_loss(empty, empty, 0),
    "rate must be at least 0, got -1": lambda: hybrid_loss(empty, empty, 1, -1.0),
    "steps must be at least 1": lambda: hybrid_estimate(X[0], X[0], 0),
    "rate must be at least 0, got nan": lambda: hybrid_estimate(X[0], X[0], 1, np.nan),
    "term must have shape": lambda: hybrid_estimate(X[0], X[1, :1], 1),
    "rate must be at least 0": lambda: hybrid_gradient(X, X, CHAIN, 2, X, X, -0.1),
    "output must have shape": lambda: hybrid_gradient(X, X, CHAIN, 2, X[0], X),
    "fraction must have shape": lambda: hybrid_gradient(X, X, CHAIN, 2, X, X[0]),
    "x0 must be finite": lambda: bound_term(np.nan * X, X, CHAIN, 2, X, ONES),
    "x0 must be fin": lambda: hybrid_gradient(np.nan * X, X, CHAIN, 2, X, X),
    "simple must be finite": lambda: hybrid_estimate(np.nan * X[0], X[0], 1),
    "noise must have shape": lambda: hybrid_gradient(X, X[0], CHAIN, 2, X, X),
}


@pytest.mark.parametrize("message", BAD)
def test_refused_arguments(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message]()


@pytest.mark.parametrize("t", [0, 4])
def test_refused_levels(t: int) -> None:
    with pytest.raises(ValueError, match=r"must lie in|must be less|s must be"):
        bound_term(X, X, CHAIN, t, X, ONES)


@pytest.mark.parametrize("t", [0, 1, 4])
def test_refused_levels_of_the_gradient(t: int) -> None:
    with pytest.raises(ValueError, match=r"must lie in|must be at least"):
        hybrid_gradient(X, X, CHAIN, t, X, X)
