"""Brownian motion as a function of (seed, sample, time), for solvers that choose their steps.

Levy's construction: the increment over an interval and the area under its path are drawn first,
then halves given the whole, down to intervals of 2^-22 of all time. Every draw belongs to a node of
this tree, so a value of the path depends neither on what was asked before nor on the batch.
"""

import math
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key

DEPTH = 22
"""Halvings; inside the last intervals the path is the parabola that is expected there."""
REMEMBERED = 4
"""Values that are kept, since the end of a step is the beginning of the next."""


class _Node(NamedTuple):
    """An interval of the tree.

    Attributes:
        place: Its number in its row.
        increment: W, the path's there.
        area: H, the mean over the interval of the path less its chord, N(0, length / 12).
        value: The path where the interval begins.
        integral: The path's integral up to there.
    """

    place: int
    increment: Tensor
    area: Tensor
    value: Tensor
    integral: Tensor


class BrownianPath:
    """A standard Brownian motion of each element of each sample, 0 where it starts.

    The halves of an interval of length h follow from those of the whole by two normal numbers a, b:
    W_left = W / 2 + 3 / 2 H + sqrt(h / 16) a, and H_left, H_right = H / 4 - sqrt(h / 64) a plus and
    minus sqrt(h / 48) b: the conditional laws of Foster, Lyons and Oberhauser (2020).

    Args:
        key: Seed and sample indices [B]; the step is that of a node, in the stream of sampling
            noise.
        size: Elements of a sample.
        start: First time.
        end: Last time, above it.
    """

    def __init__(self, key: Key, size: int, start: float, end: float) -> None:
        self.key, self.size, self.start, self.length = key, size, start, end - start
        a, b = self._drawn([0])[0].double().unbind(1)
        zero = torch.zeros_like(a)
        root = _Node(0, a * self.length**0.5, b * (self.length / 12) ** 0.5, zero, zero)
        self._branch = [root]
        self._known: OrderedDict[float, tuple[Tensor, Tensor]] = OrderedDict()

    def at(self, time: float) -> tuple[Tensor, Tensor]:
        """The path at a time between the ends, and its integral up to there; float64 [B, size]."""
        if time not in self._known:
            self._known[time] = self._descend((time - self.start) / self.length)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(time)
        return self._known[time]

    def increment(self, first: float, second: float) -> tuple[Tensor, Tensor]:
        """W(second) - W(first), and the integral of W - W(first) between; float64 [B, size]."""
        (w0, i0), (w1, i1) = self.at(first), self.at(second)
        return w1 - w0, i1 - i0 - (second - first) * w0

    def _descend(self, share: float) -> tuple[Tensor, Tensor]:
        """Value and integral at a share of all time, in [0, 1]."""
        share = min(max(share, 0.0), 1.0)
        leaf = min(math.floor(share * 2**DEPTH), 2**DEPTH - 1)
        places = [leaf >> (DEPTH - depth) for depth in range(DEPTH + 1)]
        shared = sum(node.place == place for node, place in zip(self._branch, places, strict=False))
        del self._branch[shared:]
        numbers = self._drawn([2**depth + places[depth] for depth in range(shared - 1, DEPTH)])
        for depth, drawn in enumerate(numbers, shared):
            self._branch.append(self._half(self._branch[-1], depth, places[depth], drawn))
        node, h, r = self._branch[-1], self.length / 2**DEPTH, share * 2**DEPTH - leaf
        value = node.value + r * node.increment + 6 * r * (1 - r) * node.area
        rise = r * node.value + r**2 / 2 * node.increment + r**2 * (3 - 2 * r) * node.area
        return value, node.integral + h * rise

    def _half(self, whole: _Node, depth: int, place: int, drawn: Tensor) -> _Node:
        """The left or the right half of an interval, itself of a depth and a place there."""
        a, b = drawn.double().unbind(1)
        h = self.length / 2 ** (depth - 1)
        left = whole.increment / 2 + 1.5 * whole.area + (h / 16) ** 0.5 * a
        shared, apart = whole.area / 4 - (h / 64) ** 0.5 * a, (h / 48) ** 0.5 * b
        if place % 2 == 0:
            return _Node(place, left, shared + apart, whole.value, whole.integral)
        passed = h / 2 * (whole.value + left / 2 + shared + apart)
        value, integral = whole.value + left, whole.integral + passed
        return _Node(place, whole.increment - left, shared - apart, value, integral)

    def _drawn(self, nodes: list[int]) -> Tensor:
        """Two normal numbers an element of each node, float32 [N, B, 2, size]."""
        step = torch.tensor(nodes, dtype=torch.int64).to(self.key.sample.device)
        sample, count = self.key.sample.repeat(len(nodes)), len(self.key.sample)
        steps, shape = step.repeat_interleave(count), [2, self.size]
        drawn = normal(self.key.seed, steps, sample, Stream.SAMPLING_NOISE, shape, torch.float32)
        return drawn.view(len(nodes), count, *shape)
