"""Zero terminal SNR: the rescaled schedule against exact arithmetic, and what runs under it."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor
from torch.autograd import gradcheck

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.likelihood import calc_bpd_loop, prior_bits
from ddpm.reference.chain import Chain
from ddpm.reference.posterior import posterior_coefficients
from ddpm.samplers.levels import trailing
from ddpm.samplers.multistep import dpm_solver_table, heun_table
from ddpm.schedule import Schedule
from ddpm.verify.oracles import PRECISION, signal_products
from ddpm.verify.strategies import Array, betas
from tests.ddpm.test_schedule import KINDS, conditioning, worst_float32_ulp


def rescaled(alpha_bar: Sequence[mp.mpf]) -> list[mp.mpf]:
    """The definition, in exact arithmetic: a line through the amplitudes of levels 1..T."""
    amplitude = [mp.sqrt(power) for power in alpha_bar]
    first, last = amplitude[1], amplitude[-1]
    if len(amplitude) == 2:
        return [mp.mpf(1), mp.mpf(0)]
    line = [first * (c - last) / (first - last) for c in amplitude[1:]]
    return [mp.mpf(1), *(c**2 for c in line)]


def exact_betas(alpha_bar: Sequence[mp.mpf]) -> Array:
    """Noise of each step, from the powers of its two levels."""
    return np.array([float(1 - after / before) for before, after in pairwise(alpha_bar)])


def exact_falls(alpha_bar: Sequence[mp.mpf]) -> Array:
    """Differences of log-SNR between levels 1..T - 1."""
    log_snr = [mp.log(power / (1 - power)) for power in alpha_bar[1:-1]]
    return np.array([float(above - below) for above, below in pairwise(log_snr)])


@settings(max_examples=40)
@given(betas(max_steps=10))
@example(np.array([1e-12]))
@example(np.array([1e-12, 1e-12, 1e-12]))
@example(np.array([0.5, 0.999, 1e-12]))
@example(np.array([0.5, 1.0]))
def test_tables_against_exact_arithmetic(values: Array) -> None:
    schedule = Schedule.from_betas(torch.tensor(values)).with_zero_terminal_snr()
    with mp.workprec(PRECISION):
        exact = rescaled(signal_products(values))
        assert worst_float32_ulp(schedule, exact) <= 1.0
    assert schedule.log_snr[-1] == -math.inf
    assert schedule.log_snr[1:-1].isfinite().all()
    assert schedule.signal[-1] == 0
    assert schedule.sigma[-1] == 1


@settings(max_examples=40)
@given(betas(max_steps=10, min_steps=2))
def test_steps_against_exact_arithmetic(values: Array) -> None:
    before = Schedule.from_betas(torch.tensor(values))
    schedule = before.with_zero_terminal_snr()
    with mp.workprec(PRECISION):
        exact = rescaled(signal_products(values))
        beta, falls = exact_betas(exact), exact_falls(exact)
    t = torch.arange(1, schedule.steps + 1)
    # What the level of the unscaled table did not hold of its own log-SNR cannot come back.
    allowed = conditioning(schedule, t - 1, t) + conditioning(before, t - 1, t)
    error = np.abs(schedule.beta[1:].numpy() / beta - 1)
    np.testing.assert_array_less(error, allowed)
    got = schedule.fall(t[:-2], t[1:-1]).numpy()
    np.testing.assert_allclose(got, falls, rtol=1e-12 + float(allowed.max()))
    assert schedule.beta[-1] == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_known_schedules_against_exact_arithmetic(kind: str, steps: int) -> None:
    before = KINDS[kind](steps)
    schedule = before.with_zero_terminal_snr()
    with mp.workdps(50):
        log_snr = [mp.mpf(value) for value in before.log_snr[1:].tolist()]
        exact = rescaled([mp.mpf(1), *(1 / (1 + mp.exp(-value)) for value in log_snr)])
        assert worst_float32_ulp(schedule, exact) <= 1.0
    assert schedule.log_snr[1] == before.log_snr[1]
    assert schedule.steps == steps


def test_steps_far_smaller_than_a_rounding_of_the_log_snr() -> None:
    # The log-SNR is about -900, where float64 numbers lie 1.1e-13 apart.
    values = np.array([0.99] * 200 + [1e-14] * 5 + [0.99, 0.5])
    schedule = Schedule.from_betas(values.tolist()).with_zero_terminal_snr()
    with mp.workdps(500):
        falls = exact_falls(rescaled(signal_products(values)))
    t = torch.arange(1, schedule.steps - 1)
    np.testing.assert_allclose(schedule.fall(t, t + 1), falls, rtol=1e-10)


def test_coefficients_of_a_chain_of_the_exact_betas() -> None:
    with mp.workdps(50):
        want = exact_betas(rescaled(signal_products(np.linspace(1e-4, 0.02, 1000))))
    chain = Chain(want)
    schedule = Schedule.linear(1000).with_zero_terminal_snr()
    s, t = torch.tensor([0, 1, 500, 998, 999, 3]), torch.tensor([1, 2, 700, 999, 1000, 1000])
    got = torch.stack(schedule.posterior(s, t)).numpy()
    exact = np.stack(posterior_coefficients(chain, s.numpy(), t.numpy()))
    np.testing.assert_allclose(got, exact, rtol=1e-11, atol=0)


def test_a_schedule_that_ends_in_noise_stays() -> None:
    silent = Schedule.from_betas([0.1, 0.2, 1.0])
    assert silent.with_zero_terminal_snr() is silent
    once = Schedule.cosine(7).with_zero_terminal_snr()
    assert once.with_zero_terminal_snr() is once


def test_one_level_is_noise_alone() -> None:
    schedule = Schedule.linear(1).with_zero_terminal_snr()
    assert schedule.log_snr.tolist() == [math.inf, -math.inf]


def test_gradients_against_finite_differences() -> None:
    def everything(drops: Tensor) -> tuple[Tensor, ...]:
        log_snr = 5 - torch.cumsum(drops.exp(), dim=0)
        before = Schedule(torch.cat([log_snr.new_full((1,), math.inf), log_snr]))
        after = before.with_zero_terminal_snr()
        return after.log_snr[1:-1], after.fall(torch.tensor([1, 2]), torch.tensor([2, 3]))

    drops = torch.tensor([-0.5, 0.3, 1.0, 0.1], dtype=torch.float64, requires_grad=True)
    assert gradcheck(everything, drops)


def network(channels: int) -> Callable[[Tensor, Tensor], Tensor]:
    def call(x: Tensor, t: Tensor) -> Tensor:
        level = t.reshape(-1, 1, 1, 1) / 6
        return torch.cat([torch.tanh(x) * level] * channels, dim=1)

    return call


def diffusion(prediction: str, **options: str) -> GaussianDiffusion:
    return GaussianDiffusion(
        Schedule.cosine(6).with_zero_terminal_snr(),
        prediction,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("variance", ["posterior", "beta", "learned_range", "learned_sigmoid"])
def test_loss_and_sampling_are_finite(prediction: str, variance: str) -> None:
    process = diffusion(prediction, variance=variance)
    model = network(1 if process.learned == "none" else 2)
    key = Key.of(3, range(6))
    x, t = torch.linspace(-1, 1, 96).reshape(6, 1, 4, 4), torch.arange(1, 7)
    gain = torch.ones(6, 1, 1, 1, requires_grad=True)
    losses = process.training_losses(lambda *given: model(*given) * gain, x, t, key=key)
    (gradient,) = torch.autograd.grad(losses.sum(), gain)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[-1] != 0
    noisy, again = (process.q_sample(clean, t, key=key) for clean in (x, x + 1))
    # Nothing of the image is left at the last level, and something of it everywhere else.
    assert torch.equal(noisy[-1], again[-1])
    assert not noisy[:-1].isclose(again[:-1]).any()
    for steps in (1, 3, 6):
        drawn = process.p_sample_loop(model, (2, 1, 4, 4), seed=1, steps=steps)
        assert drawn.isfinite().all()
        assert process.ddim_sample_loop(
            model, (2, 1, 4, 4), seed=1, steps=steps, eta=0.5
        ).isfinite().all()  # fmt: skip


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("weighting", ["snr_drop", "min_snr", "p2", "truncated"])
def test_weighted_losses_are_finite(prediction: str, weighting: str) -> None:
    process, t = diffusion(prediction, weighting=weighting), torch.arange(1, 7)
    x = torch.linspace(-1, 1, 96).reshape(6, 1, 4, 4)
    losses = process.training_losses(network(1), x, t, key=Key.of(1, range(6)))
    assert losses.isfinite().all()
    assert (losses >= 0).all()


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_solvers_and_the_bound_are_finite(prediction: str) -> None:
    process, shape = diffusion(prediction), (2, 1, 4, 4)
    for table in (dpm_solver_table, heun_table):
        steps = table(process.schedule, process.prediction, trailing(6, 4))
        assert process.sample_loop(network(1), shape, steps, seed=1).isfinite().all()
    x = torch.zeros(shape)
    assert prior_bits(process, x + 1) == 0
    terms = list(calc_bpd_loop(process, network(1), x, levels=17, decoder_std=0.1))
    assert all(math.isfinite(bits) for _, bits in terms)


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_predictions_that_need_a_signal_are_refused(prediction: str) -> None:
    with pytest.raises(ValueError, match="zero terminal SNR"):
        diffusion(prediction)
