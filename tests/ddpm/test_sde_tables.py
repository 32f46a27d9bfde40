from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.predictions import Prediction
from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.sde import SDE
from ddpm.reference.sde_solvers import euler_maruyama
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.sde import euler_maruyama_table
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, generators, moderate_betas, subsequences

ULP = 2.0**-23
UNIT_RATE = SDE.vp(lambda _: 1.0)
PREDICTIONS = st.sampled_from(get_args(Prediction))


@settings(max_examples=40)
@given(st.data(), moderate_betas(), PREDICTIONS, generators())
def test_steps_against_the_reference(
    data: st.DataObject, values: Array, prediction: Prediction, rng: np.random.Generator
) -> None:
    levels, chain = data.draw(subsequences(len(values))), Chain(values)
    table = euler_maruyama_table(Schedule.from_betas(values.tolist()), prediction, levels)
    assert table.path == tuple(levels)
    time = -np.log(chain.alpha_bar)
    for row, t, s in zip(table.coefficients.double().numpy(), levels, levels[1:], strict=False):
        x, output, z = rng.normal(size=(3, 1, 4))
        clean = predict_x0(prediction, output, x, chain, t, t - 1)
        law = UNIT_RATE.marginal(time[t])
        score = (law.gain * clean - x) / law.variance

        def drift(y: Array, at: float, score: Array = score) -> Array:
            return UNIT_RATE.reverse_drift(y, at, score)

        noise = z if s else np.zeros_like(z)
        want = euler_maruyama(drift, UNIT_RATE.diffusion, x, time[t], time[s] - time[t], noise)
        k_x, k_pred, a, b, c, sd, v0, v1 = row
        got = a * (k_x * x + k_pred * output) + b * x + sd * noise
        assert c == v0 == v1 == 0
        assert (sd > 0) == (s > 0)
        size = abs(a) * (abs(k_x * x) + abs(k_pred * output)) + abs(b * x) + abs(sd * z)
        np.testing.assert_array_less(np.abs(got - want), 3 * ULP * size + 1e-11)


def test_short_steps_agree_with_the_ancestral_step() -> None:
    """The difference of the two in one step of length beta is of order beta^2."""
    differences = []
    for steps in (200, 400):
        schedule = Schedule.log_snr_linear(steps, 3.0, -3.0)
        levels = list(range(steps, -1, -1))
        found = [
            table.coefficients[steps // 2].double()
            for table in (
                euler_maruyama_table(schedule, "x0", levels),
                ancestral_table(schedule, "x0", levels, "beta"),
            )
        ]
        differences.append((found[0] - found[1])[2:4].abs().max().item())
    assert differences[0] / differences[1] == pytest.approx(4, rel=0.1)


def test_a_step_without_any_signal_left() -> None:
    """The length of a step keeps its digits where 1 - beta underflows to 0 next to 1."""
    schedule = Schedule.log_snr_linear(2, 1.0, -80.0)
    row = euler_maruyama_table(schedule, "v", [2, 1, 0]).coefficients[0].double()
    length = 80.0 - np.log1p(np.exp(-1.0))
    assert float(row[5]) == pytest.approx(length**0.5, rel=1e-6)
    assert float(row[3]) == pytest.approx(1 - length / 2, rel=1e-6)


def test_zero_terminal_snr_is_refused() -> None:
    schedule = Schedule.from_betas([0.1, 0.3, 1.0])
    with pytest.raises(ValueError, match=r"levels = \[3, 1, 0\]: allowed for Euler-Maruyama is a"):
        euler_maruyama_table(schedule, "v", [3, 1, 0])
    assert bool(euler_maruyama_table(schedule, "v", [2, 0]).coefficients.isfinite().all())


@pytest.mark.parametrize("levels", [[], [0], [3, 1], [1, 3, 0], [4, 0]])
def test_levels_are_checked(levels: list[int]) -> None:
    with pytest.raises(ValueError, match="levels = "):
        euler_maruyama_table(Schedule.cosine(3), "eps", levels)
