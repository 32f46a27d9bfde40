"""Solvers of the probability flow beside those of diffusers, every state of every path.

DPM-Solver++ works on x; Euler and Heun on x / alpha in the time sigma / alpha, in which Euler is
DDIM with eta = 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm.predictions import Prediction
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.flow_tables import euler_table
from ddpm.samplers.multistep import dpm_solver_first_table, dpm_solver_table, heun_table
from ddpm.samplers.stochastic import dpm_solver_sde_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule
from tests.peers.paths import (
    FLOAT32,
    FLOAT32_TO_THE_END,
    FLOAT64,
    MARKS,
    OURS_FLOAT32,
    PREDICTIONS,
    Problem,
    Wide,
    by_rows,
    gap,
    levels_of,
    ours,
    problem,
    start,
    theirs,
)

pytestmark = MARKS


@dataclass(frozen=True)
class Solver:
    """A scheduler of diffusers, our table for it, and whether its states are x / alpha."""

    name: str
    options: dict[str, Any]
    table: Callable[[Schedule, Prediction, Sequence[int]], StepTable]
    scaled: bool
    clip: bool = False


DPM, EULER, HEUN = "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"
# A threshold of at most 1 is a clip, which DPM-Solver++ of diffusers has no other name for.
CLIPPED = {"thresholding": True, "sample_max_value": 1.0}
SDE = {"algorithm_type": "sde-dpmsolver++"}
SOLVERS = {
    "DPM-Solver++(1)": Solver(DPM, {"solver_order": 1}, dpm_solver_first_table, False),
    "DPM-Solver++(2M)": Solver(DPM, {}, dpm_solver_table, False),
    "DPM-Solver++(2M), clipped": Solver(DPM, CLIPPED, dpm_solver_table, False, clip=True),
    "SDE-DPM-Solver++(2M)": Solver(DPM, SDE, dpm_solver_sde_table, False),
    "Euler": Solver(EULER, {}, euler_table, True),
    "Heun": Solver(HEUN, {}, heun_table, True),
    "Heun, clipped": Solver(HEUN, {"clip_sample": True}, heun_table, True, clip=True),
}
LEVELS = {
    "even": [*range(1000, 0, -50), 0],
    "uneven": [1000, 930, 777, 500, 480, 333, 100, 60, 20, 0],
    "to the end": [1000, 850, 600, 300, 100, 40, 10, 3, 2, 1, 0],
}
# From level T of "cosine" sigma / alpha is 2e4, in which a step of Heun keeps no digit.
FROM_900 = {"cosine": 900}


def states(given: Problem, solver: Solver, table: StepTable, peer: Any, x: Tensor) -> list[Tensor]:
    """States of their loop as x, whatever its own scale."""
    if not solver.scaled:
        return theirs(given, peer, x)
    alpha = given.schedule.alpha_bar.sqrt()
    found = theirs(given, peer, x / float(alpha[table.path[0]]))
    return [y * float(alpha[s]) for y, s in zip(found, table.path[1:], strict=True)]


def scheduler(given: Problem, solver: Solver, levels: Sequence[int]) -> Any:
    made = given.scheduler(solver.name, **solver.options)
    made.set_timesteps(timesteps=[t - 1 for t in levels[:-1]])
    return made


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    ("kind", "spread"),
    [*(("linear", spread) for spread in LEVELS), ("cosine", "to the end"), ("cosine", "uneven"),
     ("scaled_linear", "even")],
)  # fmt: skip
def test_every_state(kind: str, spread: str, name: str, prediction: Prediction) -> None:
    given, solver = problem(kind, prediction), SOLVERS[name]
    levels = [t for t in LEVELS[spread] if t <= FROM_900.get(kind, 1000)]
    table = solver.table(given.schedule, prediction, levels)
    path, exact = ours(given, table, solver.clip), by_rows(given, table, solver.clip)
    assert gap(path, exact) < OURS_FLOAT32
    peer = scheduler(given, solver, levels)
    bound = FLOAT32_TO_THE_END if levels[-2] < 20 else FLOAT32
    assert gap(path, states(given, solver, table, peer, start())) < bound
    peer = given.in_float64(scheduler(given, solver, levels))
    wide = states(given, solver, table, peer, start().double().as_subclass(Wide))
    assert wide[0].dtype == torch.float64
    assert gap(wide, exact) < FLOAT64


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_first_orders_by_other_names(prediction: Prediction) -> None:
    """Their first order of either equation is our DDIM, and our ancestral step."""
    given, levels = problem("linear", prediction), LEVELS["even"]
    for options, table in (
        ({}, ddim_table(given.schedule, prediction, levels, 0.0)),
        (SDE, ancestral_table(given.schedule, prediction, levels, "posterior")),
    ):
        solver = Solver(DPM, {"solver_order": 1, **options}, dpm_solver_table, False)
        peer = given.in_float64(scheduler(given, solver, levels))
        wide = theirs(given, peer, start().double().as_subclass(Wide))
        assert gap(wide, by_rows(given, table, False)) < FLOAT64


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_spacings_of_their_own(spacing: str, name: str) -> None:
    """The levels that they choose, as whole numbers, are levels that ours can walk."""
    given, solver = problem("scaled_linear", "eps"), SOLVERS[name]
    if solver.name != DPM and spacing == "linspace":
        # Those of Euler and Heun lie between two levels, at a mean of their sigma / alpha.
        peer = given.scheduler(solver.name, timestep_spacing=spacing)
        peer.set_timesteps(12)
        assert bool((peer.timesteps % 1 != 0).any())
        return
    peer = given.scheduler(solver.name, timestep_spacing=spacing, **solver.options)
    peer.set_timesteps(12)
    levels = sorted(set(levels_of(peer)), reverse=True)
    table = solver.table(given.schedule, "eps", levels)
    path = ours(given, table, solver.clip)
    assert gap(path, states(given, solver, table, peer, start())) < FLOAT32_TO_THE_END


def test_fewer_than_fifteen_steps_change_nothing() -> None:
    """Their lower orders at the end of short loops concern order 3; a last step to 0 is Euler's."""
    given, levels = problem("linear", "v"), LEVELS["uneven"]
    table = dpm_solver_table(given.schedule, "v", levels)
    for more in ({"lower_order_final": False}, {"euler_at_final": True}):
        solver = Solver(DPM, more, dpm_solver_table, False)
        peer = scheduler(given, solver, levels)
        assert gap(ours(given, table, False), theirs(given, peer, start())) < FLOAT32
    solver = Solver(DPM, {"solver_type": "heun"}, dpm_solver_table, False)
    other = theirs(given, scheduler(given, solver, levels), start())
    assert gap(other, ours(given, table, False)) > 1e-3
