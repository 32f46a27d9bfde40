"""Adaptive samplers against SciPy's solver, Euler's steps on one Brownian path, and exact laws."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from ddpm import extras
from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.keys import Key
from ddpm.reference.mixture import Mixture
from ddpm.samplers import brownian
from ddpm.samplers.adaptive import AdaptiveState, ode_progressive, sde_progressive
from ddpm.samplers.brownian import BrownianPath
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array

WEIGHTS, MEANS, VARIANCES = [0.3, 0.7], [-0.8, 0.5], [0.04, 0.09]
EXACT = Mixture(np.array(WEIGHTS), np.array(MEANS), np.array(VARIANCES))
DATA = GaussianMixture(WEIGHTS, [[m] for m in MEANS], VARIANCES)
SCHEDULE = Schedule.log_snr_linear(33, 4.0, -4.0)
DIFFUSION = GaussianDiffusion(SCHEDULE, "eps")
NETWORK = DATA.network(SCHEDULE, "eps")
LEVELS = [33, 20, 9, 1, 0]


def flow(x: Array, level: int) -> Array:
    """The probability flow from level T by SciPy, in the time alpha_bar.

    With beta = -d log(alpha_bar) the flow is dx = (x + score) / 2 d log(alpha_bar).
    """

    def velocity(power: float, x: Array) -> Array:
        return (x + EXACT.score(x, math.sqrt(power), 1 - power)) / (2 * power)

    ends = [float(SCHEDULE.alpha_bar[t]) for t in (33, level)]
    found = integrate.solve_ivp(velocity, ends, x, method="DOP853", rtol=1e-11, atol=1e-11)
    return np.asarray(found.y[:, -1])


def solved(x: Tensor, **options: Any) -> list[AdaptiveState]:
    states = ode_progressive(DIFFUSION, NETWORK, x, LEVELS, clip_denoised=False, **options)
    return list(states)


def drawn(x: Tensor, samples: range, **options: Any) -> list[AdaptiveState]:
    key = Key.of(3, samples)
    states = sde_progressive(DIFFUSION, NETWORK, x, key, LEVELS, clip_denoised=False, **options)
    return list(states)


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "bosh3"])
def test_states_of_the_flow_are_scipy_s(method: str) -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    states = solved(x, rtol=1e-7, atol=1e-7, method=method)
    assert [(s.t, s.step, s.steps) for s in states] == [(20, 1, 4), (9, 2, 4), (1, 3, 4), (0, 4, 4)]
    # Between its steps bosh3 is interpolated with a lower order.
    for state in states[:-1]:
        np.testing.assert_allclose(
            state.x[:, 0], flow(x[:, 0].numpy(), state.t), atol=1e-4 if method == "bosh3" else 3e-6
        )
    at = [float(v) for v in (SCHEDULE.alpha_bar[1].sqrt(), SCHEDULE.one_minus_alpha_bar[1])]
    want = EXACT.denoised(states[-2].x[:, 0].numpy(), *at)
    np.testing.assert_allclose(states[-1].x[:, 0], want, atol=1e-9)


def test_tolerance_buys_accuracy_for_calls() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    want, errors, calls = flow(x[:, 0].numpy(), 1), [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        states = solved(x, rtol=tolerance, atol=tolerance)
        errors.append(float(np.abs(states[-2].x[:, 0].numpy() - want).max()))
        calls.append(states[-1].calls)
    assert errors[0] > 5 * errors[1] > 100 * errors[2]
    assert calls[0] < calls[1] < calls[2] < 200


def test_calls_are_those_that_the_network_sees() -> None:
    count = 0

    def network(x: Tensor, t: Tensor) -> Tensor:
        nonlocal count
        count += 1
        output: Tensor = NETWORK(x, t)
        return output

    x = torch.zeros(2, 1)
    for states in (
        ode_progressive(DIFFUSION, network, x, LEVELS),
        sde_progressive(DIFFUSION, network, x, Key.of(0, range(2)), LEVELS),
    ):
        count = 0
        last = list(states)[-1]
        assert last.calls == count > 4
        assert last.x.dtype == torch.float32
    # One level alone leaves nothing to integrate.
    count = 0
    (only,) = ode_progressive(DIFFUSION, network, x, [5, 0])
    assert (only.t, only.calls, count) == (0, 1, 1)


def test_each_sample_by_itself_meets_the_tolerance() -> None:
    """A hard sample is not averaged over the easy ones beside it."""
    hard = torch.tensor([[-0.05]], dtype=torch.float64)
    want, easy = flow(hard[:, 0].numpy(), 1)[0], torch.full((400, 1), -2.0, dtype=torch.float64)
    alone = solved(hard)[-2].x[0, 0]
    beside = solved(torch.cat([hard, easy]))[-2].x[0, 0]
    assert abs(float(beside) - want) < 2 * abs(float(alone) - want) + 1e-5


def test_increments_have_the_laws_of_brownian_motion() -> None:
    count, (a, b, c) = 40_000, (-1.7, 0.31, 2.0)
    path = BrownianPath(Key.of(1, range(count)), 1, -2.0, 3.0)
    (w, u), (later, area) = path.increment(a, b), path.increment(b, c)
    h, g = b - a, c - b
    size = torch.cat(
        [w / h**0.5, u / (h**3 / 3) ** 0.5, later / g**0.5, area / (g**3 / 3) ** 0.5], 1
    )
    want = torch.eye(4, dtype=torch.float64)
    # Of an increment W and the integral U beneath it: Cov(W, U) = h^2 / 2.
    want[0, 1] = want[1, 0] = want[2, 3] = want[3, 2] = 0.75**0.5
    assert size.mean(0).abs().max() < 4.5 / count**0.5
    assert (size.T @ size / count - want).abs().max() < 4.5 * (2 / count) ** 0.5
    assert stats.kstest(size[:, 0].numpy(), "norm").pvalue > 1e-4


def test_a_short_increment_is_as_wide_as_it_should_be() -> None:
    count, h = 40_000, 5.0 * 2.0**-18
    path = BrownianPath(Key.of(2, range(count)), 1, -2.0, 3.0)
    for start in (-2.0, 0.123456):
        w, u = path.increment(start, start + h)
        assert abs(float(w.square().mean()) / h - 1) < 4.5 * (2 / count) ** 0.5
        assert abs(float(u.square().mean()) / (h**3 / 3) - 1) < 4.5 * (2 / count) ** 0.5


def test_the_path_is_one_function_of_time() -> None:
    path = BrownianPath(Key.of(5, range(3)), 2, 0.0, 1.0)
    grid = np.linspace(0.2, 0.7, 1001)
    values = torch.stack([path.at(float(time))[0] for time in grid])
    _, u = path.increment(0.2, 0.7)
    area = integrate.trapezoid(values.numpy() - values[0].numpy(), x=grid, axis=0)
    # The path is rough: a chord misses the area of a step h by sqrt(h^3 / 12) at most so often.
    np.testing.assert_allclose(u, area, atol=6 * math.sqrt(1000 * (0.5 / 1000) ** 3 / 12))
    other = BrownianPath(Key.of(5, range(3)), 2, 0.0, 1.0)
    for i in (999, 17, 500):
        assert torch.equal(other.at(float(grid[i]))[0], values[i])
    few = BrownianPath(Key.of(5, [2]), 2, 0.0, 1.0)
    assert torch.equal(few.at(float(grid[9]))[0], values[9, 2:])
    assert torch.equal(path.at(0.0)[0], torch.zeros(3, 2).double())


def test_the_last_intervals_are_parabolas_with_their_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brownian, "DEPTH", 2)
    path, ends = BrownianPath(Key.of(6, range(5)), 3, 0.0, 1.0), [0.0, 0.25, 0.5, 0.65]
    total = torch.zeros(5, 3, dtype=torch.float64)
    for first, last in pairwise(ends):
        # Simpson's rule is exact for a parabola.
        three = [path.at(time)[0] for time in (first, (first + last) / 2, last)]
        total += (last - first) / 6 * (three[0] + 4 * three[1] + three[2])
        torch.testing.assert_close(path.at(last)[1], total, rtol=1e-12, atol=1e-12)
    assert (three[0] - 2 * three[1] + three[2]).abs().min() > 1e-6


@pytest.mark.parametrize("method", ["srk", "euler"])
def test_paths_approach_those_of_many_small_steps(method: str) -> None:
    """Euler's steps for the reverse equation in the time -log(alpha_bar), written down by hand."""
    x, samples = torch.linspace(-1.5, 1.5, 24, dtype=torch.float64)[:, None], range(24)
    lam = SCHEDULE.log_snr[[33, 1]] / 2
    path = BrownianPath(Key.of(3, samples), 1, float(lam[0]), float(lam[1]))
    want, times = x[:, 0].numpy(), np.linspace(float(lam[0]), float(lam[1]), 2001)
    for now, then in pairwise(times.tolist()):
        power, dw = 1 / (1 + math.exp(-2 * now)), path.increment(now, then)[0][:, 0].numpy()
        # Between the two, beta dt = 2 (1 - alpha_bar) d lambda.
        rate = 2 * (1 - power)
        drift = rate * (want / 2 + EXACT.score(want, math.sqrt(power), 1 - power))
        want = want + drift * (then - now) + math.sqrt(rate) * dw
    errors = []
    for tolerance in (1e-1, 1e-2, 1e-3):
        found = drawn(x, samples, rtol=tolerance, atol=tolerance, method=method)[-2].x[:, 0]
        errors.append(float(np.sqrt(np.mean((found.numpy() - want) ** 2))))
    assert errors[2] < min(errors[0] / 4, 0.02), errors


