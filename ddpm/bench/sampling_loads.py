"""Workloads of sampling: a step of four samplers, and the noise."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm.bench import formulas, peer_calls
from ddpm.bench.assemble import Formula, assemble
from ddpm.bench.contender import Call, Contender, Result, Workload
from ddpm.bench.inputs import STEPS, VISITED, Inputs, T
from ddpm.bench.oracle_calls import Oracle
from ddpm.bench.peer_calls import DIFFUSERS, LUCIDRAINS, noise_from
from ddpm.kernels.affine_step import COLUMNS
from ddpm.kernels.normal import normal
from ddpm.kernels.sampler_step import sampler_step, sampler_step_multistep
from ddpm.kernels.streams import Stream
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.multistep import dpm_solver_table
from ddpm.samplers.tables import StepTable

# The peers subtract float32 tables that are nearly equal.
TABLES = (2e-4, 2e-5)
SCALE = 3.0
"""Guidance: uncond + 3 (cond - uncond)."""

Place = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def ddpm(inputs: Inputs) -> Workload:
    """From level T to the one below, noise drawn: reads x and the prediction, writes x."""
    table = ancestral_table(inputs.schedule, "eps", list(range(STEPS, -1, -1)), "posterior")
    place, row = _place(table, STEPS - T, inputs)
    x, pred, z = inputs.x, inputs.pred, inputs.noise_of_step

    def plain(formula: Formula) -> Contender:
        return Contender(
            "",
            lambda: {"x_s": formula(x, pred, row, 1.0, True)},
            lambda: {"x_s": formula(x, pred, row, 1.0, True, z)},
        )

    def drawing(step: Callable[[], Tensor]) -> Contender:
        def call() -> Result:
            return {"x_s": step()}

        return Contender("", call, _given(call, z), TABLES)

    return assemble(
        "DDPM step, noise drawn", inputs, 3,
        Contender("", lambda: {"x_s": sampler_step(x, pred, *place, 1.0, True)}),
        plain, formulas.step,
        {
            DIFFUSERS: lambda: drawing(peer_calls.diffusers_ddpm(inputs)),
            LUCIDRAINS: lambda: drawing(peer_calls.lucidrains_ddpm(inputs)),
        },
        Contender("", Oracle(inputs).ddpm),
    )  # fmt: skip


def ddim(inputs: Inputs) -> Workload:
    """Twenty levels down without noise: reads x and the prediction, writes x."""
    place, row = _place(ddim_table(inputs.schedule, "eps", VISITED, 0.0), VISITED.index(T), inputs)
    x, pred = inputs.x, inputs.pred

    def diffusers() -> Contender:
        step = peer_calls.diffusers_ddim(inputs)
        return Contender("", lambda: {"x_s": step(pred)}, tolerance=TABLES)

    return assemble(
        "DDIM step, eta = 0", inputs, 3,
        Contender("", lambda: {"x_s": sampler_step(x, pred, *place, 1.0, False)}),
        lambda formula: Contender("", lambda: {"x_s": formula(x, pred, row, 1.0)}),
        formulas.step, {DIFFUSERS: diffusers},
        Contender("", Oracle(inputs).ddim),
    )  # fmt: skip


def guided(inputs: Inputs) -> Workload:
    """The same from two predictions: reads x and both, writes x."""
    place, row = _place(ddim_table(inputs.schedule, "eps", VISITED, 0.0), VISITED.index(T), inputs)
    x, cond, uncond = inputs.x, inputs.pred, inputs.uncond
    scale = torch.tensor(SCALE, device=inputs.device)

    def ours() -> Result:
        moved = sampler_step(x, cond, *place, 1.0, False, uncond=uncond, guidance_scale=scale)
        return {"x_s": moved}

    def diffusers() -> Contender:
        step = peer_calls.diffusers_ddim(inputs)
        # The line of its pipelines comes before the scheduler.
        return Contender(
            "", lambda: {"x_s": step(uncond + SCALE * (cond - uncond))}, tolerance=TABLES
        )

    return assemble(
        "guided DDIM step", inputs, 4, Contender("", ours),
        lambda formula: Contender("", lambda: {"x_s": formula(x, cond, uncond, scale, row, 1.0)}),
        formulas.guided_step, {DIFFUSERS: diffusers},
        Contender("", lambda: Oracle(inputs).guided(SCALE)),
    )  # fmt: skip


def second_order(inputs: Inputs) -> Workload:
    """Reads x, the prediction and the estimate before, writes x and the estimate."""
    table = dpm_solver_table(inputs.schedule, "eps", VISITED)
    place, row = _place(table, VISITED.index(T), inputs)
    x, pred, history = inputs.x, inputs.pred, inputs.history

    def ours() -> Result:
        moved, estimate = sampler_step_multistep(x, pred, history, *place, 0.0, False)
        return {"x_s": moved, "x0": estimate}

    def plain(formula: Formula) -> Contender:
        def call() -> Result:
            moved, estimate = formula(x, pred, history, row)
            return {"x_s": moved, "x0": estimate}

        return Contender("", call)

    def diffusers() -> Contender:
        step = peer_calls.diffusers_dpm_solver(inputs)
        return Contender(
            "", lambda: dict(zip(("x_s", "x0"), step(), strict=True)), tolerance=TABLES
        )

    return assemble(
        "DPM-Solver++ 2M step", inputs, 5, Contender("", ours),
        plain, formulas.second_order_step, {DIFFUSERS: diffusers},
        Contender("", Oracle(inputs).second_order),
    )  # fmt: skip


def normals(inputs: Inputs) -> Workload:
    """Standard normal noise, written once; torch.randn draws other numbers of the same law."""
    key, shape = inputs.key, list(inputs.shape[1:])

    def ours() -> Result:
        stream = Stream.INITIAL_NOISE
        return {"z": normal(key.seed, key.step, key.sample, stream, shape, inputs.dtype)}

    def drawn() -> Result:
        return {"z": torch.randn(inputs.shape, dtype=inputs.dtype, device=inputs.device)}

    oracle = Contender("", lambda: Oracle(inputs).normals(int(key.step), Stream.INITIAL_NOISE))
    randn = Contender("torch.randn", drawn, note="other numbers", same_law=True)
    return assemble("normals", inputs, 1, Contender("", ours), None, None, {}, oracle, (randn,))


def _place(table: StepTable, index: int, inputs: Inputs) -> tuple[Place, dict[str, Tensor]]:
    """What a step of ours is given from its table on, and the row's coefficients by name."""
    table, key = table.to(inputs.device), inputs.key
    row = torch.tensor(index, device=inputs.device)
    named = dict(zip(COLUMNS, table.coefficients[index].unbind(), strict=True))
    return (table.coefficients, table.draws, row, key.seed, key.sample), named


def _given(call: Call, noise: Tensor) -> Call:
    """The call with everybody's noise replaced by this."""

    def check() -> Result:
        with noise_from(noise):
            return call()

    return check
