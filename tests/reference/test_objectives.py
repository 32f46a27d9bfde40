import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.objectives import (
    bound_weight,
    level_kl,
    prior_kl,
    simple_loss,
    simple_weight,
    variance_constant,
    weighted_loss,
)
from ddpm.reference.parameterisations import Prediction
from ddpm.reference.posterior import Variance
from ddpm.verify.oracles import condition, joint_covariance, quad_kl
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas, shapes

# Quadrature with 200 nodes leaves 1e-9 of a divergence; a weight divides two regressions.
GOLDEN_BETAS = np.array([0.1, 0.2, 0.3])
GOLDEN = Chain(GOLDEN_BETAS)
KINDS = st.sampled_from(["eps", "x0", "v", "score", "mean"])
VARIANCES = st.sampled_from(["posterior", "beta"])


@given(shapes(min_batch=1), generators())
def test_losses_element_by_element(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    target, output = rng.normal(size=(2, *shape))
    weight = rng.uniform(size=shape[0])
    simple, weighted = simple_loss(target, output), weighted_loss(target, output, weight)
    assert simple.shape == weighted.shape == shape[:1]
    for i in range(shape[0]):
        pairs = list(zip(np.ravel(target[i]), np.ravel(output[i]), strict=True))
        want = sum((a - b) ** 2 for a, b in pairs) / max(len(pairs), 1)
        np.testing.assert_allclose(simple[i], want, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(weighted[i], weight[i] * want, rtol=1e-12, atol=1e-300)


def test_simple_loss_is_least_at_the_conditional_mean() -> None:
    # The regression of eps on x_t, from the covariance of the simulated chain, beats a grid.
    covariance = joint_covariance(GOLDEN_BETAS)
    gain, variance = condition(covariance, 3, [0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    x0, eps = (axis.ravel() for axis in np.meshgrid(nodes, nodes))
    probability = np.outer(weights, weights).ravel() / weights.sum() ** 2
    x_t = gain[0] * x0 + np.sqrt(variance) * eps
    slopes = np.sqrt(variance) + np.linspace(-0.5, 0.5, 11)
    losses = [probability @ simple_loss(eps[:, None], (k * x_t)[:, None]) for k in slopes]
    assert np.argmin(losses) == 5
    np.testing.assert_allclose(losses[5], 1 - variance, rtol=1e-12)


def mean_of(
    kind: Prediction, output: Array, x_t: Array, covariance: Array, s: int, t: int
) -> Array:
    """Mean of the model's step from the regressions of the simulated chain."""
    if kind == "mean":
        return output
    gain, variance = condition(covariance, t, [0])
    weights, _ = condition(covariance, s, [0, t])
    if kind == "x0":
        x0 = output
    elif kind == "v":
        turn = np.array([[gain[0], -np.sqrt(variance)], [np.sqrt(variance), gain[0]]])
        x0 = (turn @ np.stack([x_t, output]))[0]
    else:
        noise = output if kind == "eps" else -np.sqrt(variance) * output
        x0 = (x_t - np.sqrt(variance) * noise) / gain[0]
    return np.asarray(weights[0] * x0 + weights[1] * x_t)


@given(st.data(), moderate_betas(min_steps=2), KINDS, VARIANCES, generators())
def test_level_kl_by_quadrature(
    data: st.DataObject,
    steps: Array,
    kind: Prediction,
    variance: Variance,
    rng: np.random.Generator,
) -> None:
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    covariance = joint_covariance(steps)
    _, s2 = condition(covariance, s, [0, t])
    model = s2 if variance == "posterior" else condition(covariance, t, [s])[1]
    x_t, target, output = rng.normal(size=(3, 2))
    means = np.stack([mean_of(kind, y, x_t, covariance, s, t) for y in (target, output)], axis=1)
    want = sum(quad_kl(q, np.sqrt(s2), p, np.sqrt(model)) for q, p in means.tolist())
    got = level_kl(kind, target[None], output[None], Chain(steps), s, t, variance)
    np.testing.assert_allclose(got, [want], rtol=1e-7, atol=1e-9)


@given(st.data(), moderate_betas(min_steps=2), KINDS, VARIANCES)
def test_weight_is_the_curvature_of_the_divergence(
    data: st.DataObject, steps: Array, kind: Prediction, variance: Variance
) -> None:
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    covariance = joint_covariance(steps)
    x_t, zero, one = np.array([0.3]), np.zeros(1), np.ones(1)
    moved = mean_of(kind, one, x_t, covariance, s, t) - mean_of(kind, zero, x_t, covariance, s, t)
    model = condition(covariance, s, [0, t])[1]
    if variance == "beta":
        model = condition(covariance, t, [s])[1]
    got = bound_weight(kind, chain, s, t, variance)
    np.testing.assert_allclose(got, moved[0] ** 2 / (2 * model), rtol=1e-8)


@given(st.data(), moderate_betas(min_steps=2), st.integers(1, 5))
def test_constant_is_the_divergence_of_equal_means(
    data: st.DataObject, steps: Array, elements: int
) -> None:
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    covariance = joint_covariance(steps)
    s2, beta = condition(covariance, s, [0, t])[1], condition(covariance, t, [s])[1]
    want = elements * quad_kl(0, np.sqrt(s2), 0, np.sqrt(beta))
    got = variance_constant(Chain(steps), s, t, elements, "beta")
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
    assert variance_constant(Chain(steps), s, t, elements) == 0


def test_golden_weights() -> None:
    s, t = np.array([1, 2]), np.array([2, 3])
    golden = {
        "mean": [7, 2.952380952],
        "x0": [3.214285714, 0.777649770],
        "eps": [1.25, 0.765306122],
    }
    for kind, want in golden.items():
        np.testing.assert_allclose(bound_weight(kind, GOLDEN, s, t), want, rtol=1e-8)  # type: ignore[arg-type]
    got = bound_weight("eps", GOLDEN, s, t, "beta")
    np.testing.assert_allclose(got, [0.446428571, 0.432027650], rtol=1e-8)
    # The same weights by the SNR: half its drop for x0, half its ratio less one for eps.
    np.testing.assert_allclose(
        bound_weight("x0", GOLDEN, s, t), GOLDEN.snr_drop(s, t) / 2, rtol=1e-13
    )
    ratio = GOLDEN.snr[s] / GOLDEN.snr[t]
    np.testing.assert_allclose(bound_weight("eps", GOLDEN, s, t), (ratio - 1) / 2, rtol=1e-13)


def test_simple_weight_makes_the_bound_simple() -> None:
    t = np.array([1, 2, 3])
    np.testing.assert_allclose(simple_weight(GOLDEN, t), [0.9, 1.12, 1.157333333], rtol=1e-8)
    product = simple_weight(GOLDEN, t[1:]) * bound_weight("eps", GOLDEN, t[1:] - 1, t[1:], "beta")
    np.testing.assert_allclose(product, 0.5, rtol=1e-13)


def test_refuted_weights() -> None:
    # T-eq3 with its printed sign would reward error; K-77 keeps alpha_bar for alpha.
    assert np.all(bound_weight("x0", GOLDEN, np.array([1, 2]), np.array([2, 3])) > 0)
    covariance = joint_covariance(GOLDEN_BETAS)
    x_t = np.array([0.3])
    means = [mean_of("eps", np.array([e]), x_t, covariance, 2, 3)[0] for e in (0.0, 1.0)]
    want = (means[1] - means[0]) ** 2 / (2 * 0.3)
    assert np.isclose(bound_weight("eps", GOLDEN, 2, 3, "beta"), want)
    assert not np.isclose(0.3**2 / (2 * 0.3 * 0.504 * 0.496), want, rtol=0.1)
    assert np.isclose(0.3**2 / (2 * 0.3 * 0.7 * 0.496), want)


@given(moderate_betas(), generators())
def test_prior_by_quadrature(steps: Array, rng: np.random.Generator) -> None:
    x0 = rng.normal(size=(2, 3))
    gain, variance = condition(joint_covariance(steps), steps.size, [0])
    want = [[quad_kl(gain[0] * x, np.sqrt(variance), 0, 1) for x in row] for row in x0.tolist()]
    got = prior_kl(x0, Chain(steps))
    np.testing.assert_allclose(got, np.sum(want, axis=1), rtol=1e-8, atol=1e-10)


def test_prior_at_the_ends() -> None:
    assert prior_kl(np.ones((1, 4)), Chain([1.0])) == 0
    got = prior_kl(np.zeros((1, 1)), Chain([1e-12]))
    np.testing.assert_allclose(got, (-1 - np.log(1e-12)) / 2, rtol=1e-10)
    linear = Chain(np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(prior_kl(np.ones((1, 1)), linear), 2.02e-5, rtol=1e-2)
    assert prior_kl(np.zeros((2, 0)), linear).tolist() == [0, 0]


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="output must have"):
        simple_loss(x, x[0])
    with pytest.raises(ValueError, match="weight must be at least 0"):
        weighted_loss(x, x, -1.0)
    with pytest.raises(ValueError, match="s must be at least 1"):
        level_kl("eps", x, x, GOLDEN, 0, 1)
    with pytest.raises(ValueError, match="ratio must be positive"):
        variance_constant(GOLDEN, 0, 1, 3, "beta")
    with pytest.raises(ValueError, match="prediction must be one of"):
        bound_weight("noise", GOLDEN, 1, 2)  # type: ignore[arg-type]
    for kind in ("eps", "score"):
        with pytest.raises(ValueError, match=f"{kind} has no finite weight at zero SNR"):
            bound_weight(kind, Chain([0.1, 1.0]), 1, 2)
    np.testing.assert_allclose(bound_weight("x0", Chain([0.1, 1.0]), 1, 2), 4.5, rtol=1e-14)
