import numpy as np
import pytest

from ddpm.reference.standardise import Standardiser

DATA = np.array([[1.0, 5.0], [3.0, 5.0]])


def test_mean_and_deviation() -> None:
    scaler = Standardiser.fit(DATA)
    assert scaler.mean.tolist() == [2, 5]
    assert scaler.deviation.tolist() == [1, 1]
    assert scaler.standardise([[4.0, 5.0]]).tolist() == [[2, 0]]
    assert scaler.standardise([4.0, 5.0]).tolist() == [2, 0]
    assert scaler.restore([2.0, 0.0]).tolist() == [4, 5]


def test_one_feature() -> None:
    scaler = Standardiser.fit([1.0, 3.0])
    assert scaler.mean.shape == ()
    assert scaler.standardise([[2.0, 4.0]]).tolist() == [[0, 2]]


def test_refused_data() -> None:
    for data in (1.0, np.zeros((0, 3))):
        with pytest.raises(
            ValueError, match=r"data must have shape \(n, \.\.\.\) with n >= 1, got"
        ):
            Standardiser.fit(data)
    with pytest.raises(ValueError, match="data must be finite"):
        Standardiser.fit([np.nan])


def test_refused_features() -> None:
    scaler = Standardiser.fit(DATA)
    with pytest.raises(ValueError, match=r"x must have the features \(2,\), got shape \(3,\)"):
        scaler.standardise(np.zeros(3))
    with pytest.raises(ValueError, match=r"z must have the features \(2,\), got shape \(2, 1\)"):
        scaler.restore(np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"x must have the features \(2,\), got shape \(\)"):
        scaler.standardise(1.0)
    with pytest.raises(ValueError, match="x must be finite"):
        scaler.standardise([np.nan, 0.0])
