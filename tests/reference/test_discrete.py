import numpy as np
import pytest

from ddpm.reference.discrete import (
    CategoricalChain,
    Categories,
    categorical_bound,
    categorical_sample,
    draw,
    q_marginal,
    q_posterior,
    reverse_step,
    reverse_step_joint,
)
from ddpm.reference.transition_matrices import absorbing_matrix, uniform_matrix
from ddpm.verify.strategies import Array

CHAIN = CategoricalChain([uniform_matrix(beta, 3) for beta in (0.2, 0.5)])
ABSORBING = CategoricalChain([absorbing_matrix(beta, 3, 2) for beta in (0.2, 0.5)])
STEPS = (reverse_step, reverse_step_joint)


def test_sizes() -> None:
    chain = CategoricalChain([np.eye(4)] * 3)
    assert (chain.steps, chain.states) == (3, 4)


def test_shapes_follow_the_categories() -> None:
    x = np.array([[0, 1, 2], [2, 1, 0]])
    assert q_marginal(CHAIN, 1, x).shape == (2, 3, 3)
    assert q_posterior(CHAIN, 0, 2, x, 1).shape == (2, 3, 3)
    assert q_posterior(CHAIN, 1, 2, 1, x).shape == (2, 3, 3)
    for step in STEPS:
        assert step(CHAIN, 1, 2, x, np.full((2, 3, 3), 1 / 3)).shape == (2, 3, 3)
    assert draw(np.full((2, 3, 3), 1 / 3), np.zeros((2, 3))).shape == (2, 3)


def test_a_jump_over_no_level() -> None:
    np.testing.assert_array_equal(CHAIN.transition(1, 1), np.eye(3))
    np.testing.assert_allclose(q_posterior(CHAIN, 1, 1, 2, 0), [0, 0, 1], atol=1e-15)


def test_levels_out_of_order_or_range_are_refused() -> None:
    with pytest.raises(ValueError, match="s must be at most t, got s = 2, t = 1"):
        CHAIN.transition(2, 1)
    for s, t in [(-1, 1), (0, 3)]:
        with pytest.raises(ValueError, match=r"t must lie in 0\.\.2"):
            CHAIN.transition(s, t)


def test_an_absorbing_chain_holds_the_clean_category_or_the_mask() -> None:
    with pytest.raises(ValueError, match="x_t must be reachable from x_0"):
        q_posterior(ABSORBING, 1, 2, [2, 1], 0)
    for step in STEPS:
        np.testing.assert_array_equal(step(ABSORBING, 1, 2, 1, [0.6, 0.1, 0.3]), [0, 1, 0])
        with pytest.raises(ValueError, match="x_t must be reachable from x_0"):
            step(ABSORBING, 1, 2, 1, [0.6, 0.0, 0.4])


def test_matrices_that_are_no_laws_are_refused() -> None:
    off = np.eye(2)
    CategoricalChain([off * (1 + 0.5e-9)])
    for bad in (off * (1 + 2e-9), off * (1 - 2e-9), np.array([[1.5, -0.5], [0, 1]])):
        with pytest.raises(ValueError, match="matrices must hold probabilities"):
            CategoricalChain([off, bad])
    for shape in [(2, 2), (0, 2, 2), (1, 2, 3), (1, 0, 0), (1, 1, 2, 2)]:
        with pytest.raises(ValueError, match="matrices must have shape"):
            CategoricalChain(np.ones(shape))


def test_categories_out_of_range_are_refused() -> None:
    for bad in (-1, 3):
        with pytest.raises(ValueError, match=r"x_0 must lie in 0\.\.2"):
            q_marginal(CHAIN, 1, [0, bad])
        with pytest.raises(ValueError, match=r"x_t must lie in 0\.\.2"):
            q_posterior(CHAIN, 0, 1, bad, 0)
        with pytest.raises(ValueError, match=r"x_0 must lie in 0\.\.2"):
            q_posterior(CHAIN, 0, 1, 0, bad)
        with pytest.raises(ValueError, match=r"x_t must lie in 0\.\.2"):
            reverse_step(CHAIN, 0, 1, bad, np.full(3, 1 / 3))
    with pytest.raises(TypeError, match="x_0 must be made of integers, got dtype float64"):
        q_marginal(CHAIN, 1, 0.0)
    assert q_marginal(CHAIN, 1, np.uint8(2)).shape == (3,)


def test_predictions_that_do_not_fit_are_refused() -> None:
    for step in STEPS:
        with pytest.raises(ValueError, match=r"prediction must have shape \(2, 3\)"):
            step(CHAIN, 0, 1, [0, 1], np.full(3, 1 / 3))
        with pytest.raises(ValueError, match="prediction must hold probabilities"):
            step(CHAIN, 0, 1, 0, np.ones(3))


def test_drawing_skips_what_has_no_probability() -> None:
    np.testing.assert_array_equal(draw([[0.0, 1.0]] * 2, [0.0, 0.99]), [1, 1])
    np.testing.assert_array_equal(draw([[1.0, 0.0]] * 2, [0.0, np.nextafter(1, 0)]), [0, 0])
    np.testing.assert_array_equal(draw([[0.5, 0.5]] * 2, [0.49, 0.5]), [0, 1])
    assert [draw([0.2, 0.3, 0.5], place) for place in (0.1, 0.4, 0.6)] == [0, 1, 2]
    np.testing.assert_array_equal(draw([[[0.2, 0.3, 0.5]] * 3], [[0.1, 0.4, 0.6]]), [[0, 1, 2]])


@pytest.mark.parametrize("uniform", [-1e-9, 1.0])
def test_bad_draws_are_refused(uniform: float) -> None:
    with pytest.raises(ValueError, match=r"uniform must lie in \[0, 1\)"):
        draw([[0.5, 0.5]] * 2, [0.5, uniform])
    with pytest.raises(ValueError, match="law must hold probabilities"):
        draw([0.5, 0.6], 0.5)


def test_a_prior_that_is_no_law_is_refused() -> None:
    with pytest.raises(ValueError, match="prior must hold probabilities"):
        categorical_bound(CHAIN, [0], lambda x, _: np.eye(3)[x], np.ones(3))


def test_the_average_of_posteriors_is_the_default() -> None:
    x, prior, law = np.array([0, 1]), np.full(3, 1 / 3), np.array([0.1, 0.2, 0.7])

    def predict(x_t: Categories, _: int) -> Array:
        return np.broadcast_to(law, (*x_t.shape, 3))

    totals = [categorical_bound(CHAIN, x, predict, prior, step).total for step in STEPS]
    np.testing.assert_array_equal(categorical_bound(CHAIN, x, predict, prior).total, totals[0])
    assert np.all(totals[0] != totals[1])
    uniform = np.random.default_rng(0).random((2, 1000))
    start = np.arange(1000) % 3
    drawn = [categorical_sample(CHAIN, predict, start, uniform, step) for step in STEPS]
    np.testing.assert_array_equal(categorical_sample(CHAIN, predict, start, uniform), drawn[0])
    assert np.any(drawn[0] != drawn[1])


def test_the_first_row_of_uniform_numbers_makes_the_clean_categories() -> None:
    uniform = np.random.default_rng(1).random((2, 1000))
    start, law = np.arange(1000) % 3, np.tile([0.1, 0.2, 0.7], (1000, 1))
    x_1 = draw(reverse_step(CHAIN, 1, 2, start, law), uniform[1])
    x_0 = draw(reverse_step(CHAIN, 0, 1, x_1, law), uniform[0])
    got = categorical_sample(CHAIN, lambda *_: law, start, uniform)
    np.testing.assert_array_equal(got, x_0)
