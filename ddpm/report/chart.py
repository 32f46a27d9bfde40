"""Curves as geometry: where lines, bands and ticks lie inside a picture of fixed proportions.

A template draws them, so that colours follow the reader's light or dark page and letters stay as
large as the text around them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.ticker import LogLocator, MaxNLocator

from ddpm.report.history import Values

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 10, 34
BINS = 160
"""Most points of a line; where there are more, one point stands for its neighbours."""
DECADES_RATIO = 8
"""Largest over smallest value from which a logarithmic axis shows more than a linear one."""
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A number at the edge: where it stands, in pixels, and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Curve:
    """One line; the band shows from the least to the largest of the values a point stands for."""

    label: str
    line: str
    band: str


@dataclass(frozen=True)
class Chart:
    """What a template needs to draw a picture of WIDTH by HEIGHT."""

    title: str
    note: str
    x_label: str
    description: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    curves: Sequence[Curve]


@dataclass(frozen=True)
class _Bin:
    x: float
    mean: float
    low: float
    high: float


def chart(
    title: str,
    x: Sequence[int],
    series: Mapping[str, Values],
    *,
    note: str = "",
    x_label: str = "update",
    zero: bool = False,
) -> Chart | None:
    """Lay out curves over a common axis.

    The vertical axis is logarithmic where all values are positive and span enough for it.

    Args:
        title: What is drawn.
        x: Where the values stand, one for each.
        series: Values by name; None where there is none.
        note: Added to the title in small letters.
        x_label: What x counts.
        zero: Whether the vertical axis is linear and begins at zero.

    Returns:
        None where no value is known.
    """
    known = {
        name: [(float(a), b) for a, b in zip(x, values, strict=True) if b is not None]
        for name, values in series.items()
    }
    bins = {name: _binned(points) for name, points in known.items() if points}
    if not bins:
        return None
    flat = [one for several in bins.values() for one in several]
    low, high = min(one.low for one in flat), max(one.high for one in flat)
    reached = [a for points in known.values() for a, _ in points]
    left, right = min(reached), max(reached)
    across = _linear(*_widened(left, right, 0.0), LEFT, WIDTH - RIGHT)
    logarithmic = not zero and low > 0 and high / low > DECADES_RATIO
    bottom, top = _vertical(low, high, zero, logarithmic)
    up = (_logarithmic if logarithmic else _linear)(bottom, top, HEIGHT - BOTTOM, TOP)
    levels = (_log_ticks if logarithmic else _ticks)(bottom, top)
    return Chart(
        title=title,
        note=note,
        x_label=x_label,
        description=_description(title, x_label, known),
        x_ticks=[Tick(across(value), short(value)) for value in _whole_ticks(left, right)],
        y_ticks=[Tick(up(value), short(value)) for value in levels],
        curves=[_curve(name, several, across, up) for name, several in bins.items()],
    )


def short(value: float) -> str:
    """A number in few letters: 12k, 0.0025, 1e-07."""
    size = abs(value)
    if 1e4 <= size < 1e12:
        unit, letter = next(pair for pair in UNITS if size >= pair[0])
        return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}"


def _binned(points: Sequence[Point]) -> list[_Bin]:
    count = min(BINS, len(points))
    edges = [len(points) * i // count for i in range(count + 1)]
    return [_bin(points[first:last]) for first, last in pairwise(edges)]


def _bin(points: Sequence[Point]) -> _Bin:
    xs, ys = zip(*points, strict=True)
    return _Bin(math.fsum(xs) / len(xs), math.fsum(ys) / len(ys), min(ys), max(ys))


def _curve(
    label: str, bins: Sequence[_Bin], x: Callable[[float], float], y: Callable[[float], float]
) -> Curve:
    line = [(x(one.x), y(one.mean)) for one in bins]
    band = [(x(one.x), y(one.high)) for one in bins]
    band += [(x(one.x), y(one.low)) for one in reversed(bins)]
    single = all(one.low == one.high for one in bins)
    return Curve(label, _points(line), "" if single else _points(band))


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _linear(low: float, high: float, at_low: float, at_high: float) -> Callable[[float], float]:
    return lambda value: at_low + (at_high - at_low) * (value - low) / (high - low)


def _logarithmic(
    low: float, high: float, at_low: float, at_high: float
) -> Callable[[float], float]:
    inner = _linear(math.log(low), math.log(high), at_low, at_high)
    return lambda value: inner(math.log(value))


def _vertical(low: float, high: float, zero: bool, logarithmic: bool) -> tuple[float, float]:
    if logarithmic:
        return low / 1.1, high * 1.1
    return _widened(min(low, 0.0), high, 0.05) if zero else _widened(low, high, 0.05)


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    """The range with some room, and never empty."""
    room = share * (high - low) if high > low else abs(low) / 10 or 1.0
    return low if low == 0 else low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    found = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(value) for value in found if low <= value <= high]


def _whole_ticks(low: float, high: float) -> list[float]:
    found = MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True).tick_values(low, high)
    return [float(value) for value in found if low <= value <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 of each decade, or at decades alone where those would be too many."""
    for digits in ((1.0, 2.0, 5.0), (1.0,)):
        found = LogLocator(subs=digits, numticks=6).tick_values(low, high)
        inside = [float(value) for value in found if low <= value <= high]
        if 2 <= len(inside) <= 6:
            return inside
    return inside


def _description(title: str, x_label: str, known: Mapping[str, Sequence[Point]]) -> str:
    """What a reader who does not see the picture is told of each line."""
    parts = []
    for name, points in known.items():
        if points:
            (first_x, first), (last_x, last) = points[0], points[-1]
            least, most = min(y for _, y in points), max(y for _, y in points)
            label = f"{name}: " if len(known) > 1 else ""
            parts.append(
                f"{label}{short(first)} at {x_label} {short(first_x)}, {short(last)} at "
                f"{x_label} {short(last_x)}, least {short(least)}, most {short(most)}"
            )
    return f"{title}. {'; '.join(parts)}."
