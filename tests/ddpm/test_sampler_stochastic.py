"""The solvers of weak order 2, and the ancestral step that both are made of."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from ddpm.predictions import Prediction
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.stochastic import dpm_solver_sde_table, stochastic_heun_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, betas, moderate_betas, subsequences

PREDICTIONS = st.sampled_from(get_args(Prediction))
SOLVERS: list[Callable[[Schedule, Prediction, Sequence[int]], StepTable]] = [
    dpm_solver_sde_table,
    stochastic_heun_table,
]


def rows(table: StepTable) -> Array:
    return np.asarray(table.exact.numpy())


@settings(max_examples=150)
@given(st.data(), betas(), st.sampled_from(("x0", "v", "mean")))
def test_ddim_with_all_noise_is_ancestral(
    data: st.DataObject, values: Array, prediction: Prediction
) -> None:
    """With the posterior's variance, on any levels of any schedule."""
    levels, schedule = data.draw(subsequences(len(values))), Schedule.from_betas(values.tolist())
    ddim = ddim_table(schedule, prediction, levels, 1.0)
    ancestral = ancestral_table(schedule, prediction, levels, "posterior")
    torch.testing.assert_close(ddim.exact, ancestral.exact, rtol=1e-12, atol=1e-15)
    assert torch.equal(ddim.draws, ancestral.draws)


@settings(max_examples=60)
@given(st.data(), betas(min_steps=2), PREDICTIONS)
def test_where_both_are_ancestral(
    data: st.DataObject, values: Array, prediction: Prediction
) -> None:
    """At the first and the last step of one, and in every first row of the other."""
    if values[-1] == 1 and prediction in ("eps", "score"):
        prediction = "v"
    levels, schedule = data.draw(subsequences(len(values))), Schedule.from_betas(values.tolist())
    want = rows(ancestral_table(schedule, prediction, levels, "posterior"))
    two = rows(dpm_solver_sde_table(schedule, prediction, levels))
    np.testing.assert_allclose(two[[0, -1]], want[[0, -1]], rtol=1e-12, atol=1e-15)
    # What the others estimate and draw is the same, and what they take of x_t.
    np.testing.assert_allclose(two[:, [0, 1, 3, 5]], want[:, [0, 1, 3, 5]], rtol=1e-12, atol=1e-15)
    # A line through any two estimates that agree is flat, however far it is followed.
    size = 1 + np.abs(two[:, 4])
    np.testing.assert_allclose((two[:, 2] + two[:, 4]) / size, want[:, 2] / size, atol=1e-15)
    heun = stochastic_heun_table(schedule, prediction, levels)
    first = [i for i, reads in enumerate(heun.reads_history) if not reads]
    np.testing.assert_allclose(rows(heun)[first], want, rtol=1e-12, atol=1e-15)


@settings(max_examples=20, deadline=None)
@given(st.data(), moderate_betas(min_steps=2))
def test_steps_against_quadrature(data: st.DataObject, values: Array) -> None:
    r"""The reverse equation in lambda, solved for x0_hat on a line, by quad.

    x_s = (sigma_s / sigma_t) e^{-h} x_t + (sigma_s / e^{lambda_s}) \int 2 e^{2 lambda} x0_hat, and
    the variance of the noise is sigma_s^2 / e^{2 lambda_s} \int 2 e^{2 lambda}.
    """
    levels, schedule = data.draw(subsequences(len(values))), Schedule.from_betas(values.tolist())
    sigma, lam = schedule.one_minus_alpha_bar.sqrt().numpy(), schedule.log_snr.numpy() / 2
    two = rows(dpm_solver_sde_table(schedule, "x0", levels))
    heun = rows(stochastic_heun_table(schedule, "x0", levels))
    for i, (t, s) in enumerate(pairwise(levels[:-1])):

        def whole(value: float, start: float = lam[t], end: float = lam[s]) -> float:
            """The integral with x0_hat held at one value."""
            found = integrate.quad(lambda x: 2 * np.exp(2 * (x - end)) * value, start, end)
            return float(found[0])

        kept = sigma[s] / sigma[t] * np.exp(lam[t] - lam[s])
        scale = sigma[s] * np.exp(lam[s])
        assert two[i, 3] == pytest.approx(kept, rel=1e-9)
        assert two[i, 5] ** 2 == pytest.approx(sigma[s] ** 2 * whole(1.0), rel=1e-9)
        middle, earlier = (lam[t] + lam[s]) / 2, lam[levels[i - 1]]
        for now, before, column in ((1.0, 0.0, 2), (0.0, 1.0, 4)):
            # The line through the last two estimates, at the middle of the step.
            slope = (now - before) / (lam[t] - earlier) if i else 0.0
            want = scale * whole(now + slope * (middle - lam[t]))
            assert two[i, column] == pytest.approx(want, rel=1e-9, abs=1e-12)
        # Both rows together hold the mean of the estimates at both ends.
        first, second = heun[2 * i], heun[2 * i + 1]
        assert second[3] == 1
        assert second[5] == 0
        assert first[2] + second[4] == pytest.approx(scale * whole(0.5), rel=1e-9)
        assert second[2] == pytest.approx(scale * whole(0.5), rel=1e-9)


def test_rows_and_their_history() -> None:
    schedule = Schedule.log_snr_linear(20)
    two, heun = (make(schedule, "eps", [20, 9, 4, 0]) for make in SOLVERS)
    assert two.path == (20, 9, 4, 0)
    assert two.reads_history == (False, True, False)
    assert heun.path == (20, 9, 9, 4, 4, 0)
    assert heun.levels.tolist() == [20, 9, 9, 4, 4]
    assert heun.reads_history == (False, True, False, True, False)
    assert [sd > 0 for sd in rows(heun)[:, 5]] == [True, False, True, False, False]
    for table in (two, heun):
        assert table.noisy
        assert rows(table)[-1, 2:].tolist() == [1, 0, 0, 0, 0, 0]
    for make in SOLVERS:
        alone = make(schedule, "eps", [20, 0])
        assert alone.path == (20, 0)
        assert not alone.needs_history
        assert not alone.noisy


def test_sampling_from_zero_terminal_snr() -> None:
    """The first step keeps nothing of x, and its length in lambda tells nothing."""
    schedule = Schedule.from_betas([0.1, 0.3, 0.4, 1.0])
    two, heun = (make(schedule, "v", [4, 3, 1, 0]) for make in SOLVERS)
    assert heun.path == (4, 3, 1, 1, 0)
    assert two.reads_history == (False, False, False)
    assert heun.reads_history == (False, False, True, False)
    for table in (two, heun):
        assert bool(table.exact.isfinite().all())
        signal, noise = schedule.alpha_bar[3].sqrt(), schedule.one_minus_alpha_bar[3].sqrt()
        want = [float(signal), 0.0, 0.0, float(noise)]
        assert rows(table)[0, 2:6].tolist() == pytest.approx(want, rel=1e-15)


@pytest.mark.parametrize("levels", [[], [0], [3, 1], [1, 3, 0], [4, 0]])
@pytest.mark.parametrize("make", SOLVERS)
def test_levels_are_checked(
    make: Callable[[Schedule, Prediction, Sequence[int]], StepTable], levels: list[int]
) -> None:
    with pytest.raises(ValueError, match="levels = "):
        make(Schedule.cosine(3), "eps", levels)
