"""Workloads of training: noising and the losses, forward and backward."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ddpm.bench import formulas, peer_calls
from ddpm.bench.assemble import Formula, assemble
from ddpm.bench.contender import ROUNDING, Contender, Result, Workload
from ddpm.bench.inputs import Inputs
from ddpm.bench.oracle_calls import Oracle
from ddpm.bench.peer_calls import DIFFUSERS, LUCIDRAINS
from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.variational_loss import variational_loss
from ddpm.variational import variational_table

# The peers' tables are float32 cumulative products, whose errors grow towards the first levels.
TABLES = (2e-4, 2e-5)
LOGITS = (2e-4, 5e-4)
"""Tolerance of a bound that subtracts float32 logarithms of variances."""

RATE = 0.001
"""Factor of the bound in bits, in the hybrid loss of denoising-diffusion-pytorch."""
GREY_LEVELS = 256

Place = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Seed, step and samples of the noise, where it is drawn."""


def noising_given(inputs: Inputs) -> Workload:
    """Noisy data from the noise that is given: reads x_0 and the noise, writes x_t."""
    given = (inputs.x0, inputs.noise, inputs.t, inputs.signal, inputs.sigma)

    def plain(formula: Formula) -> Contender:
        return Contender("", lambda: {"x_t": formula(*given)})

    def diffusers() -> Contender:
        noised = peer_calls.diffusers_noising(inputs)
        return Contender("", lambda: {"x_t": noised(inputs.noise)}, tolerance=TABLES)

    return assemble(
        "noising, noise given", inputs, 3,
        Contender("", lambda: {"x_t": q_sample(*given)}),
        plain, formulas.noising, {DIFFUSERS: diffusers},
        Contender("", Oracle(inputs).noising),
    )  # fmt: skip


def noising_drawn(inputs: Inputs) -> Workload:
    """Noisy data from noise that everybody draws: reads x_0, writes x_t."""
    x0, noise = inputs.x0, inputs.noise
    tables = (inputs.t, inputs.signal, inputs.sigma)

    def plain(formula: Formula) -> Contender:
        return Contender(
            "",
            lambda: {"x_t": formula(x0, None, *tables)},
            lambda: {"x_t": formula(x0, noise, *tables)},
        )

    def diffusers() -> Contender:
        noised = peer_calls.diffusers_noising(inputs)
        return Contender(
            "",
            lambda: {"x_t": noised(torch.randn_like(x0))},
            lambda: {"x_t": noised(noise)},
            TABLES,
        )

    return assemble(
        "noising, noise drawn", inputs, 2,
        Contender("", lambda: {"x_t": _noised(inputs, None)}),
        plain, formulas.noising, {DIFFUSERS: diffusers},
        Contender("", Oracle(inputs).noising_drawn),
    )  # fmt: skip


def simple(inputs: Inputs, prediction: str, drawn: bool = False) -> Workload:
    """Noising, loss and gradient, the noise given or drawn.

    Noising moves 3N, and 2N where it draws. The loss reads the prediction and what its target is
    made of, the gradient reads the same and is written; noise that is drawn again is not read.

    Args:
        inputs: The batch.
        prediction: "eps", "x0" or "v".
        drawn: Whether everybody draws the noise; for eps.
    """
    pred = inputs.output.clone().requires_grad_()
    x0, key, tables = inputs.x0, inputs.key, (inputs.t, inputs.signal, inputs.sigma)
    weight = torch.ones(len(pred), device=inputs.device)
    place: Place = (key.seed, key.step, key.sample) if drawn else (None, None, None)
    clean = None if prediction == "eps" else x0

    def ours(noise: Tensor | None) -> Result:
        noisy = _noised(inputs, noise)
        eps = None if prediction == "x0" else noise
        loss = diffusion_loss(pred, clean, eps, *tables, weight, *place, prediction)
        return {"x_t": noisy, "loss": loss.mean()}

    def plain(formula: Formula) -> Contender:
        def scored(noise: Tensor | None) -> Result:
            noisy, loss = formula(pred, x0, noise, *tables, prediction)
            return {"x_t": noisy, "loss": loss.mean()}

        return contest(scored, pred, inputs, drawn)

    def diffusers() -> Contender:
        loss = peer_calls.diffusers_loss(inputs, prediction)
        return contest(lambda noise: loss(pred, noise), pred, inputs, drawn, TABLES)

    def lucidrains() -> Contender:
        loss = peer_calls.lucidrains_loss(inputs, prediction, pred)
        return contest(lambda noise: {"loss": loss(noise)}, pred, inputs, drawn, TABLES)

    floor = 5 if drawn else 10 if prediction == "v" else 8
    return assemble(
        f"simple loss, {prediction}{', noise drawn' if drawn else ''}", inputs, floor,
        contest(ours, pred, inputs, drawn), plain, formulas.simple_loss,
        {DIFFUSERS: diffusers, LUCIDRAINS: lucidrains},
        Contender("", Oracle(inputs).simple(prediction, pred, drawn), note="no gradient"),
    )  # fmt: skip


