"""Langevin steps between those of a predictor, and the random numbers of both."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.predictions import Prediction
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.langevin import langevin_step, stationary_variance
from ddpm.reference.parameterisations import predict_x0
from ddpm.samplers.corrector import langevin_steps, predictor_corrector_table
from ddpm.samplers.equations import Equation
from ddpm.samplers.sde import euler_maruyama_table
from ddpm.samplers.stochastic import dpm_solver_sde_table, stochastic_heun_table
from ddpm.samplers.tables import StepTable
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, generators, moderate_betas, subsequences
from tests.ddpm.exact import INITIAL_NOISE, SAMPLING_NOISE

PREDICTIONS = st.sampled_from(get_args(Prediction))
EQUATIONS = st.sampled_from(get_args(Equation))
SCHEDULE = Schedule.log_snr_linear(40, 5.0, -5.0)
LEVELS = [40, 29, 17, 8, 1, 0]


@settings(max_examples=30)
@given(
    st.data(), moderate_betas(), PREDICTIONS, EQUATIONS, st.integers(1, 3), st.floats(0.01, 0.9),
    generators(),
)  # fmt: skip
def test_rows_against_the_reference(
    data: st.DataObject,
    values: Array,
    prediction: Prediction,
    sde: str,
    corrections: int,
    ratio: float,
    rng: np.random.Generator,
) -> None:
    levels, chain = data.draw(subsequences(len(values))), Chain(values)
    schedule = Schedule.from_betas(values.tolist())
    table = predictor_corrector_table(
        schedule, prediction, levels, sde, corrections=corrections, snr_ratio=ratio
    )
    every = 1 + corrections
    plain = euler_maruyama_table(schedule, prediction, levels, sde)
    assert torch.equal(table.exact[::every], plain.exact)
    assert torch.equal(table.draws[::every], plain.draws)
    path = [level for t, s in pairwise(levels) for level in (t, *[s] * corrections)]
    assert table.path == (*path[: len(path) - corrections], 0)
    assert not table.needs_history
    for i, t in enumerate(table.path[:-1]):
        if i % every == 0:
            continue
        x, output, z = rng.normal(size=(3, 1, 4))
        clean = predict_x0(prediction, output, x, chain, t, t - 1)
        variance = float(chain.one_minus_alpha_bar[t])
        score = (np.sqrt(chain.alpha_bar[t]) * clean - x) / variance
        k_x, k_pred, a, b, c, sd, v0, v1 = table.exact[i].numpy()
        assert c == v0 == v1 == 0
        got = a * (k_x * x + k_pred * output) + b * x + sd * z

        def known(_: Array, found: Array = score) -> Array:
            return found

        want = langevin_step(known, x, 2 * ratio**2 * variance, z)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11 * (1 + np.abs(clean).max()))


@pytest.mark.parametrize("sde", get_args(Equation))
def test_a_correction_is_the_same_step_in_every_coordinate(sde: str) -> None:
    """Song et al. (2021) choose its length by the norms of score and noise, where both scale."""
    got, usual = (predictor_corrector_table(SCHEDULE, "v", LEVELS, e) for e in (sde, "vp"))
    assert torch.equal(got.exact[1::2], usual.exact[1::2])


def corrected(variance: float, level: int, data: float, times: int) -> float:
    """Variance at a level after some corrections, from another, for data of this variance."""
    share = [float(x) for x in langevin_steps(SCHEDULE, torch.tensor(level), 0.16)]
    signal, noise = (
        float(SCHEDULE.alpha_bar[level].sqrt()),
        float(SCHEDULE.one_minus_alpha_bar[level]),
    )
    gain = signal * data / (signal**2 * data + noise)
    for _ in range(times):
        variance = (share[0] * gain + share[1]) ** 2 * variance + share[2] ** 2
    return variance


@pytest.mark.parametrize("level", [1, 8, 20, 33, 40])
@pytest.mark.parametrize("data", [0.01, 0.3, 2.0])
def test_a_correction_keeps_the_law_of_its_level_and_pulls_others_to_it(
    level: int, data: float
) -> None:
    signal, noise = float(SCHEDULE.alpha_bar[level]), float(SCHEDULE.one_minus_alpha_bar[level])
    right, length = signal * data + noise, 2 * 0.16**2 * noise
    # One step, 5 % of the noise long, leaves the law alone up to the square of its length.
    excess = corrected(right, level, data, 1) - right
    assert excess == pytest.approx(length**2 / right, rel=1e-9)
    assert 0 < excess < 0.003 * right
    for wrong in (0.5 * right, 1.5 * right):
        closer = corrected(wrong, level, data, 1)
        # Deviations shrink by the square of what x is multiplied by.
        shrink = (1 - length / right) ** 2
        assert closer - right - excess == pytest.approx(shrink * (wrong - right), rel=1e-9)
        assert abs(closer - right) < abs(wrong - right)
        many = int(60 / (length / right))
        rest = float(stationary_variance(right, length))
        assert corrected(wrong, level, data, many) == pytest.approx(rest, rel=1e-6)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 300), st.integers(1, 4), EQUATIONS)
def test_no_two_rows_draw_the_same_numbers(
    data: st.DataObject, total: int, corrections: int, sde: str
) -> None:
    schedule = Schedule.log_snr_linear(total)
    levels = sorted(data.draw(st.sets(st.integers(1, total), min_size=1)), reverse=True)
    table = predictor_corrector_table(schedule, "v", [*levels, 0], sde, corrections=corrections)
    draws = table.draws.tolist()
    assert len(set(draws)) == len(draws)
    assert max(draws) < 2**32
    # No correction draws what a step from any level of the schedule does.
    assert all((draw <= total) == (i % (corrections + 1) == 0) for i, draw in enumerate(draws))


def test_a_correction_draws_the_same_numbers_whatever_else_is_visited() -> None:
    few, many = (
        predictor_corrector_table(SCHEDULE, "v", levels, corrections=corrections)
        for levels, corrections in (([40, 17, 8, 0], 2), ([39, 31, 17, 16, 8, 2, 0], 3))
    )

    def numbers(table: StepTable, t: int) -> list[int]:
        return table.draws[table.levels == t].tolist()

    for t in (17, 8):
        before, after = numbers(few, t), numbers(many, t)
        # First the corrections, then the step that leaves the level.
        assert (before[:2], before[-1]) == (after[:2], t)
        assert after[-1] == t


def test_normals_of_all_rows_differ() -> None:
    table = predictor_corrector_table(SCHEDULE, "v", LEVELS, corrections=2)
    z = np.stack([
        philox.normals(5, SAMPLING_NOISE, draw, np.arange(3), 8) for draw in table.draws.tolist()
    ])  # fmt: skip
    assert np.unique(z.reshape(len(z), -1), axis=0).shape[0] == len(z) == 13
    assert np.unique(z).size == z.size


TABLES = {
    "dpm_solver_sde": dpm_solver_sde_table(SCHEDULE, "v", LEVELS),
    "stochastic_heun": stochastic_heun_table(SCHEDULE, "v", LEVELS),
    "predictor_corrector": predictor_corrector_table(SCHEDULE, "v", LEVELS, corrections=2),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_loop_against_numpy(name: str) -> None:
    """Samples of a whole loop, from the numbers that the table's rows say they draw."""
    table, samples, size, seed = TABLES[name], np.arange(3), 6, 11
    diffusion = GaussianDiffusion(SCHEDULE, "v")
    network = GaussianMixture([1.0], [[0.3] * size], [0.2]).network(SCHEDULE, "v")
    got = diffusion.sample_loop(network, (3, size), table, seed=seed, clip_denoised=False)
    x = philox.normals(seed, INITIAL_NOISE, 0, samples, size)
    history = np.zeros_like(x)
    for (k_x, k_pred, a, b, c, sd, *_), t, draw in zip(
        table.exact.numpy(), table.levels.tolist(), table.draws.tolist(), strict=True
    ):
        output = network(torch.from_numpy(x), torch.full((3,), t)).numpy()
        clean = k_x * x + k_pred * output
        z = philox.normals(seed, SAMPLING_NOISE, draw, samples, size)
        x, history = a * clean + b * x + c * history + sd * z, clean
    np.testing.assert_allclose(got.numpy(), x, rtol=0, atol=2e-5)


