import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.config import Decay, OptimiserConfig
from ddpm.training.rates import FALLS, learning_rate

PEAKS = st.floats(1e-9, 1e3)
WARMUPS = st.integers(0, 1000)


@st.composite
def places(draw: st.DrawFn) -> tuple[int, int]:
    """An update and the number of all of them."""
    steps = draw(st.integers(1, 10**6))
    return draw(st.integers(1, steps)), steps


@given(places(), PEAKS, WARMUPS)
def test_the_cosine_keeps_every_bit_of_earlier_runs(
    place: tuple[int, int], peak: float, warmup: int
) -> None:
    """The expression that the trainer had before there was a choice, operation by operation."""
    step, steps = place
    rising = min(1.0, step / (warmup + 1))
    before = peak * rising * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
    rate = learning_rate(step, steps, OptimiserConfig(learning_rate=peak, warmup=warmup))
    assert rate == before


@given(places(), PEAKS, WARMUPS)
def test_linear_and_constant_against_fractions(
    place: tuple[int, int], peak: float, warmup: int
) -> None:
    update, steps = place
    rising = min(Fraction(1), Fraction(update, warmup + 1))
    left = {"linear": Fraction(steps - update + 1, steps), "constant": Fraction(1)}
    for decay in ("linear", "constant"):
        config = OptimiserConfig(learning_rate=peak, warmup=warmup, decay=decay)
        want = float(Fraction(peak) * rising * left[decay])
        assert learning_rate(update, steps, config) == pytest.approx(want, rel=1e-15)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("cosine", [0.25, 0.4267766952966369, 0.25, 0.07322330470336313]),
        ("linear", [0.25, 0.375, 0.25, 0.125]),
        ("constant", [0.25, 0.5, 0.5, 0.5]),
    ],
)
def test_golden_rates(decay: Decay, expected: list[float]) -> None:
    config = OptimiserConfig(learning_rate=0.5, warmup=1, decay=decay)
    rates = [learning_rate(update, 4, config) for update in range(1, 5)]
    assert rates == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("decay", FALLS)
def test_a_rate_rises_in_the_warm_up_and_never_after_it(decay: Decay) -> None:
    config = OptimiserConfig(learning_rate=0.5, warmup=9, decay=decay)
    rates = [learning_rate(update, 100, config) for update in range(1, 101)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[9]
    assert all(earlier < later for earlier, later in pairwise(rates[:10]))
    assert all(later <= earlier for earlier, later in pairwise(rates[9:]))
    assert all(0 < rate <= 0.5 for rate in rates)


@pytest.mark.parametrize("decay", FALLS)
def test_the_first_of_one_update_has_the_whole_rate(decay: Decay) -> None:
    config = OptimiserConfig(learning_rate=0.5, warmup=0, decay=decay)
    assert learning_rate(1, 1, config) == 0.5
