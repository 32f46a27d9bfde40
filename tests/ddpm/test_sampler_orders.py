"""The law that every sampler ends at, for normal data and the exact network, without sampling.

Every row of a table is affine in x, in the history and in its own noise, and so is the network.
Normal laws stay normal: mean and covariance of (x, history) follow row by row in exact arithmetic.
"""

import math
from dataclasses import replace
from typing import get_args

import pytest

from ddpm.samplers.catalogue import CATALOGUE, table_of
from ddpm.samplers.equations import Equation
from ddpm.samplers.sampler import Sampler
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule

DATA = ((0.5, 0.04), (-1.0, 0.6))
"""Mean and variance of each dimension."""

LOG_SNR = 20.0, -30.0
"""The noise of level 1 has a variance of 2e-9, the signal of level T an amplitude of 3e-7: what
they do to the law is below every error that is compared here."""

STEPS = {1: (400, 800), 2: (200, 400)}
"""Numbers of steps between which an order is measured."""

# Corrections of a fixed length keep the law too wide until they outnumber what the predictor moves.
LONG = {"predictor-corrector": (25600, 51200)}


def choices() -> list[Sampler]:
    """Every sampler of the catalogue, with every equation and fixed variance that it knows."""
    found = [Sampler(name=name) for name, entry in CATALOGUE.items() if "sde" not in entry.options]
    for name, entry in CATALOGUE.items():
        if "sde" in entry.options:
            found += [Sampler(name=name, sde=sde) for sde in get_args(Equation)]
    found += [Sampler(name="ddim", eta=eta) for eta in (0.5, 1.0)]
    return [*found, Sampler(name="ancestral", variance="beta")]


def label(sampler: Sampler) -> str:
    """Its name and the choices that are not the usual ones."""
    extra = [str(x) for x in (sampler.sde, sampler.eta, sampler.variance) if x]
    return " ".join([sampler.name, *extra])


CHOICES = {label(choice): choice for choice in choices()}


def final_law(table: StepTable, schedule: Schedule, mean: float, variance: float) -> list[float]:
    """Mean and variance of the samples of one dimension, begun at standard normal noise."""
    signals, noises = schedule.alpha_bar.sqrt().tolist(), schedule.one_minus_alpha_bar.tolist()
    x, before = 0.0, 0.0
    xx, xb, bb = 1.0, 0.0, 0.0
    for (_, _, a, b, c, sd, *_), t in zip(table.exact.tolist(), table.path, strict=False):
        gain = signals[t] * variance / (signals[t] ** 2 * variance + noises[t])
        rest = mean * (1 - gain * signals[t])
        along = a * gain + b
        x, before = along * x + a * rest + c * before, gain * x + rest
        new = along**2 * xx + 2 * along * c * xb + c**2 * bb + sd**2
        xb, bb = gain * (along * xx + c * xb), gain**2 * xx
        xx = new
    return [x, xx]


def error(sampler: Sampler, steps: int) -> float:
    """Largest error of a mean or a variance, of a chain whose levels are all visited."""
    schedule = Schedule.log_snr_linear(steps, *LOG_SNR)
    table = table_of(sampler, schedule, "x0", "posterior")
    assert table.exact[:, 0].eq(0).all()
    assert table.exact[:, 1].eq(1).all()
    draws = table.draws[table.exact[:, 5] > 0].tolist()
    # The variances of noise add up only where no two rows draw the same numbers.
    assert len(set(draws)) == len(draws)
    return max(
        abs(got - want)
        for law in DATA
        for got, want in zip(final_law(table, schedule, *law), law, strict=True)
    )


@pytest.mark.parametrize("name", CHOICES)
def test_the_law_tends_to_that_of_the_data_at_the_stated_order(name: str) -> None:
    sampler = CHOICES[name]
    order = int(CATALOGUE[sampler.name].order[0])
    few, many = LONG.get(sampler.name, STEPS[order])
    errors = error(sampler, few), error(sampler, many)
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)
    assert errors[1] < (0.04 if order == 1 else 0.005)


def test_a_fifth_of_the_steps_of_second_order_beats_first_order() -> None:
    for second, first in (("dpm-solver-2m", "ddim"), ("dpm-solver-sde", "ancestral")):
        assert error(Sampler(name=second), 60) < error(Sampler(name=first), 300)


def test_a_sampler_visits_fewer_levels_than_the_chain_has() -> None:
    """The error depends on the levels visited, and not on those of the chain between them."""
    schedule = Schedule.log_snr_linear(4 * 200 - 3, *LOG_SNR)
    levels = (*range(797, 0, -4), 0)
    for name in CATALOGUE:
        sampler = Sampler(name=name)
        table = table_of(replace(sampler, levels=levels), schedule, "x0", "posterior")
        got = max(abs(final_law(table, schedule, m, v)[1] - v) for m, v in DATA)
        whole = Schedule.log_snr_linear(200, *LOG_SNR)
        full = table_of(sampler, whole, "x0", "posterior")
        want = max(abs(final_law(full, whole, m, v)[1] - v) for m, v in DATA)
        assert got == pytest.approx(want, rel=1e-6), name
