"""PriorGrad: the loss and the samplers are those of the reference, towards any prior."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.prior import Prior
from ddpm.prior_diffusion import PriorDiffusion, _Clipped
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.priorgrad import (
    mahalanobis_loss,
    prior_q_sample,
    prior_sample,
)
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.loop import Guidance
from ddpm.samplers.multistep import heun_table
from ddpm.samplers.variances import FixedVariance
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, generators, moderate_betas, seeds
from tests.ddpm.prior_examples import LABELS, SHAPE, flat, full, random_prior
from tests.devices.pretend import GPU, pretend_gpu

SAMPLING_NOISE, INITIAL_NOISE = 3, 4


@settings(max_examples=25)
@given(moderate_betas(), generators(), seeds())
def test_loss_is_that_of_priorgrad(betas: Array, rng: np.random.Generator, seed: int) -> None:
    diffusion, chain = GaussianDiffusion(Schedule.from_betas(betas.tolist())), Chain(betas)
    prior, count = random_prior(rng), 5
    oracle, samples = full(prior), np.array([3, 0, 2**40, 7, 1])
    x = torch.tensor(rng.uniform(-1, 1, (count, *SHAPE))).float()
    t = torch.tensor(rng.integers(1, chain.steps + 1, count))
    z = philox.normals(seed, 2, 5, samples, 4)
    z_t = prior_q_sample(chain, t.numpy(), flat(x), z, oracle)

    def network(y: Tensor, level: Tensor) -> Tensor:
        assert torch.equal(level, t)
        # What the network sees is the reference's centred sample with unit noise.
        np.testing.assert_allclose(flat(y), oracle.whitened(z_t), rtol=1e-4, atol=1e-4)
        return torch.tanh(y)

    key = Key.of(seed, samples.tolist(), 5)
    got = PriorDiffusion(prior).training_losses(diffusion, network, x, t, key=key)
    output = oracle.coloured(np.tanh(oracle.whitened(z_t)))
    want = mahalanobis_loss(oracle.coloured(z), output, oracle) / 4
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-5)
    weight = torch.linspace(0, 2, count)
    noise = torch.tensor(z).float().reshape(count, *SHAPE)
    again = PriorDiffusion(prior).training_losses(
        diffusion, network, x, t, noise, weight=weight
    )  # fmt: skip
    np.testing.assert_allclose(again, want * weight.numpy(), rtol=2e-4, atol=1e-5)


@settings(max_examples=20)
@given(
    moderate_betas(), generators(), seeds(), st.sampled_from(["eps", "x0", "v"]), st.booleans(),
    st.sampled_from(["posterior", "beta"]),
)  # fmt: skip
def test_a_whole_run_of_the_sampler(
    betas: Array,
    rng: np.random.Generator,
    seed: int,
    prediction: str,
    clip: bool,
    variance: FixedVariance,
) -> None:
    schedule, chain = Schedule.from_betas(betas.tolist()), Chain(betas)
    diffusion, prior = GaussianDiffusion(schedule, prediction, variance), random_prior(rng)
    oracle, samples, steps = full(prior), np.array([4, 2**33, 0]), len(betas)
    noise = np.stack(
        [philox.normals(seed, SAMPLING_NOISE, t, samples, 4) for t in range(1, steps + 1)]
        + [philox.normals(seed, INITIAL_NOISE, 0, samples, 4)]
    )

    def denoise(z: Array, t: int) -> Array:
        """Any estimate of x_0 - mean that leaves the images now and then."""
        clean = z / (1 + chain.one_minus_alpha_bar[t]) + 0.2 * np.sin(3 * z)
        low, high = -1 - oracle.mean, 1 - oracle.mean
        return np.asarray(clean.clip(low, high) if clip else clean)

    def network(y: Tensor, t: Tensor) -> Tensor:
        wide, std = y.double(), prior.std.double()
        z = wide * std
        noise_power = float(chain.one_minus_alpha_bar[int(t[0])])
        clean = (z / (1 + noise_power) + 0.2 * torch.sin(3 * z)) / std
        c, d = float(chain.c[int(t[0])]), float(chain.d[int(t[0])])
        outputs = {"x0": clean, "eps": (wide - c * clean) / d, "v": (c * wide - clean) / d}
        return outputs[prediction].float()

    want = prior_sample(chain, denoise, range(steps, -1, -1), noise, oracle, variance)
    process, key = PriorDiffusion(prior), Key.of(seed, samples.tolist())
    x = process.initial((3, *SHAPE), key)
    np.testing.assert_allclose(flat(x), oracle.coloured(noise[-1]) + oracle.mean, atol=1e-5)
    table = ancestral_table(schedule, diffusion.prediction, range(steps, -1, -1), variance)
    seen = []
    for state in process.sample_progressive(
        diffusion, network, x, key, table, clip_denoised=clip
    ):  # fmt: skip
        x = state.x
        seen.append(state.t)
    assert seen == list(range(steps - 1, -1, -1))
    # An eps is divided by a signal of down to 1/16, and errors of early steps are forgotten.
    np.testing.assert_allclose(flat(x), want, rtol=1e-3, atol=1e-3)
    if clip:
        assert x.abs().max() <= 1 + 1e-5


def linear_network(y: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    shift = labels.reshape(-1, 1, 1, 1) / 3
    return torch.tanh(y + shift) * t.reshape(-1, 1, 1, 1) / 4


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, torch.tensor([0.5, 1.0, 4.0])])
def test_guidance_comes_before_the_clip(scale: float | Tensor, joint: bool) -> None:
    """Where the range is one for all pixels, it is what the fused steps do."""
    diffusion = GaussianDiffusion(Schedule.cosine(4))
    prior = Prior(torch.zeros(SHAPE), torch.ones(SHAPE))
    key, labels = Key.of(1, range(3)), torch.tensor([0, 1, 2])
    guidance = Guidance(scale, {"labels": torch.full((3,), 3)}, joint)
    table = ancestral_table(diffusion.schedule, "eps", [4, 3, 1, 0], "posterior")
    x = diffusion.initial_noise((3, *SHAPE), key)
    got = PriorDiffusion(prior).sample_progressive(
        diffusion, linear_network, x, key, table, guidance=guidance, labels=labels
    )
    want = diffusion.sample_progressive(
        linear_network, x, key, table, guidance=guidance, labels=labels
    )
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine.x, theirs.x, rtol=1e-5, atol=1e-5)
        assert (mine.t, mine.step, mine.steps) == (theirs.t, theirs.step, theirs.steps)


def test_other_samplers_and_learned_variances_keep_their_columns() -> None:
    """A solver reads the clean image of the row before, and raw values pass the clip by."""
    prior = Prior(torch.zeros(SHAPE), torch.ones(SHAPE))
    key, shape = Key.of(2, range(3)), (3, *SHAPE)
    solver = GaussianDiffusion(Schedule.cosine(6), "v")
    drawn = GaussianDiffusion(Schedule.cosine(6), "v", "learned_range")

    def twice(y: Tensor, t: Tensor) -> Tensor:
        return torch.cat([torch.tanh(2 * y), y / t.reshape(-1, 1, 1, 1)], dim=1)

    cases = [
        (
            solver,
            lambda y, t: twice(y, t)[:, :1].contiguous(),
            heun_table(solver.schedule, "v", [6, 4, 1, 0]),
        ),
        (drawn, twice, ancestral_table(drawn.schedule, "v", [6, 4, 1, 0], "learned_range")),
    ]
    for diffusion, network, table in cases:
        x = diffusion.initial_noise(shape, key)
        got = PriorDiffusion(prior).sample_progressive(diffusion, network, x, key, table)
        want = diffusion.sample_progressive(network, x, key, table)
        for mine, theirs in zip(got, want, strict=True):
            torch.testing.assert_close(mine.x, theirs.x, rtol=1e-5, atol=1e-5)


def test_a_prior_by_class_samples_each_image_under_its_own() -> None:
    diffusion, prior = (
        GaussianDiffusion(Schedule.cosine(3)),
        random_prior(np.random.default_rng(5), (3, *SHAPE)),
    )
    table = ancestral_table(diffusion.schedule, "eps", [3, 2, 1, 0], "posterior")

    def network(y: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(y) * t.reshape(-1, 1, 1, 1) / 3

    def run(chosen: Prior, samples: list[int], labels: Tensor | None) -> Tensor:
        process, key = PriorDiffusion(chosen), Key.of(4, samples)
        x = process.initial((len(samples), *SHAPE), key, labels)
        states = process.sample_progressive(
            diffusion, network, x, key, table, prior_labels=labels
        )  # fmt: skip
        return [state.x for state in states][-1]

    together = run(prior, list(range(5)), LABELS)
    t = torch.tensor([1, 2, 3, 1, 2])
    x = torch.linspace(-1, 1, 20).reshape(5, *SHAPE)
    losses = PriorDiffusion(prior).training_losses(
        diffusion, network, x, t, key=Key.of(4, range(5)), prior_labels=LABELS
    )
    for i, label in enumerate(LABELS.tolist()):
        alone = Prior(prior.mean[label], prior.std[label])
        torch.testing.assert_close(together[i], run(alone, [i], None)[0])
        one = slice(i, i + 1)
        loss = PriorDiffusion(alone).training_losses(
            diffusion, network, x[one], t[one], key=Key.of(4, [i])
        )
        torch.testing.assert_close(losses[one], loss)


def test_nothing_waits_for_the_device() -> None:
    diffusion, labels = GaussianDiffusion(Schedule.cosine(5)), LABELS.to(GPU)
    prior = Prior(*[torch.ones(3, *SHAPE)] * 2).to(GPU)
    x, t = torch.zeros(5, *SHAPE, device=GPU), torch.ones(5, dtype=torch.int64, device=GPU)
    key = Key.of(1, range(5), device=GPU)
    # Copied to the device before the first step.
    diffusion.tables(GPU)
    clipped = _Clipped(diffusion, lambda y, _: (y, None), None, x - 1, x + 1)
    with pretend_gpu() as launched:
        losses = PriorDiffusion(prior).training_losses(
            diffusion, lambda y, _: y, x, t, key=key, prior_labels=labels
        )
        assert losses.shape == (5,)
        assert len(launched) == 2
        assert prior.restore(clipped(x, t), labels).shape == x.shape
