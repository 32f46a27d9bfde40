from typing import get_args

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.predictions import TRAINABLE
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.posterior import posterior_coefficients, posterior_mean_variance
from ddpm.reference.variances import model_variance, optimal_variance, sigmoid_variance
from ddpm.samplers.variances import LearnedVariance
from ddpm.schedule import Schedule
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.strategies import Array, generators, level_pairs, moderate_betas, seeds, shapes
from tests.tolerances import tolerance

FLOAT32 = tolerance("float32", "cpu")
TRAINING_NOISE = 2
LEARNED: st.SearchStrategy[LearnedVariance] = st.sampled_from(get_args(LearnedVariance))
TRAINED = st.sampled_from(TRAINABLE)
LENGTHS = shapes(max_dims=2, min_batch=1)


def process(betas: Array, prediction: str = "eps") -> GaussianDiffusion:
    return GaussianDiffusion(Schedule.from_betas(betas.tolist()), prediction)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(rng.normal(size=shape), dtype=torch.float32)


def levels(rng: np.random.Generator, batch: int, steps: int, lowest: int = 1) -> Tensor:
    return torch.tensor(rng.integers(lowest, steps + 1, size=batch))


def column(values: Array, like: Tensor) -> Array:
    return values.reshape(-1, *[1] * (like.dim() - 1))


def close(got: Tensor, want: Array, factor: float = 1.0) -> None:
    assert got.dtype == torch.float32
    np.testing.assert_allclose(
        got.detach().double(), want, rtol=factor * FLOAT32.rtol, atol=factor * FLOAT32.atol
    )


