import numpy as np
import pytest

from ddpm.reference.sde import SDE, Marginal, geometric_rate, linear_rate, refined_chain

X = np.ones((2, 3))


def test_drifts_have_the_shape_of_the_samples() -> None:
    rate = linear_rate(0.1, 1.0)
    for sde in (SDE.vp(rate), SDE.ve(rate), SDE.sub_vp(rate)):
        assert sde.drift(X, 0.5).shape == X.shape
        assert sde.reverse_drift(X, 0.5, X).shape == X.shape
        assert sde.probability_flow_drift(X, 0.5, X).shape == X.shape
        assert isinstance(sde.marginal(0.5), Marginal)


def test_a_tiny_time_keeps_its_digits() -> None:
    sde = SDE.vp(lambda _: 2.0)
    assert sde.marginal(0.0) == (1.0, 0.0)
    np.testing.assert_allclose(sde.marginal(1e-200).variance, 2e-200, rtol=1e-12)


def test_refused_marginals() -> None:
    with pytest.raises(ValueError, match=r"t must be at least 0, got -0\.1"):
        SDE.ve(linear_rate(0.1, 1.0)).marginal(-0.1)
    with pytest.raises(ValueError, match="law must be given"):
        SDE(lambda x, _: -(x**3), lambda _: 1.0).marginal(0.5)


def test_refused_scores() -> None:
    sde = SDE.vp(linear_rate(0.1, 1.0))
    for drift in (sde.reverse_drift, sde.probability_flow_drift):
        with pytest.raises(ValueError, match="score must have shape"):
            drift(X, 0.5, X[:1])
        with pytest.raises(ValueError, match="x must be finite"):
            drift(np.full((2, 3), np.nan), 0.5, X)


def test_refused_rates() -> None:
    for first, last in ((-0.1, 1.0), (1.0, -0.1)):
        with pytest.raises(ValueError, match="first and last must be at least 0"):
            linear_rate(first, last)
    assert linear_rate(0.0, 0.0)(1.0) == 0
    for horizon in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"horizon must be positive, got {horizon}"):
            linear_rate(0.1, 1.0, horizon)
        with pytest.raises(ValueError, match=f"horizon must be positive, got {horizon}"):
            refined_chain(linear_rate(0.1, 1.0), 10, horizon)
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="must fulfil 0 < low < high"):
            geometric_rate(low, high)


def test_refused_steps() -> None:
    for steps in (0, -1):
        with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
            refined_chain(linear_rate(0.1, 1.0), steps)
    assert refined_chain(lambda t: t, 1).betas.tolist() == [1.0]
    with pytest.raises(ValueError, match=r"betas must lie in \(0, 1\]"):
        refined_chain(lambda _: 3.0, 2)
