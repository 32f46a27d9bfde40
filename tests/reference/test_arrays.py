import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference.arrays import as_float, per_sample, shaped_like
from ddpm.verify.strategies import shapes


@given(shapes(), st.integers(0, 9))
def test_per_sample_multiplies_sample_by_sample(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, factors = rng.normal(size=shape), rng.normal(size=shape[0])
    product = per_sample(factors, x) * x
    for sample, factor, want in zip(x, factors, product, strict=True):
        assert np.array_equal(factor * sample, want)
    assert np.array_equal(per_sample(2.0, x) * x, 2 * x)


def test_per_sample_refuses_another_batch() -> None:
    with pytest.raises(ValueError, match=r"shape \(\) or \(3,\), got \(2,\)"):
        per_sample([1.0, 2.0], np.zeros((3, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_as_float_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"x must be finite, got \[ *{bad}\]"):
        as_float([0.0, bad, np.nan], "x")
    assert as_float([1, 2], "x").dtype == np.float64


def test_shaped_like_compares_shapes() -> None:
    assert shaped_like([[1.0], [2.0]], np.zeros((2, 1)), "noise").shape == (2, 1)
    with pytest.raises(ValueError, match=r"noise must have shape \(2, 1\), got \(2,\)"):
        shaped_like([1.0, 2.0], np.zeros((2, 1)), "noise")
