"""Euler and Euler-Maruyama in the coordinates of the three equations, against their definitions."""

from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from ddpm.predictions import Prediction
from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.sde import SDE
from ddpm.reference.sde_solvers import euler_maruyama
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.equations import FLOW, REVERSE, Equation, sub_vp_step, vp_step
from ddpm.samplers.flow_tables import euler_table
from ddpm.samplers.multistep import dpm_solver_first_table
from ddpm.samplers.sde import euler_maruyama_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, betas, generators, moderate_betas, subsequences

PREDICTIONS = st.sampled_from(get_args(Prediction))
UNIT = {
    name: make(lambda _: 1.0)
    for name, make in (("vp", SDE.vp), ("ve", SDE.ve), ("sub-vp", SDE.sub_vp))
}
Make = Callable[[Schedule, Prediction, list[int], str], StepTable]
METHODS: list[tuple[Make, str]] = [
    *((euler_maruyama_table, sde) for sde in UNIT),
    (euler_table, "vp"),
    (euler_table, "sub-vp"),
]
# What a step to level 0 does by its equation is not taken: the table returns the estimate.
FINISHED = {(euler_maruyama_table, "sub-vp"), (euler_table, "vp"), (euler_table, "sub-vp")}


def time_of(equation: SDE, snr: float) -> float:
    """The time at which an equation has an SNR, found by bisection."""

    def excess(log_time: float) -> float:
        law = equation.marginal(float(np.exp(log_time)))
        return float(np.log(law.gain**2 / law.variance) - np.log(snr))

    return float(np.exp(optimize.brentq(excess, -16.0, 6.0, xtol=1e-14)))


def wanted(
    equation: SDE, flow: bool, x: Array, clean: Array, noise: Array, snrs: tuple[float, float]
) -> Array:
    """One step of Euler's method in the equation's own coordinate and time, seen from x.

    x has the variance-preserving scale of the first SNR, and the result that of the second.
    """
    start, end = (
        time_of(equation, snrs[0]),
        0.0 if np.isinf(snrs[1]) else time_of(equation, snrs[1]),
    )
    law = equation.marginal(start)
    scale = law.gain * np.sqrt((1 + snrs[0]) / snrs[0])
    after = 1.0 if end == 0 else equation.marginal(end).gain * np.sqrt((1 + snrs[1]) / snrs[1])
    score = (law.gain * clean - scale * x) / law.variance
    drift = equation.probability_flow_drift if flow else equation.reverse_drift
    still = SDE.ve(lambda _: 0.0) if flow else equation
    step = euler_maruyama(
        lambda y, at: drift(y, at, score), still.diffusion, scale * x, start, end - start, noise
    )
    return step / after


@settings(max_examples=25, deadline=None)
@given(st.data(), moderate_betas(), PREDICTIONS, st.sampled_from(METHODS), generators())
def test_steps_against_the_definition(
    data: st.DataObject,
    values: Array,
    prediction: Prediction,
    method: tuple[Make, str],
    rng: np.random.Generator,
) -> None:
    levels, chain, (make, sde) = data.draw(subsequences(len(values))), Chain(values), method
    flow = make is euler_table
    table = make(Schedule.from_betas(values.tolist()), prediction, levels, sde)
    assert table.path == tuple(levels)
    for row, (t, s) in zip(table.exact.numpy(), pairwise(levels), strict=True):
        x, output, z = rng.normal(size=(3, 1, 4))
        clean = predict_x0(prediction, output, x, chain, t, t - 1)
        k_x, k_pred, a, b, c, sd, v0, v1 = row
        got = a * (k_x * x + k_pred * output) + b * x + sd * z
        assert c == v0 == v1 == 0
        assert (sd > 0) == (s > 0 and not flow)
        if s == 0 and (make, sde) in FINISHED:
            assert (a, b) == (1, 0)
            continue
        snrs = float(chain.snr[t]), float(chain.snr[s])
        want = wanted(UNIT[sde], flow, x, clean, z if s else np.zeros_like(z), snrs)
        size = 1 + np.abs(clean).max() * abs(a) + abs(b)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * size)


@settings(max_examples=100)
@given(st.data(), betas(), st.sampled_from(("x0", "v")))
def test_euler_is_ddim_and_the_first_solver(
    data: st.DataObject, values: Array, prediction: Prediction
) -> None:
    """At eta = 0, on any levels of any schedule, and from zero terminal SNR as well."""
    levels, schedule = data.draw(subsequences(len(values))), Schedule.from_betas(values.tolist())
    want = ddim_table(schedule, prediction, levels, 0.0).exact
    for table in (
        euler_table(schedule, prediction, levels),
        euler_table(schedule, prediction, levels, "ve"),
        dpm_solver_first_table(schedule, prediction, levels),
    ):
        torch.testing.assert_close(table.exact, want, rtol=1e-12, atol=1e-15)
        assert table.path == tuple(levels)
        assert not table.noisy
        assert not table.needs_history


LOG_SNRS = [40.0, 30.0, 9.0, 9.0 - 1e-9, 0.3, 0.0, -1e-6, -7.0, -7.1, -40.0]


