"""DDIM backwards: the equation of every step, the round trip on mixtures, and its order."""

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.predictions import Prediction
from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import predict_x0
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.inversion import invert
from ddpm.samplers.levels import trailing
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, moderate_betas, subsequences
from tests.devices.pretend import GPU, pretend_gpu

SCHEDULE = Schedule.log_snr_linear(256, 8.0, -8.0)


def mixture(dimensions: int) -> GaussianMixture:
    signs = np.random.default_rng(dimensions).choice([-1.0, 1.0], size=(2, dimensions))
    return GaussianMixture([0.3, 0.7], torch.tensor(0.6 * signs), [0.04, 0.09])


def last(states: object) -> Tensor:
    return [state.x for state in states][-1]  # type: ignore[attr-defined, no-any-return]


def errors(dimensions: int, iterations: int, counts: list[int]) -> list[float]:
    """Root mean square error of a number, median over images, after up and down in K steps each."""
    data = mixture(dimensions)
    clean, key = data.sample(Key.of(1, range(32))).float(), Key.of(0, range(32))
    diffusion, network = GaussianDiffusion(SCHEDULE, "v"), data.network(SCHEDULE, "v")
    found = []
    for count in counts:
        levels = trailing(256, count)
        noise = last(invert(diffusion, network, clean, levels, iterations=iterations))
        table = ddim_table(SCHEDULE, "v", levels, 0.0)
        back = last(diffusion.sample_progressive(network, noise, key, table, clip_denoised=False))
        found.append(float((back - clean).square().mean(1).sqrt().median()))
    return found


@pytest.mark.parametrize("dimensions", [1, 2, 64])
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_round_trip_gains_an_order_by_each_iteration(dimensions: int, iterations: int) -> None:
    found = errors(dimensions, iterations, [32, 64, 128])
    slopes = [np.log2(coarse / fine) for coarse, fine in pairwise(found)]
    assert slopes == pytest.approx([1 + iterations] * 2, abs=0.15)
    assert found[-1] < 0.03 * 0.03**iterations


@pytest.mark.parametrize("dimensions", [1, 2, 64])
def test_round_trip_returns_the_images_where_it_is_solved(dimensions: int) -> None:
    assert errors(dimensions, 8, [64])[0] < 1e-6


@settings(max_examples=40)
@given(st.data(), moderate_betas(), st.sampled_from(get_args(Prediction)), st.integers(0, 99))
def test_explicit_steps_are_the_paper_s(
    data: st.DataObject, values: Array, prediction: Prediction, seed: int
) -> None:
    """x_t = alpha_t x0_hat + sigma_t eps_hat, each from the output at level s, by the reference."""
    levels, chain = data.draw(subsequences(len(values))), Chain(values)
    schedule = Schedule.from_betas(values.tolist())
    diffusion, calls = GaussianDiffusion(schedule, prediction), []
    outputs = torch.randn(len(levels), 1, 3, generator=torch.Generator().manual_seed(seed))

    def network(x: Tensor, t: Tensor) -> Tensor:
        calls.append((x, int(t)))
        return outputs[len(calls) - 1]

    states = list(invert(diffusion, network, outputs[-1], levels))
    assert [state.t for state in states] == levels[-2::-1]
    assert [level for _, level in calls] == [levels[-2], *levels[-2:0:-1]]
    for i, (state, (x, level)) in enumerate(zip(states, calls, strict=True)):
        signal, variance = chain.alpha_bar[level], chain.one_minus_alpha_bar[level]
        given_x, out = x.double().numpy(), outputs[i].double().numpy()
        estimate = predict_x0(prediction, out, given_x, chain, level, level - 1)
        noise = (given_x - np.sqrt(signal) * estimate) / np.sqrt(variance)
        # At level 0 the image itself is known, and only its noise is estimated.
        clean = given_x if i == 0 else estimate
        want = np.sqrt(chain.alpha_bar[state.t]) * clean
        want = want + np.sqrt(chain.one_minus_alpha_bar[state.t]) * noise
        scale = 1 + np.abs(estimate).max() + np.abs(noise).max() + np.abs(given_x).max()
        np.testing.assert_allclose(state.x, want, rtol=0, atol=8 * 2.0**-24 * scale)


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("variance", [0.01, 0.6])
def test_many_iterations_solve_the_step_of_the_sampler(
    prediction: Prediction, variance: float
) -> None:
    """Each state, sampled one step down, is the state before it."""
    schedule = Schedule.log_snr_linear(40, 7.0, -7.0)
    data = GaussianMixture([1.0], [[0.2, -0.1]], [variance])
    diffusion, network = GaussianDiffusion(schedule, prediction), data.network(schedule, prediction)
    x, levels = torch.tensor([[0.3, -0.5], [-0.6, 0.1]]), trailing(40, 20)
    key = Key.of(0, range(2))
    path = list(invert(diffusion, network, x, levels, iterations=60))
    for before, after in pairwise([(x, 0), *((state.x, state.t) for state in path)]):
        table = ddim_table(schedule, prediction, [after[1], *[before[1]] * (before[1] > 0), 0], 0.0)
        walk = diffusion.sample_progressive(network, after[0], key, table, clip_denoised=False)
        # Predictions that divide by alpha_T = 0.03 lose as many digits.
        torch.testing.assert_close(next(walk).x, before[0], rtol=0, atol=3e-5)
    assert (path[-1].step, path[-1].steps, path[-1].t) == (20, 20, 40)