@settings(max_examples=50)
@given(moderate_betas(), generators(), LENGTHS)
def test_noising(betas: Array, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x0, noise = normal(rng, shape), normal(rng, shape)
    t = levels(rng, shape[0], len(betas), lowest=0)
    covariance = joint_covariance(betas)
    law = [condition(covariance, int(i), [0]) if i else (np.ones(1), 0.0) for i in t]
    mean = column(np.array([float(weights[0]) for weights, _ in law]), x0) * x0.double().numpy()
    variance = column(np.array([rest for _, rest in law]), x0)
    got = process(betas).q_mean_variance(x0, t)
    close(got.mean, mean)
    close(got.variance, variance)
    x_t = process(betas).q_sample(x0, t, noise)
    close(x_t, mean + np.sqrt(np.maximum(variance, 0)) * noise.double().numpy())


@given(moderate_betas(), generators(), LENGTHS, seeds(), st.integers(0, 2**32 - 1))
def test_drawn_noise_is_noise_given(
    betas: Array, rng: np.random.Generator, shape: tuple[int, ...], seed: int, step: int
) -> None:
    x0, t = normal(rng, shape), levels(rng, shape[0], len(betas), lowest=0)
    samples = rng.integers(0, 2**56, size=shape[0])
    key = Key.of(seed, samples.tolist(), step)
    size = int(np.prod(shape[1:]))
    noise = philox.normals(seed, TRAINING_NOISE, step, samples, size).reshape(shape)
    given_noise = process(betas).q_sample(x0, t, torch.tensor(noise, dtype=torch.float32))
    close(process(betas).q_sample(x0, t, key=key), given_noise.double().numpy())


@settings(max_examples=20)
@given(moderate_betas(), generators(), seeds())
def test_a_sample_does_not_see_its_batch(betas: Array, rng: np.random.Generator, seed: int) -> None:
    x0, t, diffusion = normal(rng, (9, 3)), levels(rng, 9, len(betas)), process(betas)
    together = diffusion.q_sample(x0, t, key=Key.of(seed, range(9)))
    losses = diffusion.training_losses(lambda x, _: x, x0, t, key=Key.of(seed, range(9)))
    for i in range(9):
        one = slice(i, i + 1)
        key = Key.of(seed, [i])
        assert torch.equal(diffusion.q_sample(x0[one], t[one], key=key), together[one])
        loss = diffusion.training_losses(lambda x, _: x, x0[one], t[one], key=key)
        assert torch.equal(loss, losses[one])


@given(st.data(), moderate_betas(), generators(), LENGTHS)
def test_posterior_against_the_reference(
    data: st.DataObject, betas: Array, rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    x0, x_t, diffusion = normal(rng, shape), normal(rng, shape), process(betas)
    pair = data.draw(level_pairs(len(betas)))[::-1]
    t, s = (torch.full((shape[0],), level) for level in pair)
    got = diffusion.q_posterior_mean_variance(x0, x_t, t, s)
    mean, variance = posterior_mean_variance(
        Chain(betas), s.numpy(), t.numpy(), x0.double().numpy(), x_t.double().numpy()
    )
    close(got.mean, mean)
    close(got.variance.flatten(), variance)
    t = levels(rng, shape[0], len(betas))
    one = diffusion.q_posterior_mean_variance(x0, x_t, t)
    assert torch.equal(one.mean, diffusion.q_posterior_mean_variance(x0, x_t, t, t - 1).mean)


@given(moderate_betas(), generators(), st.sampled_from(["posterior", "beta"]), st.booleans())
def test_reverse_step_clips_before_the_mean(
    betas: Array, rng: np.random.Generator, variance: str, clip: bool
) -> None:
    schedule, chain = Schedule.from_betas(betas.tolist()), Chain(betas)
    diffusion = GaussianDiffusion(schedule, "x0", variance)  # type: ignore[arg-type]
    x, t, guess = normal(rng, (4, 5)), levels(rng, 4, len(betas)), 2 * normal(rng, (4, 5))
    got = diffusion.p_mean_variance(lambda _, __: guess, x, t, clip_denoised=clip)
    s = t.numpy() - 1
    clean = guess.double().numpy().clip(-1, 1) if clip else guess.double().numpy()
    mean, _ = posterior_mean_variance(chain, s, t.numpy(), clean, x.double().numpy())
    close(got.pred_xstart, clean)
    close(got.mean, mean)
    want = model_variance(chain, s, t.numpy(), variance)  # type: ignore[arg-type]
    close(got.variance.flatten(), want)
    target = torch.zeros_like(t)
    last = diffusion.p_mean_variance(lambda _, __: guess, x, t, target, clip_denoised=clip)
    close(last.mean, clean)


@settings(max_examples=40)
@given(st.data(), moderate_betas(), generators(), st.booleans())
def test_reverse_step_with_a_learned_variance(
    data: st.DataObject, betas: Array, rng: np.random.Generator, single: bool
) -> None:
    variance = data.draw(LEARNED)
    schedule, chain = Schedule.from_betas(betas.tolist()), Chain(betas)
    diffusion = GaussianDiffusion(schedule, "x0", variance)
    x, output, t = normal(rng, (4, 2, 3)), normal(rng, (4, 4, 3)), levels(rng, 4, len(betas))
    s = t - 1 if single else torch.tensor(rng.integers(0, t.numpy()))
    got = diffusion.p_mean_variance(lambda *_: output, x, t, None if single else s)
    clean, raw = (part.double().numpy() for part in output.chunk(2, dim=1))
    mean, _ = posterior_mean_variance(chain, s.numpy(), t.numpy(), clean.clip(-1, 1), x.numpy())
    close(got.pred_xstart, clean.clip(-1, 1))
    close(got.mean, mean)
    assert got.variance.shape == x.shape
    for i in range(4):
        high, low = int(t[i]), int(s[i])
        if variance == "learned_sigmoid":
            want = sigmoid_variance(chain, low, high, raw[i : i + 1])
        else:
            share = (raw[i] + 1) / 2 if variance == "learned_range" else raw[i]
            # Where the posterior has no variance, that of the step to level 1 stands in for it.
            several = len(betas) > 1
            smallest = (
                float(posterior_coefficients(chain, max(1, low), max(2, high)).s2)
                if several
                else 0.0
            )
            largest = float(chain.beta(low, high))
            want = largest**share * (smallest or largest) ** (1 - share)
        # An exponential of twice a float32 number of up to 20.
        np.testing.assert_allclose(got.variance[i].double().numpy(), want.reshape(2, 3), rtol=2e-5)


@settings(max_examples=30)
@given(moderate_betas(), generators())
def test_reverse_step_with_the_best_constant(betas: Array, rng: np.random.Generator) -> None:
    chain, error = Chain(betas), rng.uniform(0, 2, size=len(betas) + 1)
    diffusion = GaussianDiffusion(
        Schedule.from_betas(betas.tolist()), "x0", "optimal", error=torch.tensor(error)
    )
    x, t = normal(rng, (4, 5)), levels(rng, 4, len(betas))
    got = diffusion.p_mean_variance(lambda *_: x, x, t)
    want = optimal_variance(chain, t.numpy() - 1, t.numpy(), error[t.numpy()])
    close(got.variance.flatten(), want)


@given(moderate_betas(), generators())
def test_predict_xstart(betas: Array, rng: np.random.Generator) -> None:
    x0, noise, t = normal(rng, (4, 2)), normal(rng, (4, 2)), levels(rng, 4, len(betas))
    diffusion = process(betas)
    x_t = diffusion.q_sample(x0, t, noise)
    # Dividing by a signal of down to 1/16 multiplies the error of x_t.
    close(diffusion.predict_xstart(noise, x_t, t), x0.double().numpy(), factor=64)


@settings(max_examples=30)
@given(moderate_betas(), generators(), TRAINED, shapes(max_dims=2, min_batch=1), st.booleans())
def test_losses_and_their_gradient(
    betas: Array,
    rng: np.random.Generator,
    prediction: str,
    shape: tuple[int, ...],
    drawn: bool,
) -> None:
    shape = tuple(max(1, length) for length in shape)
    diffusion, t = process(betas, prediction), levels(rng, shape[0], len(betas))
    x0, noise, weight = normal(rng, shape), normal(rng, shape), normal(rng, shape[:1]).abs()
    key = Key.of(5, range(shape[0]), 7) if drawn else None
    if drawn:
        wide = philox.normals(5, TRAINING_NOISE, 7, np.arange(shape[0]), noise[0].numel())
        noise = torch.tensor(wide.reshape(shape), dtype=torch.float32)
    gain = torch.tensor(0.5, requires_grad=True)
    got = diffusion.training_losses(
        lambda x, _, shift: gain * x + shift,
        x0,
        t,
        None if drawn else noise,
        key=key,
        weight=weight,
        shift=torch.tensor(0.1),
    )
    signal = column(np.sqrt(Chain(betas).alpha_bar[t.numpy()]), x0)
    sigma = np.sqrt(1 - signal**2)
    clean, eps = x0.double().numpy(), noise.double().numpy()
    x_t = signal * clean + sigma * eps
    target = {"eps": eps, "x0": clean, "v": signal * eps - sigma * clean, "score": -eps / sigma}[
        prediction
    ]
    error = 0.5 * x_t + np.float32(0.1) - target
    axes = tuple(range(1, x0.dim()))
    factor = weight.double().numpy()
    # A mean of squares: twice the relative error of the terms, which are sums of numbers near 1.
    close(got, factor * (error**2).mean(axis=axes), factor=20)
    (gradient,) = torch.autograd.grad(got.sum(), gain)
    want = (factor * (2 * error * x_t).mean(axis=axes)).sum()
    scale = (factor * (2 * np.abs(error * x_t)).mean(axis=axes)).sum()
    assert abs(float(gradient) - want) <= 20 * FLOAT32.rtol * (1 + scale)


def test_weights_are_one_by_default() -> None:
    diffusion, x0, t = process(np.array([0.1, 0.2])), torch.ones(2, 3), torch.tensor([1, 2])
    first, second = (
        diffusion.training_losses(lambda x, _: 2 * x, x0, t, key=Key.of(1, range(2)), weight=w)
        for w in (None, torch.ones(2))
    )
    assert torch.equal(first, second)


def test_tables_are_copied_once() -> None:
    diffusion = process(np.array([0.1, 0.2]))
    signal, sigma = diffusion.tables(torch.device("cpu"))
    assert torch.equal(signal, diffusion.schedule.signal)
    assert torch.equal(sigma, diffusion.schedule.sigma)
    assert diffusion.tables(torch.device("cpu"))[0] is signal