def test_the_law_at_level_one_is_that_of_the_data_there() -> None:
    count = 3000
    start = [float(v) for v in (SCHEDULE.signal[33], SCHEDULE.sigma[33])]
    noise = np.random.default_rng(0).normal(size=count)
    x = start[0] * DATA.sample(Key.of(8, range(count)))[:, 0].numpy() + start[1] * noise
    states = drawn(torch.tensor(x)[:, None], range(count))
    assert [s.t for s in states] == [20, 9, 1, 0]
    for state in states[:-1]:
        signal, sigma = float(SCHEDULE.signal[state.t]), float(SCHEDULE.sigma[state.t])
        wide = np.sqrt(signal**2 * np.array(VARIANCES) + sigma**2)
        parts = stats.norm(signal * np.array(MEANS), wide).cdf(state.x.numpy())
        assert stats.kstest(parts @ WEIGHTS, "uniform").pvalue > 1e-3


def test_a_picture_is_the_same_in_any_batch_up_to_the_tolerance() -> None:
    x = torch.linspace(-1.5, 1.5, 8, dtype=torch.float64)[:, None]
    tight = {"rtol": 1e-6, "atol": 1e-6}
    whole, alone = solved(x, **tight)[-2].x[5], solved(x[5:6], **tight)[-2].x[0]
    assert abs(float(whole - alone)) < 1e-5
    loose = {"rtol": 1e-3, "atol": 1e-3}
    whole, alone, other = (
        drawn(part, span, **loose)[-2].x[-1]
        for part, span in ((x[:6], range(6)), (x[5:6], range(5, 6)), (x[5:6], range(6, 7)))
    )
    assert abs(float(whole - alone)) < 0.02
    assert abs(float(other - alone)) > 0.05


