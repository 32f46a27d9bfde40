from fractions import Fraction
from math import ceil
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.samplers.levels import Spacing, check_levels, spaced, trailing
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, betas, subsequences

SPACINGS = get_args(Spacing)


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


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Schedule, int]:
    """A schedule, with or without signal at its last level, and a number of steps."""
    kind = draw(st.sampled_from(("log_snr", "linear", "cosine", "betas")))
    if kind == "betas":
        schedule = Schedule.from_betas(draw(betas(max_steps=20)).tolist())
    else:
        total = draw(st.integers(1, 300))
        made = {"log_snr": Schedule.log_snr_linear, "linear": Schedule.linear}
        schedule = made.get(kind, Schedule.cosine)(total)
        if total > 1 and draw(st.booleans()):
            schedule = schedule.with_zero_terminal_snr()
    return schedule, draw(st.integers(1, schedule.steps))


@settings(max_examples=150)
@given(schedules(), st.sampled_from(SPACINGS))
def test_any_spacing_of_any_schedule(pair: tuple[Schedule, int], spacing: str) -> None:
    """K steps through K + 1 different levels, from T or, where it is leading, from below, to 0."""
    schedule, steps = pair
    levels = spaced(schedule, spacing, steps)
    assert all(isinstance(level, int) for level in levels)
    assert levels == sorted(set(levels), reverse=True)
    assert len(levels) == steps + 1
    assert levels[-1] == 0
    check_levels(levels, schedule.steps)
    assert spacing == "leading" or levels[0] == schedule.steps
    if spacing == "leading" or (spacing in ("uniform", "log_snr", "karras") and steps > 1):
        assert levels[-2] == 1


@given(schedules(), st.sampled_from(SPACINGS))
def test_all_steps_visit_all_levels(pair: tuple[Schedule, int], spacing: str) -> None:
    total = pair[0].steps
    want = list(range(total, -1, -1))
    assert spaced(pair[0], spacing) == spaced(pair[0], spacing, total) == want


