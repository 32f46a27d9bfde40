from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.ddim import ddim_step
from ddpm.reference.posterior import posterior_coefficients
from ddpm.reference.sampling import ancestral_step
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.samplers.variances import FixedVariance
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, moderate_betas, seeds
from tests.ddpm.exact import SAMPLING_NOISE, exact_network, gain, initial

PREDICTIONS = st.sampled_from(["eps", "x0", "v", "score"])
VARIANCES = st.sampled_from(["posterior", "beta"])
# The chain forgets errors of early steps; k_out of up to 16 and a dozen roundings of 6e-8 remain.
FLOAT32_CHAIN = 1e-4


@settings(max_examples=40)
@given(st.data(), moderate_betas(), PREDICTIONS, VARIANCES, seeds(), st.booleans())
def test_every_picture_against_a_float64_sampler(
    data: st.DataObject,
    betas: Array,
    prediction: str,
    variance: FixedVariance,
    seed: int,
    clip: bool,
) -> None:
    steps = data.draw(st.integers(1, len(betas)))
    eta = data.draw(st.sampled_from([None, 0.0, 0.5, 1.0]))
    diffusion = GaussianDiffusion(Schedule.from_betas(betas.tolist()), prediction, variance)
    chain, samples, levels = Chain(betas), np.array([3, 2**40, 0]), trailing(len(betas), steps)
    network = exact_network(diffusion, 0.3, 0.7)
    loop = diffusion.p_sample_loop
    if eta is not None:
        loop = partial(diffusion.ddim_sample_loop, eta=eta)
    got = loop(
        network, (3, 5), seed=seed, samples=samples.tolist(), steps=steps, clip_denoised=clip
    )
    x = initial(seed, samples, 5)
    for t, s in pairwise(levels):
        z = philox.normals(seed, SAMPLING_NOISE, t, samples, 5)
        weight = gain(chain.c[t], chain.one_minus_alpha_bar[t], 0.7)
        clean = 0.3 + weight * (x - chain.c[t] * 0.3)
        clean = clean.clip(-1, 1) if clip else clean
        if eta is None:
            x = ancestral_step(chain, s, t, x, clean, z, variance)
        else:
            x = ddim_step(chain, s, t, x, clean, z, eta)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, x, rtol=FLOAT32_CHAIN, atol=FLOAT32_CHAIN)


def output_law(chain: Chain, steps: list[int], mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of the ancestral sampler's output: the affine recursion of a normal law."""
    t, s = np.array(steps[:-1]), np.array(steps[1:])
    a, b, s2 = posterior_coefficients(chain, s, t)
    weight = gain(chain.c[t], chain.one_minus_alpha_bar[t], variance)
    slope, shift = a * weight + b, a * mean * (1 - weight * chain.c[t])
    centre, spread = 0.0, 1.0
    for k, c, v in zip(slope.tolist(), shift.tolist(), s2.tolist(), strict=True):
        centre, spread = c + k * centre, v + k**2 * spread
    return centre, spread


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("steps", [3, 20])
def test_distribution_of_the_output(prediction: str, steps: int) -> None:
    schedule, count = Schedule.cosine(20), 20_000
    diffusion = GaussianDiffusion(schedule, prediction)
    network = exact_network(diffusion, 0.4, 0.25)
    got = diffusion.p_sample_loop(
        network, (count, 1), seed=8, steps=steps, clip_denoised=False
    ).double()
    chain = Chain(schedule.beta[1:].numpy())
    mean, variance = output_law(chain, trailing(20, steps), 0.4, 0.25)
    # Four and a half standard errors of the mean and of the variance of a normal sample.
    assert abs(float(got.mean()) - mean) < 4.5 * (variance / count) ** 0.5
    assert abs(float(got.var()) / variance - 1) < 4.5 * (2 / count) ** 0.5


def test_many_steps_give_the_data_distribution() -> None:
    errors: list[float] = []
    for steps in (10, 100, 1000):
        chain = Chain(Schedule.log_snr_linear(steps).beta[1:].numpy())
        mean, variance = output_law(chain, trailing(steps), 0.4, 0.25)
        errors.append(abs(variance - 0.25))
        assert mean == pytest.approx(0.4, abs=0.01)
    assert errors[2] < 0.01 < errors[0]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("name", ["p_sample_loop", "ddim_sample_loop"])
def test_a_picture_does_not_depend_on_its_batch(name: str) -> None:
    diffusion = GaussianDiffusion(Schedule.log_snr_linear(7), "v")
    extra = {"eta": 0.8} if name.startswith("ddim") else {}
    loop = getattr(diffusion, name)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return 0.3 * x + t.reshape(-1, 1, 1) / 10

    whole = loop(network, (64, 3, 5), seed=4, **extra)
    for i in (0, 17, 63):
        alone = loop(network, (1, 3, 5), seed=4, samples=[i], **extra)
        assert torch.equal(alone[0], whole[i])
    assert torch.equal(loop(network, (64, 3, 5), seed=4, **extra), whole)
    other = loop(network, (64, 3, 5), seed=5, **extra)
    assert not any(torch.equal(a, b) for a, b in zip(whole, other, strict=True))
    assert len({tuple(picture.flatten().tolist()) for picture in whole}) == 64


@given(seeds(), st.lists(st.integers(0, 2**56 - 1), max_size=5), st.integers(1, 9))
def test_initial_noise(seed: int, samples: list[int], size: int) -> None:
    diffusion = GaussianDiffusion(Schedule.cosine(3))
    got = diffusion.initial_noise((len(samples), size), Key.of(seed, samples, step=9))
    want = initial(seed, np.array(samples, np.int64), size)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


def test_states_of_a_run() -> None:
    diffusion, key = GaussianDiffusion(Schedule.cosine(10), "x0"), Key.of(1, range(2))
    table = ddim_table(diffusion.schedule, "x0", [10, 4, 1, 0], 0.0)
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor, t: Tensor, shift: Tensor) -> Tensor:
        seen.append((*t.tolist(), int(shift)))
        return torch.zeros_like(x)

    x = diffusion.initial_noise((2, 3), key).requires_grad_()
    run = diffusion.sample_progressive(network, x, key, table, shift=torch.tensor(6))
    states = list(run)
    assert [(state.t, state.step, state.steps) for state in states] == [
        (4, 1, 3),
        (1, 2, 3),
        (0, 3, 3),
    ]
    assert seen == [(10, 10, 6), (4, 4, 6), (1, 1, 6)]
    assert not any(state.x.requires_grad for state in states)
    # With x_0 estimated as 0 only the noise of x_t is left, in the amount of the new level.
    want = x.detach() * (diffusion.schedule.sigma[4] / diffusion.schedule.sigma[10])
    torch.testing.assert_close(states[0].x, want)
    assert states[-1].x.eq(0).all()
