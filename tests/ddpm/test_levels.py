from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.samplers.levels import check_levels, trailing
from ddpm.verify.strategies import subsequences


@st.composite
def totals(draw: st.DrawFn) -> tuple[int, int]:
    """T and K with 1 <= K <= T."""
    total = draw(st.integers(1, 5000))
    return total, draw(st.integers(1, total))


@given(totals())
def test_trailing(pair: tuple[int, int]) -> None:
    total, steps = pair
    levels = trailing(total, steps)
    assert len(levels) == steps + 1
    assert levels[0] == total
    assert levels[-1] == 0
    assert levels == sorted(set(levels), reverse=True)
    stride = Fraction(total, steps)
    assert levels == [ceil(total - k * stride) for k in range(steps + 1)]
    check_levels(levels, total)


@given(st.integers(1, 5000))
def test_all_levels(total: int) -> None:
    assert trailing(total) == trailing(total, total) == list(range(total, -1, -1))


def test_golden_levels() -> None:
    assert trailing(1000, 4) == [1000, 750, 500, 250, 0]
    assert trailing(10, 3) == [10, 7, 4, 0]
    assert trailing(1) == [1, 0]


@pytest.mark.parametrize(("total", "steps"), [(5, 0), (5, 6), (5, -1), (0, 1), (0, None)])
def test_wrong_steps(total: int, steps: int | None) -> None:
    with pytest.raises(ValueError, match=rf"steps = -?\d+: allowed is 1 to T = {total}"):
        trailing(total, steps)


@given(st.data(), st.integers(1, 40))
def test_any_decreasing_sequence_is_allowed(data: st.DataObject, total: int) -> None:
    check_levels(data.draw(subsequences(total)), total)


@pytest.mark.parametrize(
    "levels",
    [[], [0], [5], [5, 3], [5, 5, 0], [3, 5, 0], [6, 3, 0], [5, 3, -1], [5, 0, -1], [5, 0, 0]],
)
def test_sequences_that_are_refused(levels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"levels = \[.*strictly decreasing.*T = 5 .*ends at 0"):
        check_levels(levels, 5)
