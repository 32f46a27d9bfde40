r"""The law of a stochastic sampler on the line, carried from row to row by quadrature.

A row adds normal noise to a function of what came before, so that densities follow from each other
by Chapman and Kolmogorov, without drawing a number:

    p'(x') = \int p(x) N(x'; a x0_hat(x) + b x, sd^2) dx.

The trapezoidal rule on even points is exact here to all digits once they are half as far apart as
the noise is wide. A sampler that reads the x0_hat of the row before has the pair of its last two
points as its state; one whose every second row corrects the first has a map of the line after it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from benchmarks.sampler_orders.axes import Array, Axis, rows_above_level_1
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

REACH = 10.0
"""Deviations of the exact law that a grid holds on either side."""
BAND = 8.5
"""Deviations of the noise that a pair of points is followed over."""
SPACING = 0.55
"""Distance of the points of a grid over the least noise next to it."""
FINE = 4001
"""Points at which a map of the line is inverted."""


@dataclass(frozen=True, eq=False)
class Density:
    """A density at even points.

    Attributes:
        x: [G], evenly spaced.
        p: [G].
    """

    x: Array
    p: Array

    @property
    def width(self) -> float:
        """Distance of two points."""
        return float(self.x[1] - self.x[0])


class Line:
    """The rows of one sampler on one axis.

    Args:
        table: The sampler, stochastic in every row or in every first of two.
        axis: The data.
        schedule: The schedule of the table.
        spacing: See `SPACING`.
    """

    def __init__(
        self, table: StepTable, axis: Axis, schedule: Schedule, spacing: float = SPACING
    ) -> None:
        self.axis, self.schedule, self.spacing = axis, schedule, spacing
        self.rows, self.denoise = rows_above_level_1(table), axis.denoise(schedule)
        self.table = table

    def final(self) -> Density:
        """The law at level 1 of a sampler that starts from the exact law at its first level."""
        reads = [row for row, *_ in self.rows if row[4] != 0]
        if not reads:
            return self._without_history()
        return self._corrected() if all(row[5] == 0 for row in reads) else self._with_memory()

    def _grid(self, t: int, *noises: float) -> Array:
        """Even points of level t, between rows of such noise."""
        low, high = self.axis.law(self.schedule, t).span(REACH)
        return np.linspace(low, high, 1 + int(np.ceil((high - low) / (self.spacing * min(noises)))))

    def _start(self, noise: float) -> Density:
        t = self.table.path[0]
        x = self._grid(t, noise)
        return Density(x, self.axis.law(self.schedule, t).density(x))

    def _after(self, steps: int, stride: int = 1) -> Array:
        """Points after a noisy row, whose number among these is given."""
        noisy = self.rows[::stride]
        s = self.rows[stride * (steps + 1) - 1][2]
        return self._grid(s, *(row[5] for row, *_ in noisy[steps : steps + 2]))

    def _without_history(self) -> Density:
        law = self._start(self.rows[0][0][5])
        for k, (row, t, _) in enumerate(self.rows):
            means = row[2] * self.denoise(law.x, t, row) + row[3] * law.x
            x = self._after(k)
            law = Density(x, normal(x[:, None], means, row[5]) @ law.p * law.width)
        return law

    def _corrected(self) -> Density:
        """Rows in twos: x~ with noise, then a2 x0_hat(x~) + b2 x~ + c2 x0_hat(x)."""
        law = self._start(self.rows[0][0][5])
        for k, ((row, t, s), (second, *_)) in enumerate(
            zip(self.rows[::2], self.rows[1::2], strict=True)
        ):
            clean = self.denoise(law.x, t, row)
            means, moved = row[2] * clean + row[3] * law.x, second[4] * clean
            x = self._after(k, 2)
            fine = np.linspace(x[0] - 1, x[-1] + 1, FINE)
            inverse = CubicSpline(
                second[2] * self.denoise(fine, s, second) + second[3] * fine, fine
            )
            before = x[:, None] - moved
            kernel = normal(inverse(before), means, row[5]) * inverse(before, 1)
            law = Density(x, kernel @ law.p * law.width)
        return law

    def _with_memory(self) -> Density:
        """Pairs of a point and the one before it, which the exact process joins by its noise."""
        law = self._start(self.rows[0][0][5])
        x, joint, before = law.x, law.p[:, None], np.zeros((len(law.x), 1))
        weight = 1.0
        for k, (row, t, s) in enumerate(self.rows):
            clean = self.denoise(x, t, row)
            means, after = row[2] * clean + row[3] * x, self._after(k)
            nearest, inside = self._partners(after, x, s, t)
            # The mean depends on the point and, through its estimate, on the one before that.
            middle = means[nearest][:, :, None] + row[4] * before[nearest]
            kernel = normal(after[:, None, None], middle, row[5])
            joint = np.einsum("ibl,ibl->ib", kernel, joint[nearest]) * weight * inside
            before, weight, x = clean[nearest], float(x[1] - x[0]), after
        return Density(x, joint.sum(1) * weight)

    def _partners(self, after: Array, x: Array, s: int, t: int) -> tuple[Array, Array]:
        """Indices of the points x of level t that points of level s come from, and which exist."""
        power = float(self.schedule.alpha_bar[t] / self.schedule.alpha_bar[s])
        reach, width = BAND * (1 - power) ** 0.5, float(x[1] - x[0])
        first = np.floor((power**0.5 * after - reach - x[0]) / width).astype(np.int64)
        index = first[:, None] + np.arange(int(np.ceil(2 * reach / width)) + 2)
        inside = (index >= 0) & (index < len(x))
        return index.clip(0, len(x) - 1), inside


def normal(x: Array, mean: Array, deviation: float) -> Array:
    """Density of N(mean, deviation^2)."""
    z = (x - mean) / deviation
    return np.asarray(np.exp(-z * z / 2) / (deviation * np.sqrt(2 * np.pi)))