def hybrid(inputs: Inputs, drawn: bool = False) -> Workload:
    """Noising, hybrid loss with a learned variance and gradient, the noise given or drawn.

    Noising moves 3N, the loss reads prediction, logits and noise, 3N, and the gradient reads the
    same and is written, 5N; where noise is drawn each of the three reads N less. Level 1, which
    reads x_0 too, is not among the levels.

    Args:
        inputs: The batch.
        drawn: Whether everybody draws the noise.
    """
    output = torch.cat([inputs.output, inputs.raw], 1).requires_grad_()
    x0, t, key = inputs.x0, inputs.t, inputs.key
    table = variational_table(inputs.schedule, "eps", "log", GREY_LEVELS, signed=True).float()
    table = table.to(inputs.device)
    rate = RATE / math.log(2)
    weight = torch.ones(len(x0), device=inputs.device)
    bound_weight = weight * rate
    place: Place = (key.seed, key.step, key.sample) if drawn else (None, None, None)

    def ours(noise: Tensor | None) -> Result:
        noisy = _noised(inputs, noise)
        loss, _, _ = variational_loss(output, x0, noise, t, table, weight, bound_weight, *place)
        return {"x_t": noisy, "loss": loss.mean()}

    def plain(formula: Formula) -> Contender:
        def scored(noise: Tensor | None) -> Result:
            noisy, loss = formula(output, x0, noise, t, inputs.signal, inputs.sigma, table, rate)
            return {"x_t": noisy, "loss": loss.mean()}

        return contest(scored, output, inputs, drawn)

    def lucidrains() -> Contender:
        loss = peer_calls.lucidrains_hybrid(inputs, output, RATE)
        return contest(lambda noise: {"loss": loss(noise)}, output, inputs, drawn, LOGITS)

    return assemble(
        f"hybrid loss{', noise drawn' if drawn else ''}", inputs, 8 if drawn else 11,
        contest(ours, output, inputs, drawn), plain, formulas.hybrid_loss,
        {LUCIDRAINS: lucidrains},
        Contender("", Oracle(inputs).hybrid(output, rate, drawn), note="no gradient"),
    )  # fmt: skip


def contest(
    scored: Callable[[Tensor | None], Result],
    output: Tensor,
    inputs: Inputs,
    drawn: bool,
    tolerance: tuple[float, float] = ROUNDING,
) -> Contender:
    """A contender from a loss of the noise, None to draw it, and its gradient in the output."""

    def both(noise: Tensor | None) -> Result:
        found = scored(noise)
        (gradient,) = torch.autograd.grad(found["loss"], output)
        channels = inputs.shape[1]
        named = {"gradient": gradient[:, :channels]}
        if gradient.shape[1] > channels:
            named["gradient of the logits"] = gradient[:, channels:]
        return {**found, **named}

    given = partial(both, inputs.noise)
    return Contender("", partial(both, None) if drawn else given, given, tolerance)


def _noised(inputs: Inputs, noise: Tensor | None) -> Tensor:
    tables, key = (inputs.t, inputs.signal, inputs.sigma), inputs.key
    if noise is None:
        return q_sample_drawn(inputs.x0, *tables, key.seed, key.step, key.sample)
    return q_sample(inputs.x0, noise, *tables)
