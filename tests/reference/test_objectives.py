import numpy as np
import pytest

from ddpm.reference.chain import Chain
from ddpm.reference.objectives import (
    bound_weight,
    level_kl,
    noise_loss,
    noise_weight,
    prior_kl,
    simple_loss,
    simple_weight,
    variance_constant,
    weighted_loss,
)

GOLDEN = Chain([0.1, 0.2, 0.3])


def test_shapes() -> None:
    s, t = np.array([1, 2]), np.array([2, 3])
    x = np.zeros((2, 3, 4))
    assert simple_loss(x, x).shape == weighted_loss(x, x, 1.0).shape == (2,)
    assert noise_loss(lambda x_t, _: x_t, x, GOLDEN, t, x).shape == (2,)
    assert bound_weight("v", GOLDEN, s, t).shape == simple_weight(GOLDEN, t).shape == (2,)
    assert noise_weight(GOLDEN, t, 0.1).shape == variance_constant(GOLDEN, s, t, 3).shape == (2,)
    assert level_kl("x0", x, x + 1, GOLDEN, s, t).shape == (2,)
    assert prior_kl(x, GOLDEN).shape == (2,)


def test_samples_without_elements_cost_nothing() -> None:
    x = np.zeros((2, 0))
    assert simple_loss(x, x).tolist() == [0, 0]
    assert level_kl("eps", x, x, GOLDEN, 1, 2).tolist() == [0, 0]
    assert prior_kl(x, GOLDEN).tolist() == [0, 0]


def test_a_weight_may_be_zero() -> None:
    x = np.ones((2, 1))
    assert weighted_loss(x, 0 * x, [0.0, 2.0]).tolist() == [0, 2]


def test_prior_of_almost_no_noise() -> None:
    got = prior_kl(np.zeros((1, 1)), Chain([1e-12]))
    np.testing.assert_allclose(got, (-1 - np.log(1e-12)) / 2, rtol=1e-10)


def test_x0_works_without_signal() -> None:
    np.testing.assert_allclose(bound_weight("x0", Chain([0.1, 1.0]), 1, 2), 4.5, rtol=1e-14)


def test_the_network_is_told_the_levels_as_given() -> None:
    seen: list[object] = []

    def network(x_t: np.ndarray, t: object) -> np.ndarray:
        seen.append(t)
        return x_t

    noise_loss(network, np.zeros((2, 1)), GOLDEN, 3, np.zeros((2, 1)))
    assert seen == [3]


def test_refused_arguments() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="output must have"):
        simple_loss(x, x[0])
    with pytest.raises(ValueError, match="output must have"):
        simple_loss(np.zeros(()), np.zeros(()))
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        weighted_loss(x, x, np.array([0.0, -1.0]))
    with pytest.raises(ValueError, match="weight must be finite"):
        weighted_loss(x, x, np.nan)
    with pytest.raises(ValueError, match="target must be finite"):
        simple_loss(np.nan * x, x)
    with pytest.raises(ValueError, match="output must be finite"):
        simple_loss(x, np.nan * x)
    with pytest.raises(ValueError, match="x0 must be finite"):
        prior_kl(np.nan * x, GOLDEN)
    with pytest.raises(ValueError, match="s must be at least 1"):
        level_kl("eps", x, x, GOLDEN, 0, 1)
    with pytest.raises(ValueError, match="s must be at least 1"):
        bound_weight("x0", GOLDEN, np.array([1, 0]), np.array([2, 1]))
    with pytest.raises(ValueError, match="ratio must be positive"):
        variance_constant(GOLDEN, 0, 1, 3, "beta")
    with pytest.raises(ValueError, match="prediction must be one of"):
        bound_weight("noise", GOLDEN, 1, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="variance must be"):
        bound_weight("x0", GOLDEN, 1, 2, "none")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["eps", "score"])
def test_refused_without_signal(kind: str) -> None:
    with pytest.raises(ValueError, match=f"{kind} has no finite weight at zero SNR, t = 2"):
        bound_weight(kind, Chain([0.1, 1.0]), 1, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eps has no finite weight"):
        noise_weight(Chain([0.1, 1.0]), 2, 0.1)


def test_refused_levels_and_variances_of_the_decoder() -> None:
    x = np.zeros((2, 1))
    for t in (0, np.array([1, 0])):
        with pytest.raises(ValueError, match=r"t must lie in 1\.\.3"):
            noise_loss(lambda x_t, _: x_t, x, GOLDEN, t, x)
    with pytest.raises(ValueError, match=r"t must lie in 1\.\.3, got 0"):
        noise_weight(GOLDEN, 0, 0.1)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.3"):
        noise_weight(GOLDEN, 4, 0.1)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="decoder_variance must be positive"):
            noise_weight(GOLDEN, 1, bad)
    with pytest.raises(ValueError, match="noise must have shape"):
        noise_loss(lambda x_t, _: x_t, x, GOLDEN, 1, np.zeros(2))