def test_few_iterations_are_enough_where_data_have_the_variance_of_noise() -> None:
    """Either form of the step alone is a hundred times farther from the solution."""
    schedule = Schedule.log_snr_linear(40, 7.0, -7.0)
    network = GaussianMixture([1.0], [[0.2, -0.1]], [1.0]).network(schedule, "v")
    diffusion, x = GaussianDiffusion(schedule, "v"), torch.tensor([[0.3, -0.5], [-0.6, 0.1]])
    few, many = (
        last(invert(diffusion, network, x, trailing(40, 10), iterations=n)) for n in (8, 60)
    )
    torch.testing.assert_close(few, many, rtol=0, atol=1e-5)


def test_learned_variances_conditions_and_pure_noise_at_the_end() -> None:
    schedule = Schedule.from_betas([0.1, 0.3, 0.5, 1.0])
    x = torch.tensor([[[[0.3, -0.5]]], [[[-0.6, 0.1]]]])
    data = GaussianMixture([1.0], [[0.2, -0.1]], [0.3])
    network = data.network(schedule, "v")

    def wide(x: Tensor, t: Tensor, shift: Tensor) -> Any:
        return (torch.cat([network(x, t) + shift, x.exp()], dim=1),)

    learned = GaussianDiffusion(schedule, "v", "learned")
    levels, none = [4, 3, 2, 1, 0], torch.zeros(())
    got = last(invert(learned, wide, x, levels, iterations=30, shift=none))
    plain = last(invert(GaussianDiffusion(schedule, "v"), network, x, levels, iterations=30))
    torch.testing.assert_close(got, plain)
    assert not torch.allclose(got, last(invert(learned, wide, x, levels, shift=none + 0.1)))
    table = ddim_table(schedule, "v", levels, 0.0)
    back = last(
        GaussianDiffusion(schedule, "v").sample_progressive(
            network, got, Key.of(0, range(2)), table, clip_denoised=False
        )
    )
    torch.testing.assert_close(back, x, rtol=0, atol=1e-4)


def test_no_host_reads() -> None:
    diffusion = GaussianDiffusion(SCHEDULE, "eps")
    x = torch.zeros(2, 3, device=GPU)
    walk = invert(diffusion, lambda x, t: x * 0.1 + t[:, None], x, [9, 4, 0], iterations=1)
    # The table is copied before the first step.
    next(walk)
    with pretend_gpu():
        assert next(walk).x.device == GPU


def test_bad_input_is_refused_before_any_call() -> None:
    def never(*inputs: Tensor) -> Tensor:
        raise AssertionError(inputs)

    diffusion, x = GaussianDiffusion(SCHEDULE, "eps"), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="iterations = -1: allowed is at least 0"):
        invert(diffusion, never, x, [9, 0], iterations=-1)
    for levels in ([0, 9], [9, 1], [257, 0], [0]):
        with pytest.raises(ValueError, match="levels"):
            invert(diffusion, never, x, levels)
