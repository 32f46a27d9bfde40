"""The objective of T levels as T grows: one limit for every schedule between the same ends."""

import numpy as np
from matplotlib.figure import Figure

from ddpm.reference.continuous import discrete_objective, objective_in_snr
from ddpm.verify.figures.canvas import canvas
from ddpm.verify.proofs.continuous import SCHEDULES, chain_of, gaussian_error
from ddpm.verify.strategies import Array

LOWEST, HIGHEST = 0.01, 100.0
STEPS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def relative_errors(name: str) -> Array:
    """Distance of the objective of T levels from its limit, for unit Gaussian data (T-eq5)."""
    error = gaussian_error(1.0)
    limit = objective_in_snr(LOWEST, HIGHEST, error)
    objectives = [
        discrete_objective(chain_of(name, LOWEST, HIGHEST, steps), error) for steps in STEPS
    ]
    return np.abs(np.array(objectives) / limit - 1)


def continuous_limit() -> Figure:
    """Four schedules approach one integral over the SNR, each with an error of order 1 / T."""
    figure, (axes,) = canvas("distance of T levels from the limit of many")
    for name in SCHEDULES:
        axes.loglog(STEPS, relative_errors(name), marker="o", label=name)
    axes.loglog(STEPS, 3 / np.array(STEPS), ":", color="black", label="1 / T")
    axes.set_xlabel("levels T")
    axes.set_ylabel("relative distance")
    axes.legend(fontsize=8)
    return figure
