"""Sequences of levels that a sampler visits: strictly decreasing and ending at 0."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from ddpm.schedule import Schedule

Spacing = Literal["trailing", "leading", "uniform", "quadratic", "log_snr", "karras"]

KARRAS_POWER = 7.0
"""rho of Karras et al. (2022), equation (5)."""


def spaced(schedule: Schedule, spacing: str, steps: int | None = None) -> list[int]:
    """Levels t_0 > t_1 > ... > t_K = 0 of a schedule.  L-tau.

    All start at level T but "leading". Levels are whole numbers, so that a sequence comes as near
    to its law as K different levels can.

    Args:
        schedule: The noise schedule, T levels.
        spacing: "trailing" for equal strides down to 0; "uniform" for equal strides down to 1;
            "leading" for equal whole strides up from 1, which leaves out the last levels and is
            there to compare with other libraries; "quadratic" for square roots in equal strides
            down to 0; "log_snr" for equal steps in log-SNR; "karras" for equal steps of
            (sigma / alpha)^(1/7).
        steps: K, in 1..T; None means T.

    Returns:
        K + 1 integers.

    Raises:
        ValueError: the spacing is unknown, or steps is out of range.
    """
    total = schedule.steps
    if spacing not in get_args(Spacing):
        raise ValueError(f"spacing = {spacing!r}: allowed is {', '.join(get_args(Spacing))}")
    if spacing == "trailing":
        return trailing(total, steps)
    count = _checked(total, steps)
    if spacing == "leading":
        return [*range(1 + (count - 1) * (total // count), 0, -(total // count)), 0]
    if count == 1:
        return [total, 0]
    if spacing == "uniform":
        # Counted from 0, so that halves round as the spacing "linspace" of other libraries does.
        stride = (total - 1) / (count - 1)
        return _distinct(1 + (torch.arange(count, dtype=torch.float64) * stride).round(), total)
    if spacing == "quadratic":
        root = torch.arange(1, count + 1, dtype=torch.float64) / count
        return _distinct(total * root.square(), total)
    return _distinct(_by_noise(schedule, spacing, count), total)


def trailing(total: int, steps: int | None = None) -> list[int]:
    """Levels T = t_0 > t_1 > ... > t_K = 0 in K equal strides, rounded up.  L-tau.

    Starting at T and ending at 0 keep both ends of the chain, which the spacings "leading" and
    "linspace" of other libraries do not.

    Args:
        total: Number of levels T of the schedule, at least 1.
        steps: Number of steps K, in 1..T; None means T.

    Returns:
        K + 1 integers.

    Raises:
        ValueError: steps is out of range.
    """
    steps = _checked(total, steps)
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


def _checked(total: int, steps: int | None) -> int:
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise ValueError(f"steps = {steps}: allowed is 1 to T = {total}")
    return steps


def _by_noise(schedule: Schedule, spacing: str, count: int) -> Tensor:
    """Levels, float64 [K] ascending, whose noise is spaced evenly on one of two scales."""
    # log(sigma / alpha); the levels below T have signal.
    noise = schedule.log_snr[1:].detach() / -2
    silent = bool(noise[-1].isposinf())
    known = noise[:-1] if silent else noise
    low, high = float(known[0]), float(known[-1])
    share = torch.linspace(0, 1, count - silent, dtype=torch.float64)
    if spacing == "karras":
        ends = math.exp(low / KARRAS_POWER), math.exp(high / KARRAS_POWER)
        wanted = KARRAS_POWER * torch.log(ends[0] + share * (ends[1] - ends[0]))
    else:
        wanted = low + share * (high - low)
    above = torch.bucketize(wanted, known).clamp(1, max(1, len(known) - 1))
    above = above.clamp(max=len(known) - 1)
    nearer = wanted - known[above - 1] < known[above] - wanted
    found = torch.where(nearer, above, above + 1).double()
    last = found.new_full((int(silent),), schedule.steps)
    return torch.cat([found, last])


def _distinct(ideal: Tensor, total: int) -> list[int]:
    """Ascending places, float64 [K], as K different levels that end at T, then 0, descending."""
    levels: list[int] = []
    for place in ideal.tolist():
        levels.append(max(round(place), levels[-1] + 1 if levels else 1))
    levels[-1] = total
    for k in range(len(levels) - 2, -1, -1):
        levels[k] = min(levels[k], levels[k + 1] - 1)
    return [*reversed(levels), 0]
