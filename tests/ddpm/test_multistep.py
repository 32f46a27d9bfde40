from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from ddpm.predictions import Prediction
from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.sde_solvers import heun
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.multistep import dpm_solver_table, heun_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, generators, moderate_betas, subsequences

PREDICTIONS = st.sampled_from(get_args(Prediction))
# A coefficient is rounded once from float64.
ULP = 2.0**-23
Solver = Callable[[Schedule, Prediction, list[int]], StepTable]
SOLVERS: dict[str, tuple[Solver, int]] = {
    "ddim": (partial(ddim_table, eta=0.0), 1),
    "dpm_solver": (dpm_solver_table, 2),
    "heun": (heun_table, 2),
}
MIXTURE = Mixture(np.array([0.3, 0.7]), np.array([-0.8, 0.5]), np.array([0.04, 0.09]))


def rows(table: StepTable) -> Array:
    return np.asarray(table.coefficients.double().numpy())


def scales(schedule: Schedule) -> tuple[Array, Array, Array]:
    """alpha, sigma and lambda of every level."""
    alpha, sigma = schedule.alpha_bar.sqrt().numpy(), schedule.one_minus_alpha_bar.sqrt().numpy()
    return alpha, sigma, schedule.log_snr.numpy() / 2


def final(table: StepTable, schedule: Schedule, x: Array, last: bool) -> Array:
    """Run a table with the best denoiser of the mixture; without the last row, down to level 1."""
    (alpha, sigma, _), before = scales(schedule), np.zeros_like(x)
    for row, t in list(zip(rows(table), table.path, strict=False))[: None if last else -1]:
        k_x, k_pred, a, b, c, *noise = row
        output = MIXTURE.denoised(x, alpha[t], sigma[t] ** 2)
        clean = k_x * x + k_pred * output
        x, before = a * clean + b * x + c * before, clean
        assert noise == [0, 0, 0]
    return x


def flow(schedule: Schedule, x: Array) -> Array:
    """The probability flow from level T to level 1 by scipy, in the time log-SNR."""

    def velocity(log_snr: float, x: Array) -> Array:
        signal, noise = 1 / (1 + np.exp(-log_snr)), 1 / (1 + np.exp(log_snr))
        # With alpha_bar = signal, d alpha_bar = signal noise d log_snr: the variance-preserving
        # equation has beta = -d log(alpha_bar) = -noise d log_snr.
        drift = -(x + MIXTURE.score(x, np.sqrt(signal), noise)) / 2
        return np.asarray(drift * -noise)

    ends = float(schedule.log_snr[-1]), float(schedule.log_snr[1])
    solution = integrate.solve_ivp(velocity, ends, x, method="DOP853", rtol=1e-11, atol=1e-11)
    return np.asarray(solution.y[:, -1])