def test_one_step_has_nothing_to_correct() -> None:
    table = predictor_corrector_table(SCHEDULE, "v", [40, 0], corrections=3)
    assert table.path == (40, 0)
    assert not table.noisy


@pytest.mark.parametrize("corrections", [0, -1, 2**32 // 41])
def test_a_number_of_corrections_that_is_refused(corrections: int) -> None:
    most = (2**32 - 1) // 41 - 1
    with pytest.raises(ValueError, match=rf"^corrections = {corrections}: allowed is 1 to {most}$"):
        predictor_corrector_table(SCHEDULE, "v", LEVELS, corrections=corrections)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.0, float("nan")])
def test_a_ratio_that_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"^snr_ratio = {ratio}: allowed is between 0 and 1$"):
        predictor_corrector_table(SCHEDULE, "v", LEVELS, snr_ratio=ratio)


def test_what_the_predictor_refuses() -> None:
    with pytest.raises(ValueError, match="sde = 'magic': allowed is one of vp, ve, sub-vp"):
        predictor_corrector_table(SCHEDULE, "v", LEVELS, "magic")
    with pytest.raises(ValueError, match="levels = "):
        predictor_corrector_table(SCHEDULE, "v", [3, 5, 0])
    silent = SCHEDULE.with_zero_terminal_snr()
    with pytest.raises(ValueError, match=r"levels = \[40, 3, 0\]: allowed for Euler-Maruyama"):
        predictor_corrector_table(silent, "v", [40, 3, 0])
