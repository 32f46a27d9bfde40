"""Sequences of levels that a sampler visits: strictly decreasing from T and ending at 0."""

from collections.abc import Sequence
from itertools import pairwise


def trailing(total: int, steps: int | None = None) -> list[int]:
    """Levels T = t_0 > t_1 > ... > t_K = 0 in K equal strides, rounded up.  L-tau.

    Starting at T and ending at 0 keep both ends of the chain, which the spacings "leading" and
    "linspace" of other libraries do not.

    Args:
        total: Number of levels T of the schedule, at least 1.
        steps: Number of network calls K, in 1..T; None means T.

    Returns:
        K + 1 integers.

    Raises:
        ValueError: steps is out of range.
    """
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise ValueError(f"steps = {steps}: allowed is 1 to T = {total}")
    return [-(-total * k // steps) for k in range(steps, -1, -1)]


def check_levels(levels: Sequence[int], total: int) -> None:
    """Refuse a sequence that is not strictly decreasing, leaves 1..T, or does not end at 0.

    Raises:
        ValueError: naming the sequence and what is allowed.
    """
    decreasing = all(later < earlier for earlier, later in pairwise(levels))
    if len(levels) < 2 or not decreasing or levels[-1] != 0 or levels[0] > total:
        raise ValueError(
            f"levels = {list(levels)}: allowed is a strictly decreasing sequence that starts at "
            f"T = {total} or below and ends at 0"
        )
