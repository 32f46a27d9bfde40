"""Errors along paths: against the flow itself, and between two solutions of one Brownian path."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from scipy import integrate

from benchmarks.sampler_orders.axes import Array, denoiser, follow, rows_above_level_1
from benchmarks.sampler_orders.subjects import LINE, SCHEDULE, table_for
from ddpm.analytic import GaussianMixture
from ddpm.samplers.sampler import Sampler
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

SCATTERED = GaussianMixture(
    [0.3, 0.45, 0.25],
    [[-0.9, 0.4], [0.6, 0.7], [0.1, -0.8]],
    torch.tensor([
        [[0.10, 0.04], [0.04, 0.05]], [[0.06, -0.03], [-0.03, 0.12]], [[0.15, 0.0], [0.0, 0.04]],
    ], dtype=torch.float64),
)  # fmt: skip
"""Two dimensions that are no product of axes, however they are turned."""
NODES = 7
"""Of each dimension of each component, at which the flow starts."""

STRONG = {
    "ancestral": "exact", "dpm-solver-sde": "exact", "stochastic-heun": "exact",
    "euler-maruyama vp": "vp", "euler-maruyama ve": "ve",
}  # fmt: skip
"""Samplers whose noise is a part of one path, and the coordinate in which it just adds up."""
PATHS = 8000


@dataclass(frozen=True, eq=False)
class Flow:
    """Points that the exact flow carries from level T to level 1, with weights of sum 1.

    Attributes:
        data: The law.
        start: [N, 2].
        end: [N, 2].
        weights: [N].
    """

    data: GaussianMixture
    start: Array
    end: Array
    weights: Array

    def error(self, table: StepTable) -> float:
        """Root of the mean squared error of a sampler over these points."""
        got = follow(table, self.start, denoiser(self.data, SCHEDULE))
        return float(np.sqrt(self.weights @ ((got - self.end) ** 2).sum(1)))


def scattered_flow() -> Flow:
    """Gauss and Hermite's nodes of each component at level T, and SciPy's solution from them.

    They spread the points as the law does; the flow, which parts the components, is too steep for
    them to be a quadrature.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(NODES)
    square = np.array(list(product(nodes, nodes)))
    mass = np.outer(masses, masses).ravel() / masses.sum() ** 2
    signal = float(SCHEDULE.alpha_bar[-1]) ** 0.5
    start = []
    for mean, covariance in zip(SCATTERED.means, SCATTERED.covariances, strict=True):
        spread = signal**2 * covariance + (1 - signal**2) * torch.eye(2, dtype=torch.float64)
        start.append(signal * mean.numpy() + square @ torch.linalg.cholesky(spread).numpy().T)
    x = np.concatenate(start)
    weights = np.kron(SCATTERED.weights.numpy(), mass)
    return Flow(SCATTERED, x, exact_flow(SCATTERED, SCHEDULE, x), weights)


def exact_flow(data: GaussianMixture, schedule: Schedule, x: Array) -> Array:
    """The probability flow from level T to level 1 by DOP853 in the time log-SNR, points [N, D].

    Variance preserving noise has beta = -d log(alpha_bar) = -sigma^2 d log-SNR, and the flow is
    dx = -(x + score) beta / 2: the score is all that it takes from the data.
    """

    def velocity(log_snr: float, flat: Array) -> Array:
        at = torch.tensor(log_snr, dtype=torch.float64)
        points = torch.from_numpy(flat.reshape(x.shape))
        score = data.score(points, torch.sigmoid(at).sqrt(), torch.sigmoid(-at).sqrt())
        return np.asarray(((points + score) / 2 * torch.sigmoid(-at)).ravel().numpy())

    ends = float(schedule.log_snr[-1]), float(schedule.log_snr[1])
    solved = integrate.solve_ivp(velocity, ends, x.ravel(), method="DOP853", rtol=1e-12, atol=1e-12)
    return np.asarray(solved.y[:, -1].reshape(x.shape))


def coordinate(name: str, schedule: Schedule) -> Array:
    """What x is multiplied by at each level so that the noise of a solver just adds up, [T + 1]."""
    power, noise = schedule.alpha_bar.numpy(), schedule.one_minus_alpha_bar.numpy()
    if name == "vp":
        return np.ones_like(power)
    if name == "ve":
        return np.asarray(1 / np.sqrt(power))
    # The part of the reverse equation that is linear in x, solved: the posterior's b.
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(power) / noise)


class Measured(NamedTuple):
    """A mean over paths and its standard error."""

    mean: float
    error: float


def strong_errors(
    name: str, sampler: Sampler, steps: Sequence[int], paths: int = PATHS
) -> list[Measured]:
    """Mean distance at level 1 of K and 2 K steps on one Brownian path, for K in steps.

    Differences of solutions that converge with an order fall at that order, and need no exact path.

    Args:
        name: Of `STRONG`.
        sampler: The sampler of this name.
        steps: Doubling.
        paths: Number of paths, drawn from a generator of a fixed seed.
    """
    counts, draw = [*steps, 2 * steps[-1]], np.random.default_rng(20240501)
    path = Path(coordinate(STRONG[name], SCHEDULE), table_for(sampler, counts[-1]), paths, draw)
    start = LINE.law(SCHEDULE, SCHEDULE.steps).quantiles(draw.standard_normal(paths))
    ends = []
    for count in counts:
        table = table_for(sampler, count)
        ends.append(follow(table, start, LINE.denoise(SCHEDULE), path.noises(table)))
    gaps = [abs(a - b) for a, b in pairwise(ends)]
    return [Measured(float(gap.mean()), float(gap.std() / paths**0.5)) for gap in gaps]


class Path:
    """Brownian paths, at every level of the longest table.

    Args:
        scale: The coordinate in which noise just adds up, by level, [T + 1].
        table: The longest one.
        paths: Number of paths.
        draw: Where their numbers come from.
    """

    def __init__(
        self, scale: Array, table: StepTable, paths: int, draw: np.random.Generator
    ) -> None:
        self.scale, self.none = scale, np.zeros(paths)
        self.time, self.value = {table.path[0]: 0.0}, {table.path[0]: self.none}
        for row, t, s in rows_above_level_1(table):
            if row[5] > 0:
                kick = scale[s] * row[5]
                self.time[s] = self.time[t] + kick**2
                self.value[s] = self.value[t] + kick * draw.standard_normal(paths)

    def noises(self, table: StepTable) -> Array:
        """Standard normal numbers of each row of a shorter table, [rows, paths].

        Raises:
            ValueError: the noise of a row is not the sum of that of the rows it stands for.
        """
        return np.array([self._noise(row[5], t, s) for row, t, s in rows_above_level_1(table)])

    def _noise(self, sd: float, t: int, s: int) -> Array:
        if sd == 0:
            return self.none
        passed = self.time[s] - self.time[t]
        if abs(passed - (self.scale[s] * sd) ** 2) > 1e-9 * passed:
            raise ValueError(f"sd = {sd} from {t} to {s}: allowed is one that adds up")
        return np.asarray((self.value[s] - self.value[t]) / passed**0.5)
