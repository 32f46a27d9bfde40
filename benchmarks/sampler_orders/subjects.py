"""What is measured: the mixtures in 1, 2 and 64 dimensions, the schedule and the samplers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import get_args

import numpy as np
import torch

from benchmarks.sampler_orders import affine
from benchmarks.sampler_orders.axes import Array, Axis, follow
from benchmarks.sampler_orders.densities import Line
from benchmarks.sampler_orders.distances import Z, of_density, of_points, together
from ddpm.analytic import GaussianMixture
from ddpm.samplers.catalogue import CATALOGUE, table_of
from ddpm.samplers.equations import Equation
from ddpm.samplers.sampler import Sampler
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

FINEST = 256
SCHEDULE = Schedule.log_snr_linear(FINEST + 1, 5.0, -5.0)
"""Even in log-SNR from level T to level 1, so that K steps lie 10 / K apart."""

LINE = Axis((0.3, 0.7), (-0.8, 0.5), (0.04, 0.09))
PLANE = (LINE, Axis((0.25, 0.5, 0.25), (-1.0, 0.1, 0.9), (0.06, 0.05, 0.1)))
NORMAL_MEANS = 0.4 * np.cos(np.arange(1, 64))
NORMAL_VARIANCES = np.geomspace(0.02, 1.5, 63)


@dataclass(frozen=True, eq=False)
class Subject:
    """Data that is a product of axes, turned in space.

    Samplers take the same numbers at every pixel, so that they turn with the data; turned back,
    each axis is a problem of its own.

    Attributes:
        mixed: Axes of mixtures.
        means: Of the other axes, which are normal, [M].
        variances: The same.
    """

    mixed: tuple[Axis, ...]
    means: Array
    variances: Array

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.mixed) + len(self.means)

    @cached_property
    def turn(self) -> Array:
        """Orthogonal [D, D], whose columns are the axes: a mirror image about a fixed plane."""
        normal = np.sin(1 + np.arange(self.dimensions))
        return np.asarray(
            np.eye(self.dimensions) - 2 * np.outer(normal, normal) / (normal @ normal)
        )

    @property
    def mixture(self) -> GaussianMixture:
        """The data as the library has it, with full covariances."""
        weights, means, variances = [], [], []
        # A component of the product is a choice of one component on each axis.
        for chosen in product(*(range(len(axis.weights)) for axis in self.mixed)):
            parts = list(zip(self.mixed, chosen, strict=True))
            weights.append(math.prod(axis.weights[k] for axis, k in parts))
            means.append([*(axis.means[k] for axis, k in parts), *self.means])
            variances.append([*(axis.variances[k] for axis, k in parts), *self.variances])
        full = self.turn @ (np.array(variances)[:, :, None] * self.turn.T)
        return GaussianMixture(
            weights, torch.tensor(np.array(means) @ self.turn.T),
            torch.tensor((full + full.swapaxes(1, 2)) / 2),
        )  # fmt: skip

    def error(self, table: StepTable, schedule: Schedule = SCHEDULE) -> float:
        """Distance of the law of a sampler from the exact one at level 1, started exactly."""
        normal = affine.distances(table, schedule, self.means, self.variances)
        return together([*normal, *(axis_error(table, axis, schedule) for axis in self.mixed)])


NONE = np.empty(0)
SUBJECTS = {
    1: Subject((LINE,), NONE, NONE),
    2: Subject(PLANE, NONE, NONE),
    64: Subject((LINE,), NORMAL_MEANS, NORMAL_VARIANCES),
}


def axis_error(table: StepTable, axis: Axis, schedule: Schedule = SCHEDULE) -> float:
    """The same on one axis, without drawing a number."""
    end = axis.law(schedule, 1)
    if table.noisy:
        return of_density(Line(table, axis, schedule).final(), end)
    start = axis.law(schedule, table.path[0]).quantiles(Z)
    return of_points(follow(table, start, axis.denoise(schedule)), end.quantiles(Z))


def choices() -> dict[str, Sampler]:
    """Every sampler of the catalogue, with every equation and fixed variance that it knows."""
    found = [Sampler(name=name) for name, entry in CATALOGUE.items() if "sde" not in entry.options]
    for name, entry in CATALOGUE.items():
        if "sde" in entry.options:
            found += [Sampler(name=name, sde=sde) for sde in get_args(Equation)]
    found += [Sampler(name="ddim", eta=eta) for eta in (0.5, 1.0)]
    found.append(Sampler(name="ancestral", variance="beta"))
    return {label(sampler): sampler for sampler in found}


def label(sampler: Sampler) -> str:
    """Its name and the choices that are not the usual ones."""
    extra = [f"eta {sampler.eta:g}"] if sampler.eta else []
    return " ".join([sampler.name, *extra, *(x for x in (sampler.sde, sampler.variance) if x)])


def order_of(sampler: Sampler) -> int:
    """The order that the catalogue states."""
    return int(CATALOGUE[sampler.name].order.split()[0])


def table_for(sampler: Sampler, steps: int) -> StepTable:
    """K even steps from level T to level 1, K a divisor of `FINEST`, and a last one to 0."""
    levels = (*range(FINEST + 1, 0, -(FINEST // steps)), 0)
    return table_of(replace(sampler, levels=levels), SCHEDULE, "v", "posterior")


def slope(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Order that errors show, by least squares on logarithms."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def ends(subject: Subject) -> tuple[float, float]:
    """How far N(0, I) is from the law at level T, and what the last row returns from the data.

    The last row returns x0_hat, narrower than the data. Both errors are left out elsewhere.
    """
    top, first, last = [], [], SCHEDULE.steps
    for axis in subject.mixed:
        top.append(of_points(axis.law(SCHEDULE, last).quantiles(Z), Z))
        x, row = axis.law(SCHEDULE, 1).quantiles(Z), table_for(Sampler(), 8).exact.numpy()[-1]
        clean = axis.denoise(SCHEDULE)(x, 1, row)
        first.append(of_points(clean, axis.law(SCHEDULE, 0).quantiles(Z)))
    mean, variance = subject.means, subject.variances
    centre, spread = affine.exact(SCHEDULE, last, mean, variance)
    _, after = affine.exact(SCHEDULE, 1, mean, variance)
    shrunk = variance * float(SCHEDULE.alpha_bar[1]) ** 0.5 / after
    top += np.hypot(centre, spread - 1).tolist()
    first += (np.sqrt(variance) - shrunk).tolist()
    return together(top), together(first)