@settings(max_examples=150)
@given(totals())
def test_spacings_of_other_libraries(pair: tuple[int, int]) -> None:
    """As `diffusers` computes timesteps, which are levels less one; they do not visit 0."""
    total, steps = pair
    schedule = Schedule.log_snr_linear(total)
    leading = (np.arange(0, steps) * (total // steps)).round()[::-1].astype(np.int64)
    assert spaced(schedule, "leading", steps) == [*(leading + 1).tolist(), 0]
    if steps > 1:
        linspace = np.linspace(0, total - 1, steps).round()[::-1].astype(np.int64)
        assert spaced(schedule, "uniform", steps) == [*(linspace + 1).tolist(), 0]


def as_near_as_different_levels_can(levels: list[int], distance: Array) -> None:
    """Each of the ascending levels 1.. is nearest to its place, or is pushed off by a neighbour.

    Args:
        levels: K levels, ascending.
        distance: [K, T], of each place from the levels 1..T.
    """
    nearest = distance <= distance.min(axis=1, keepdims=True) + 1e-9
    for k, level in enumerate(levels):
        best = np.flatnonzero(nearest[k]) + 1
        if level > best.max():
            assert levels[k - 1] == level - 1, (k, levels)
        if level < best.min():
            assert levels[k + 1] == level + 1, (k, levels)


@settings(max_examples=150)
@given(schedules(), st.sampled_from(("log_snr", "karras")))
def test_levels_nearest_in_noise(pair: tuple[Schedule, int], spacing: str) -> None:
    """Against a search through all levels, for places found from sigma / alpha itself."""
    schedule, steps = pair
    silent = bool(schedule.log_snr[-1].isneginf())
    levels = spaced(schedule, spacing, steps)[-2::-1]
    if steps == 1:
        assert levels == [schedule.steps]
        return
    levels = levels[:-1] if silent else levels
    signal, noise = schedule.alpha_bar[1:].numpy(), schedule.one_minus_alpha_bar[1:].numpy()
    kept = signal > 0
    ratio = np.sqrt(noise[kept] / signal[kept])
    share = np.arange(len(levels)) / max(1, len(levels) - 1)
    if spacing == "karras":
        # Equation (5) of Karras et al. (2022), from the least noise to the most.
        ends = ratio[0] ** (1 / 7), ratio[-1] ** (1 / 7)
        wanted = (ends[0] + share * (ends[1] - ends[0])) ** 7
    else:
        wanted = ratio[0] * (ratio[-1] / ratio[0]) ** share
    as_near_as_different_levels_can(levels, np.abs(np.log(wanted[:, None] / ratio)))


@settings(max_examples=100)
@given(totals())
def test_quadratic_levels(pair: tuple[int, int]) -> None:
    total, steps = min(pair[0], 400), min(pair[1], min(pair[0], 400))
    levels = spaced(Schedule.log_snr_linear(total), "quadratic", steps)
    places = np.array([float(Fraction(total * k * k, steps**2)) for k in range(1, steps + 1)])
    distance = np.abs(places[:, None] - np.arange(1, total + 1))
    as_near_as_different_levels_can(levels[-2::-1], distance)


GOLDEN = [
    ("trailing", 4, [100, 75, 50, 25, 0]),
    ("leading", 3, [67, 34, 1, 0]),
    ("leading", 7, [85, 71, 57, 43, 29, 15, 1, 0]),
    ("uniform", 4, [100, 67, 34, 1, 0]),
    # 49.5 steps up from level 1 round to 50 and not to 49.
    ("uniform", 3, [100, 51, 1, 0]),
    ("quadratic", 5, [100, 64, 36, 16, 4, 0]),
    ("quadratic", 10, [100, 81, 64, 49, 36, 25, 16, 9, 4, 1, 0]),
    ("log_snr", 4, [100, 67, 34, 1, 0]),
    ("log_snr", 10, [100, 89, 78, 67, 56, 45, 34, 23, 12, 1, 0]),
    # Level t has sigma / alpha = exp(8 (t - 1) / 99 - 4); the middle of exp(-4/7) and exp(4/7) is
    # cosh(4/7), whose seventh power is exp(1.0842), which is level 63.9.
    ("karras", 3, [100, 64, 1, 0]),
    *((spacing, 1, [100, 0]) for spacing in SPACINGS if spacing != "leading"),
    ("leading", 1, [1, 0]),
]


@pytest.mark.parametrize(("spacing", "steps", "want"), GOLDEN)
def test_golden_levels_of_every_spacing(spacing: str, steps: int, want: list[int]) -> None:
    assert spaced(Schedule.log_snr_linear(100, 8.0, -8.0), spacing, steps) == want


def test_the_last_level_without_signal_stands_alone() -> None:
    """The others are spaced over the levels that have signal."""
    schedule = Schedule.log_snr_linear(101, 8.0, -8.0).with_zero_terminal_snr()
    rest = Schedule(schedule.log_snr[:-1])
    for spacing in ("log_snr", "karras"):
        assert spaced(schedule, spacing, 5) == [101, *spaced(rest, spacing, 4)]
        assert spaced(schedule, spacing, 2) == [101, 1, 0]
        assert spaced(schedule, spacing, 1) == [101, 0]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [0, -1, 6])
def test_wrong_steps_of_every_spacing(spacing: str, steps: int) -> None:
    with pytest.raises(ValueError, match=rf"^steps = {steps}: allowed is 1 to T = 5$"):
        spaced(Schedule.log_snr_linear(5), spacing, steps)


def test_an_unknown_spacing() -> None:
    names = "trailing, leading, uniform, quadratic, log_snr, karras"
    for wrong in ("linspace", ""):
        with pytest.raises(ValueError, match=rf"^spacing = '{wrong}': allowed is {names}$"):
            spaced(Schedule.log_snr_linear(5), wrong, 2)
