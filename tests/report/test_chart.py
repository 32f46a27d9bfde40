"""A curve read back with its own ticks as a ruler."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ddpm.report.chart import BINS, BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Tick, chart

UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


def points(text: str) -> list[tuple[float, float]]:
    found = []
    for pair in text.split():
        x, y = pair.split(",")
        found.append((float(x), float(y)))
    return found


def meant(tick: Tick) -> float:
    """The number that a tick's text stands for."""
    unit = UNITS.get(tick.text[-1])
    return float(tick.text) if unit is None else float(tick.text[:-1]) * unit


def read_off(place: float, ticks: Sequence[Tick], *, logarithmic: bool = False) -> float:
    """The value at a place, by the outermost two ticks."""
    first, last = ticks[0], ticks[-1]
    share = (place - first.place) / (last.place - first.place)
    low, high = meant(first), meant(last)
    if logarithmic:
        return math.exp(math.log(low) + share * math.log(high / low))
    return low + share * (high - low)


def drawn(x: Sequence[int], y: Sequence[float | None], *, zero: bool = False) -> Chart:
    made = chart("Loss", x, {"loss": y}, zero=zero)
    assert made is not None
    return made


def test_a_line_shows_its_values() -> None:
    x, y = [4000, 5500, 10_000, 20_000], [3.0, 8.0, 4.5, 5.0]
    made = drawn(x, y)
    assert points(made.curves[0].line)[0][0] == LEFT
    assert points(made.curves[0].line)[-1][0] == WIDTH - RIGHT
    for (px, py), a, b in zip(points(made.curves[0].line), x, y, strict=True):
        assert read_off(px, made.x_ticks) == pytest.approx(a, abs=100)
        assert read_off(py, made.y_ticks) == pytest.approx(b, abs=0.05)
    assert made.curves[0].band == ""


def test_values_over_decades_stand_on_a_logarithmic_axis() -> None:
    x, y = [1, 2, 3, 4], [1.0, 0.1, 0.03, 0.0012]
    made = drawn(x, y)
    for (_, py), b in zip(points(made.curves[0].line), y, strict=True):
        assert read_off(py, made.y_ticks, logarithmic=True) == pytest.approx(b, rel=0.03)


def test_a_rate_stands_on_zero() -> None:
    made = drawn([1, 2, 3], [1e-5, 1e-3, 1e-2], zero=True)
    assert made.y_ticks[0] == Tick(HEIGHT - BOTTOM, "0")
    assert read_off(points(made.curves[0].line)[1][1], made.y_ticks) == pytest.approx(
        1e-3, abs=1e-4
    )


def test_many_points_become_a_mean_inside_a_band() -> None:
    x = list(range(1000 * BINS))
    # Each thousand holds 2 and 4 in turn, and one 9.
    y = [9.0 if i % 1000 == 500 else 2.0 + 2 * (i % 2) for i in x]
    made = drawn(x, y)
    (curve,) = made.curves
    line, band = points(curve.line), points(curve.band)
    assert len(line) == BINS
    assert len(band) == 2 * BINS
    read = [read_off(py, made.y_ticks) for _, py in line]
    assert read == pytest.approx([3.007] * BINS, abs=0.05)
    assert [read_off(py, made.y_ticks) for _, py in band] == pytest.approx(
        [9.0] * BINS + [2.0] * BINS, abs=0.05
    )


def test_unknown_values_are_left_out() -> None:
    made = drawn([1, 2, 3], [1.0, None, 2.0])
    assert len(points(made.curves[0].line)) == 2
    assert chart("Loss", [1, 2], {"loss": [None, None]}) is None
    assert chart("Loss", [], {"loss": []}) is None


def test_curves_of_one_picture_share_its_axes() -> None:
    made = chart("Loss", [1, 2], {"a": [1.0, 2.0], "b": [None, None], "c": [5.0, 2.0]})
    assert made is not None
    assert [curve.label for curve in made.curves] == ["a", "c"]
    ends = [points(curve.line)[-1] for curve in made.curves]
    assert ends[0] == ends[1]


def test_the_description_tells_what_the_picture_shows() -> None:
    made = drawn([20, 40, 60], [0.5, 0.125, 0.25])
    assert made.description == ("Loss. 0.5 at update 20, 0.25 at update 60, least 0.125, most 0.5.")


value = st.one_of(
    st.floats(-1e100, 1e100), st.floats(1e-300, 1e-6), st.integers(-5, 5).map(float), st.none()
)


@given(st.lists(st.tuples(st.integers(0, 2**53), value), min_size=1, max_size=30), st.booleans())
@example([(0, 0.0)], True)
@example([(5, 3.0), (5, 3.0)], False)
@example([(1, 5e-324), (2, 1e100)], False)
def test_whatever_the_values_the_picture_holds_them(
    pairs: list[tuple[int, float | None]], zero: bool
) -> None:
    pairs.sort(key=lambda pair: pair[0])
    made = chart("x", [a for a, _ in pairs], {"y": [b for _, b in pairs]}, zero=zero)
    if made is None:
        assert all(b is None for _, b in pairs)
        return
    for x, y in points(made.curves[0].line) + points(made.curves[0].band):
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT - BOTTOM
    for tick in made.y_ticks:
        assert TOP <= tick.place <= HEIGHT - BOTTOM
    for tick in made.x_ticks:
        assert LEFT <= tick.place <= WIDTH - RIGHT