def test_torch_s_own_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    solved(torch.zeros(1, 1))
    drawn(torch.zeros(1, 1), range(1))
    assert torch.equal(torch.get_rng_state(), before)


def started(
    name: str, diffusion: GaussianDiffusion, network: Any, levels: Any, **options: Any
) -> Any:
    x, key = torch.zeros(2, 1), Key.of(0, range(2))
    if name == "ode":
        return list(ode_progressive(diffusion, network, x, levels, **options))
    return list(sde_progressive(diffusion, network, x, key, levels, **options))


@pytest.mark.parametrize("name", ["ode", "sde"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rtol": 0.0}, "rtol = 0.0: allowed is a positive finite number"),
        ({"atol": math.inf}, "atol = inf: allowed is a positive finite number"),
        ({"method": "rk4"}, "method = 'rk4': allowed is (dopri5|srk), "),
        ({"levels": [34, 0]}, "levels = .34, 0.: allowed is a strictly decreasing sequence"),
        ({"levels": [3, 3, 0]}, "levels = "),
    ],
)
def test_bad_input_is_refused_before_the_network_is_called(
    name: str, change: dict[str, Any], message: str
) -> None:
    def network(*_: Tensor) -> Tensor:
        raise AssertionError

    arguments: dict[str, Any] = {"levels": LEVELS} | change
    with pytest.raises(ValueError, match=message):
        started(name, DIFFUSION, network, **arguments)


@pytest.mark.parametrize("name", ["ode", "sde"])
def test_schedules_and_networks_that_cannot_be_solved(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = GaussianDiffusion(SCHEDULE.with_zero_terminal_snr(), "x0")
    network = DATA.network(silent.schedule, "x0")
    with pytest.raises(ValueError, match="levels begin at 33: allowed in continuous time"):
        started(name, silent, network, LEVELS)
    assert started(name, silent, network, [32, 5, 0])[-1].x.isfinite().all()
    with pytest.raises(ArithmeticError, match="found no step"):
        started(name, DIFFUSION, lambda x, _: x * math.nan, LEVELS, clip_denoised=False)
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs torch(diffeq|sde): install .*\[ode\]"):
        started(name, DIFFUSION, NETWORK, LEVELS)


def test_a_key_of_another_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="key has 3 samples: allowed is one for each of 2 images"):
        drawn(torch.zeros(2, 1), range(3))