def in_fifty_digits(sde: str, share: float, high: float, low: float) -> tuple[float, ...]:
    """Columns a, b, sd between two log-SNRs, from equations solved as they stand."""
    with mpmath.workdps(80):
        one, snrs = mpmath.mpf(1), [mpmath.exp(mpmath.mpf(x)) for x in (low, high)]
        alphas = [mpmath.sqrt(snr / (1 + snr)) for snr in snrs]
        if sde == "vp":
            kept = [alpha**2 for alpha in alphas]
            variances, rates = [1 - p for p in kept], [one, one]
        else:
            # p / (1 - p)^2 = SNR, as a quadratic in p.
            kept = [(2 * s + 1 - mpmath.sqrt(4 * s + 1)) / (2 * s) for s in snrs]
            variances, rates = [(1 - p) ** 2 for p in kept], [1 - p**2 for p in kept]
        h = mpmath.log(kept[1] / kept[0])
        scales = [mpmath.sqrt(p) / alpha for p, alpha in zip(kept, alphas, strict=True)]
        pull = mpmath.mpf(share) * h * rates[0] / variances[0]
        a, b = pull * mpmath.sqrt(kept[0]), (1 + h / 2 - pull) * scales[0]
        return tuple(float(x / scales[1]) for x in (a, b, mpmath.sqrt(h * rates[0])))


@pytest.mark.parametrize("share", [REVERSE, FLOW])
@pytest.mark.parametrize("sde", ["vp", "sub-vp"])
def test_columns_keep_their_digits(sde: str, share: float) -> None:
    values = torch.tensor([np.inf, *LOG_SNRS], dtype=torch.float64)
    schedule, take = Schedule(values), vp_step if sde == "vp" else sub_vp_step
    pairs = [(t, s) for t in range(2, len(values)) for s in range(1, t)]
    t, s = torch.tensor(pairs).T
    got = torch.stack(list(take(schedule, t, s, share)), dim=1).tolist()
    for found, (at, to) in zip(got, pairs, strict=True):
        want = in_fifty_digits(sde, share, LOG_SNRS[to - 1], LOG_SNRS[at - 1])
        for i, (x, y) in enumerate(zip(found, want, strict=True)):
            # b is a difference that may well be zero; its parts are of the size of a step's pull.
            size = abs(y) if i != 1 else max(abs(y), 1.0, abs(found[0]))
            assert abs(x - y) <= 2e-14 * size, (sde, share, at, to, i, x, y)


def test_steps_of_variance_exploding_have_the_mean_of_the_posterior() -> None:
    schedule = Schedule.cosine(30)
    levels = [30, 22, 9, 1, 0]
    table = euler_maruyama_table(schedule, "x0", levels, "ve")
    t, s = torch.tensor([levels[:-1], levels[1:]])
    a, b, variance = schedule.posterior(s, t)
    assert torch.equal(table.exact[:, 2:4], torch.stack([a, b], dim=1))
    # Where the posterior keeps tau_s^2 / tau_t^2 of the noise.
    ratio = torch.exp(-schedule.fall(s, t))[:-1]
    torch.testing.assert_close(variance[:-1], table.exact[:-1, 5].square() * ratio)
    assert table.exact[-1, 2:6].tolist() == [1, 0, 0, 0]


def test_equations_agree_in_the_limit_of_short_steps() -> None:
    """Noise and pull of one step are those of one equation, up to the square of its length."""
    differences = []
    for steps in (400, 800):
        schedule = Schedule.log_snr_linear(steps, 3.0, -3.0)
        levels = list(range(steps, -1, -1))
        found = [
            euler_maruyama_table(schedule, "x0", levels, sde).exact[steps // 2]
            for sde in get_args(Equation)
        ]
        noise = torch.stack([row[5].square() for row in found])
        pull = torch.stack([row[2] for row in found])
        differences.append([float(x.max() - x.min()) for x in (noise, pull)])
    for coarse, fine in zip(*differences, strict=True):
        assert coarse / fine == pytest.approx(4, rel=0.1)


ZERO_SNR = Schedule.from_betas([0.1, 0.3, 1.0])


@pytest.mark.parametrize("sde", get_args(Equation))
def test_zero_terminal_snr(sde: str) -> None:
    with pytest.raises(ValueError, match=r"levels = \[3, 1, 0\]: allowed for Euler-Maruyama is a"):
        euler_maruyama_table(ZERO_SNR, "v", [3, 1, 0], sde)
    assert bool(euler_maruyama_table(ZERO_SNR, "v", [2, 1, 0], sde).exact.isfinite().all())
    if sde == "ve":
        assert bool(euler_table(ZERO_SNR, "v", [3, 1, 0], sde).exact.isfinite().all())
        return
    with pytest.raises(ValueError, match=rf"allowed for Euler with sde = '{sde}' is a first level"):
        euler_table(ZERO_SNR, "v", [3, 1, 0], sde)


@pytest.mark.parametrize("make", [euler_table, euler_maruyama_table])
@pytest.mark.parametrize("sde", ["VP", "subvp", ""])
def test_an_unknown_equation_is_refused(make: Make, sde: str) -> None:
    allowed = rf"^sde = '{sde}': allowed is one of vp, ve, sub-vp$"
    with pytest.raises(ValueError, match=allowed):
        make(Schedule.cosine(3), "eps", [3, 0], sde)


@pytest.mark.parametrize("make", [euler_table, euler_maruyama_table])
@pytest.mark.parametrize("sde", get_args(Equation))
@pytest.mark.parametrize("levels", [[], [0], [3, 1], [1, 3, 0], [4, 0]])
def test_levels_are_checked(make: Make, sde: str, levels: list[int]) -> None:
    with pytest.raises(ValueError, match="levels = "):
        make(Schedule.cosine(3), "eps", levels, sde)
