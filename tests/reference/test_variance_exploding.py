import numpy as np
import pytest

from ddpm.reference.variance_exploding import VarianceExploding


def test_tables_and_levels_of_an_array() -> None:
    chain = VarianceExploding([1.0, 3.0])
    assert chain.noise.tolist() == [0, 1, 4]
    assert chain.snr.tolist() == [np.inf, 1, 0.25]
    a, b, s2 = chain.posterior_coefficients(np.array([0, 1]), np.array([1, 2]))
    assert a.tolist() == [1, 0.75]
    assert b.tolist() == [0, 0.25]
    assert s2.tolist() == [0, 0.75]
    np.testing.assert_allclose(chain.preserving().betas, [0.5, 0.6], rtol=1e-15)


@pytest.mark.parametrize("variances", [[], [[0.1]], 0.1, [0.1, 0.0], [-0.1]])
def test_refused_variances(variances: list[float]) -> None:
    with pytest.raises(ValueError, match=r"variances must be positive numbers, shape \(T,\)"):
        VarianceExploding(variances)


def test_refused_levels() -> None:
    chain = VarianceExploding([0.1, 0.2])
    with pytest.raises(ValueError, match="variances must be finite"):
        VarianceExploding([np.inf])
    for s, t in [(1, 1), (0, 3), (-1, 1)]:
        with pytest.raises(ValueError, match="must"):
            chain.posterior_coefficients(s, t)