@pytest.mark.parametrize("name", SOLVERS)
def test_order_of_convergence_on_a_mixture(name: str) -> None:
    solver, order = SOLVERS[name]
    schedule, x = Schedule.log_snr_linear(193, 4.0, -4.0), np.linspace(-2, 2, 9)
    want, errors = flow(schedule, x), []
    for steps in (24, 48, 96, 192):
        levels = [*range(193, 0, -192 // steps), 0]
        errors.append(np.abs(final(solver(schedule, "x0", levels), schedule, x, False) - want))
    worst = np.max(errors, axis=1)
    found = np.log2(worst[:-1] / worst[1:])
    # First order is reached slowly; both second orders are reached from above or below.
    assert abs(found[-1] - order) < 0.1
    assert worst[-1] < (0.02 if order == 1 else 1e-4)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_end_of_a_long_run_is_a_draw_of_the_data(name: str) -> None:
    """The flow maps quantiles of noise to quantiles of the data, whose law is known exactly."""
    schedule = Schedule.log_snr_linear(400, 10.0, -10.0)
    z = np.array([-1.5, -0.5, 0.0, 0.5, 1.5])
    got = final(SOLVERS[name][0](schedule, "x0", trailing(400)), schedule, z, True)
    for position, probability in zip(
        got, 0.5 * (1 + torch.erf(torch.tensor(z) / 2**0.5)), strict=True
    ):
        below = integrate.quad(
            lambda x: np.exp(MIXTURE.log_density([x], 1.0, 0.0))[0], -4, position
        )
        # 400 steps of first order leave a few thousandths; sigma_1 = 0.007.
        assert below[0] == pytest.approx(float(probability), abs=0.01)


@settings(max_examples=30)
@given(st.data(), moderate_betas(min_steps=2))
def test_two_step_solver_against_quadrature(data: st.DataObject, values: Array) -> None:
    r"""x_s = (sigma_s / sigma_t) x_t + sigma_s \int exp(lambda) x0_hat d lambda, by quad."""
    levels, schedule = data.draw(subsequences(len(values))), Schedule.from_betas(values.tolist())
    _, sigma, lam = scales(schedule)
    table = rows(dpm_solver_table(schedule, "x0", levels))
    for i, (t, s) in enumerate(pairwise(levels[:-1])):
        middle = (lam[t] + lam[s]) / 2
        for now, before, column in ((1.0, 0.0, 2), (0.0, 1.0, 4)):
            # The line through the last two estimates, at the middle of the step.
            earlier = lam[levels[i - 1]]
            slope = (now - before) / (lam[t] - earlier) if i else 0.0
            value = float((now if i or column == 2 else 0.0) + slope * (middle - lam[t]))
            whole, _ = integrate.quad(lambda x, v=value: v * np.exp(x), lam[t], lam[s])
            assert table[i, column] == pytest.approx(sigma[s] * whole, rel=1e-6, abs=1e-12)
        assert table[i, 3] == pytest.approx(sigma[s] / sigma[t], rel=2 * ULP)


@settings(max_examples=30)
@given(st.data(), moderate_betas(), PREDICTIONS, generators())
def test_two_rows_of_heun_against_the_reference(
    data: st.DataObject, values: Array, prediction: Prediction, rng: np.random.Generator
) -> None:
    """Heun in the time sigma / alpha for x / alpha, with two unrelated outputs of a network."""
    levels, schedule = data.draw(subsequences(len(values))), Schedule.from_betas(values.tolist())
    chain, (alpha, sigma, _) = Chain(values), scales(schedule)
    table, left = heun_table(schedule, prediction, levels), iter(range(99))
    assert table.path[0::2] == tuple(levels[:-1])
    assert table.path[1::2] == tuple(levels[1:])
    assert len(table.levels) == 2 * len(levels) - 3
    for t, s in pairwise(levels[:-1]):
        first, second = (rows(table)[next(left)] for _ in range(2))
        x, one, two = rng.normal(size=(3, 1, 4))
        clean = predict_x0(prediction, one, x, chain, t, t - 1)
        guess = first[2] * clean + first[3] * x
        after = predict_x0(prediction, two, guess, chain, s, s - 1)
        got = second[2] * after + second[3] * guess + second[4] * clean

        def slope(y: Array, time: float, known: tuple[Array, Array], middle: float) -> Array:
            return np.asarray((y - known[int(time < middle)]) / time)

        start, end = sigma[t] / alpha[t], sigma[s] / alpha[s]
        flow = partial(slope, known=(clean, after), middle=(start + end) / 2)
        want = alpha[s] * heun(flow, x / alpha[t], start, end - start)
        scale = 1 + sum(np.abs(part).max() for part in (x, guess, clean, after))
        scale *= 1 + abs(second[2])
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * ULP * scale)


@settings(max_examples=30)
@given(st.data(), moderate_betas(), PREDICTIONS)
def test_first_rows_are_ddim_and_the_last_returns_the_estimate(
    data: st.DataObject, values: Array, prediction: Prediction
) -> None:
    levels, schedule = data.draw(subsequences(len(values))), Schedule.from_betas(values.tolist())
    euler = rows(ddim_table(schedule, prediction, levels, 0.0))
    for table in (
        dpm_solver_table(schedule, prediction, levels),
        heun_table(schedule, prediction, levels),
    ):
        np.testing.assert_allclose(rows(table)[0], euler[0], rtol=2 * ULP)
        np.testing.assert_allclose(rows(table)[-1], euler[-1], rtol=2 * ULP)
        assert rows(table)[-1, 2:].tolist() == [1, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(
        rows(heun_table(schedule, prediction, levels))[::2], euler, rtol=2 * ULP
    )


def test_which_rows_read_the_history() -> None:
    schedule = Schedule.log_snr_linear(20)
    two, heun_rows = (f(schedule, "eps", [20, 9, 4, 0]) for f in (dpm_solver_table, heun_table))
    assert two.reads_history == (False, True, False)
    assert two.path == (20, 9, 4, 0)
    assert heun_rows.reads_history == (False, True, False, True, False)
    assert heun_rows.path == (20, 9, 9, 4, 4, 0)
    assert heun_rows.levels.tolist() == [20, 9, 9, 4, 4]
    for table in (two, heun_rows):
        assert table.needs_history
        assert table.to("meta").reads_history == table.reads_history
        assert not table.noisy
        assert table.learned == "none"
    assert not dpm_solver_table(schedule, "eps", [20, 0]).needs_history
    assert not heun_table(schedule, "eps", [20, 0]).needs_history


def test_sampling_from_zero_terminal_snr() -> None:
    schedule = Schedule.from_betas([0.1, 0.3, 0.4, 1.0])
    two, stages = (f(schedule, "v", [4, 3, 1, 0]) for f in (dpm_solver_table, heun_table))
    for table in (two, stages):
        assert bool(table.coefficients.isfinite().all())
    # The step before the second is infinitely long in lambda, so that it tells nothing.
    assert two.reads_history == (False, False, False)
    assert stages.path == (4, 3, 1, 1, 0)
    assert stages.reads_history == (False, False, True, False)


@pytest.mark.parametrize("levels", [[], [0], [3, 1], [1, 3, 0], [4, 0]])
@pytest.mark.parametrize("solver", [dpm_solver_table, heun_table])
def test_levels_are_checked(solver: Solver, levels: list[int]) -> None:
    with pytest.raises(ValueError, match="levels = "):
        solver(Schedule.cosine(3), "eps", levels)
