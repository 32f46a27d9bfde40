from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from ddpm.reference.evidence import FiniteLatent, LinearGaussian, log_mean

HALF = np.array([0.5, 0.5])
MODEL = FiniteLatent(HALF, np.array([0.2, 0.6]))


@pytest.mark.parametrize(
    "prior",
    [
        [0.5, 0.6],
        [0.5, 0.5 - 1e-9],
        [1.5, -0.5],
        [[0.5, 0.5]],
        [np.nan, 1.0],
    ],
)
def test_refused_priors(prior: object) -> None:
    with pytest.raises(ValueError, match="prior must be"):
        FiniteLatent(np.asarray(prior), np.ones_like(np.asarray(prior)))


def test_refused_likelihoods() -> None:
    with pytest.raises(ValueError, match=r"likelihood must have shape \(2,\), got \(3,\)"):
        FiniteLatent(HALF, np.ones(3))
    with pytest.raises(ValueError, match="must be positive"):
        FiniteLatent(HALF, np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="must be positive"):
        FiniteLatent(np.array([0.0, 1.0]), HALF)
    with pytest.raises(ValueError, match="likelihood must be finite"):
        FiniteLatent(HALF, np.array([np.inf, 1.0]))


def test_lists_are_taken() -> None:
    model = FiniteLatent([0.5, 0.5], [0.2, 0.6])  # type: ignore[arg-type]
    np.testing.assert_allclose(model.posterior, [0.25, 0.75])


@pytest.mark.parametrize(
    "method",
    [
        MODEL.importance_evidence,
        MODEL.log_importance_evidence,
        MODEL.posterior_evidence,
        MODEL.posterior_log_evidence,
        MODEL.elbo,
        MODEL.gap,
    ],
)
def test_refused_laws(method: object) -> None:
    assert callable(method)
    with pytest.raises(ValueError, match=r"q must have shape \(2,\), got \(1,\)"):
        method([1.0])
    with pytest.raises(ValueError, match="q must be probabilities"):
        method([0.5, 0.4])
    with pytest.raises(ValueError, match="q must be probabilities"):
        method([1.1, -0.1])


def test_likelihoods_may_exceed_one() -> None:
    assert FiniteLatent(HALF, np.array([3.0, 5.0])).evidence == 4.0


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan])
def test_refused_noise(noise: float) -> None:
    with pytest.raises(ValueError, match="noise must be positive"):
        LinearGaussian(1.0, 0.0, noise)


def test_arguments_broadcast() -> None:
    model, x = LinearGaussian(0.5, 0.1, 0.2), np.zeros((3, 2))
    assert model.log_evidence(0.0).shape == ()
    assert model.log_evidence(x).shape == (3, 2)
    assert model.log_joint(x, 1.0).shape == (3, 2)
    assert model.log_joint(0.0, x).shape == (3, 2)
    assert model.posterior(x)[0].shape == (3, 2)
    assert model.elbo(x, 0.3, 0.5).shape == (3, 2)
    assert model.elbo(0.0, x, 0.5).shape == (3, 2)
    assert model.gap(x, 0.3, 0.5).shape == (3, 2)


@pytest.mark.parametrize("variance", [0.0, -1.0])
def test_refused_variances(variance: float) -> None:
    model = LinearGaussian(0.5, 0.1, 0.2)
    with pytest.raises(ValueError, match="must be positive"):
        model.elbo(0.0, 0.0, variance)
    with pytest.raises(ValueError, match="must be positive"):
        model.gap(0.0, 0.0, variance)


def test_refused_ratios() -> None:
    with pytest.raises(ValueError, match=r"ratio must be positive with shape \(2,\)"):
        log_mean([1.0], HALF)
    with pytest.raises(ValueError, match="ratio must be positive"):
        log_mean([1.0, 0.0], HALF)
    with pytest.raises(ValueError, match="weights must be probabilities"):
        log_mean([1.0, 2.0], [0.5, 0.6])


def test_models_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        MODEL.prior = HALF  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        LinearGaussian(1.0, 0.0, 1.0).noise = 0.0  # type: ignore[misc]
