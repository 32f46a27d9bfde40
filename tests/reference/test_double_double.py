import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.reference import double_double as dd
from ddpm.verify.oracles import PRECISION

# Two 53-bit parts hold 106 bits; a result loses at most a few of them.
CLOSE = mp.mpf(2) ** -97
numbers = st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-30)


def exact(x: dd.DoubleDouble) -> mp.mpf:
    return mp.mpf(float(x.high)) + mp.mpf(float(x.low))


def number(value: float, tail: float) -> dd.DoubleDouble:
    return dd.DoubleDouble(*dd.two_sum(value, value * tail * 2.0**-54))


def assert_close(got: dd.DoubleDouble, want: mp.mpf) -> None:
    assert float(got.high) == float(got.high) + float(got.low)
    assert abs(exact(got) - want) <= CLOSE * abs(want)


@given(numbers, numbers)
def test_two_sum_and_two_product_are_exact(a: float, b: float) -> None:
    with mp.workprec(PRECISION):
        assert exact(dd.DoubleDouble(*dd.two_sum(a, b))) == mp.mpf(a) + mp.mpf(b)
        assert exact(dd.DoubleDouble(*dd.two_product(a, b))) == mp.mpf(a) * mp.mpf(b)


@given(numbers, numbers, st.floats(-1, 1), st.floats(-1, 1))
def test_arithmetic(a: float, b: float, tail_a: float, tail_b: float) -> None:
    with mp.workprec(PRECISION):
        x, y = number(abs(a), tail_a), number(abs(b), tail_b)
        assert_close(x + y, exact(x) + exact(y))
        assert_close(x * y, exact(x) * exact(y))
        assert_close(x / y, exact(x) / exact(y))
        assert_close(x.sqrt(), mp.sqrt(exact(x)))
        # Relative to the operands: a difference of equal numbers has no digits to keep.
        assert abs(exact(x - y) - (exact(x) - exact(y))) <= CLOSE * (exact(x) + exact(y))


@given(st.floats(-12, 2.8), st.floats(-1, 1))
def test_exponentials(power: float, tail: float) -> None:
    with mp.workprec(PRECISION):
        x = number(-(10.0**power), tail)
        assert_close(dd.exp(x), mp.exp(exact(x)))
        assert_close(dd.expm1(x), mp.expm1(exact(x)))
        assert_close(dd.root_exp(x), mp.exp(exact(x) / 2))


@given(st.floats(-1 + 2.0**-53, 3.0).filter(lambda x: abs(x) > 1e-30))
def test_log1p(x: float) -> None:
    with mp.workprec(PRECISION):
        assert_close(dd.log1p(x), mp.log1p(mp.mpf(x)))


@pytest.mark.parametrize("x", [-np.inf, -1e9])
def test_exponentials_far_below_underflow(x: float) -> None:
    assert dd.exp(dd.DoubleDouble.of(x)).high == 0
    assert dd.root_exp(dd.DoubleDouble.of(x)).high == 0
    assert dd.expm1(dd.DoubleDouble.of(x)).high == -1


def test_infinities_and_zero_pass_through() -> None:
    one, zero = dd.DoubleDouble.of(1.0), dd.DoubleDouble.of(0.0)
    infinite = dd.DoubleDouble.of(-np.inf)
    assert (one / zero).high == np.inf
    assert (infinite - one).high == -np.inf
    assert (infinite - one).low == 0
    assert zero.sqrt().high == 0


def test_nothing_is_lost_where_there_is_no_number() -> None:
    product, error = dd.two_product(1e200, 1e200)
    assert (float(product), float(error)) == (np.inf, 0.0)
