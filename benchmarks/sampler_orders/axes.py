"""One dimension of the data: a mixture on the line, its laws, quantiles and exact network."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from ddpm.analytic import GaussianMixture
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

Array = NDArray[np.float64]
Denoise = Callable[[Array, int, Array], Array]
"""x0_hat from points, the level and the row of the table that is at work."""

HALVINGS = 80
"""Of an interval that holds a quantile, which leave nothing of it in float64."""


@dataclass(frozen=True, eq=False)
class Law:
    """A mixture of normal laws on the line.

    Attributes:
        weights: [K], of sum 1.
        means: [K].
        deviations: [K], positive.
    """

    weights: Array
    means: Array
    deviations: Array

    def density(self, x: Array) -> Array:
        """Density at points [N]."""
        z = (x[:, None] - self.means) / self.deviations
        heights = self.weights / self.deviations / np.sqrt(2 * np.pi)
        return np.asarray(np.exp(-z * z / 2) @ heights)

    def quantiles(self, z: Array) -> Array:
        """The points x with P(X < x) = Phi(z), for z of any sign and size, [N].

        This is the probability flow that begins at standard normal noise, exactly: on the line the
        flow keeps the order of its points, and so their ranks.
        """
        low, high = (np.full(z.shape, float(edge)) for edge in self.span(abs(z).max() + 1))
        # Each point is sought by its nearer tail, whose small probability keeps its digits.
        side = np.where(z <= 0, 1.0, -1.0)
        tail = ndtr(-abs(z))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            scaled = (middle[:, None] - self.means) / self.deviations
            found = ndtr(side[:, None] * scaled) @ self.weights
            below = np.where(z <= 0, found < tail, found > tail)
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def span(self, deviations: float) -> tuple[float, float]:
        """Interval of all components to so many of their deviations on either side."""
        reach = deviations * self.deviations
        return float((self.means - reach).min()), float((self.means + reach).max())


@dataclass(frozen=True, eq=False)
class Axis:
    """One dimension of the data.

    Args:
        weights: [K], positive, of sum 1.
        means: [K].
        variances: [K], positive.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    variances: tuple[float, ...]

    @property
    def mixture(self) -> GaussianMixture:
        """The data, for its exact network."""
        return GaussianMixture(self.weights, [[m] for m in self.means], self.variances)

    def law(self, schedule: Schedule, t: int) -> Law:
        """Law of x_t."""
        power = float(schedule.alpha_bar[t])
        noise = float(schedule.one_minus_alpha_bar[t])
        spread = power * np.array(self.variances) + noise
        return Law(np.array(self.weights), power**0.5 * np.array(self.means), np.sqrt(spread))

    def denoise(self, schedule: Schedule) -> Denoise:
        """The exact network of the line, called as a row of a table says."""
        return denoiser(self.mixture, schedule)


def denoiser(mixture: GaussianMixture, schedule: Schedule) -> Denoise:
    """x0_hat of the network that predicts v exactly, for points [N] or [N, D]."""
    network = mixture.network(schedule, "v")

    def denoise(x: Array, t: int, row: Array) -> Array:
        points = torch.from_numpy(x.reshape(len(x), -1))
        output = network(points, torch.full((len(x),), t)).numpy().reshape(x.shape)
        return np.asarray(row[0] * x + row[1] * output)

    return denoise


def rows_above_level_1(table: StepTable) -> list[tuple[Array, int, int]]:
    """The rows but the last, which goes from level 1 to 0, with the levels of input and result."""
    if table.path[-2:] != (1, 0):
        raise ValueError(f"path = ...{table.path[-2:]}: allowed is one that ends at levels 1 and 0")
    noisy = table.exact[:, 5] > 0
    if len(set(table.draws[noisy].tolist())) != int(noisy.sum()):
        raise ValueError("draws: allowed are rows that do not share their random numbers")
    rows = table.exact.numpy()[:-1]
    return list(zip(rows, table.path[:-2], table.path[1:-1], strict=True))


def follow(table: StepTable, x: Array, denoise: Denoise, noises: Array | None = None) -> Array:
    """Points [N] or [N, D] at level 1, from those at the first level, in float64.

    Args:
        table: A sampler; its last row is left out.
        x: Where the points start.
        denoise: The network.
        noises: Standard normal numbers of each row, [rows, ...] like x; None without noise.
    """
    history = np.zeros_like(x)
    for k, (row, t, _) in enumerate(rows_above_level_1(table)):
        _, _, a, b, c, sd, *_ = row
        clean = denoise(x, t, row)
        x = a * clean + b * x + c * history
        if noises is not None:
            x = x + sd * noises[k]
        history = clean
    return x
