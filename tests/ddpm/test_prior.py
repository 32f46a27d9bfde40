import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gmean
from torch import Tensor

from ddpm.data.images import to_float, to_levels
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.likelihood import collect, level_bits, prior_bits
from ddpm.prior import Prior, decoder_bits, fit_decoder_std
from ddpm.prior_diffusion import check_fixed
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.decoder import decoder_log_likelihood, grey_levels
from ddpm.reference.gaussian import kl_full
from ddpm.reference.priorgrad import (
    prior_posterior,
    prior_q_sample,
)
from ddpm.schedule import Schedule
from ddpm.verify.strategies import Array, generators, moderate_betas, seeds
from tests.ddpm.prior_examples import LABELS, SHAPE, flat, full, random_images, random_prior

EVALUATION_NOISE = 7


@given(generators(), st.integers(1, 40), st.sampled_from([2, 17, 256]), st.floats(0.1, 3))
def test_fit_against_numpy(rng: np.random.Generator, count: int, levels: int, floor: float) -> None:
    images = random_images(rng, count, levels)
    images[:, 0, 0, 0] = 1
    prior = Prior.fit(images, levels, floor)
    x, unit = 2 * images.numpy().astype(np.float64) / (levels - 1) - 1, 2 / (levels - 1)
    np.testing.assert_allclose(prior.mean, x.mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(prior.std, np.maximum(x.std(0), floor * unit), rtol=1e-6)
    assert float(prior.std[0, 0, 0]) == pytest.approx(floor * unit, rel=1e-6)
    assert prior.classes is None
    assert prior.widest == float(prior.std.max())
    assert prior.typical == pytest.approx(gmean(prior.std.numpy().ravel()), rel=1e-5)


def test_fit_of_more_images_than_are_summed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(np.random.default_rng(1), 23, 256)
    whole = Prior.fit(images, 256)
    monkeypatch.setattr("ddpm.prior.AT_A_TIME", 5)
    parts = Prior.fit(images, 256)
    assert torch.equal(whole.mean, parts.mean)
    assert torch.equal(whole.std, parts.std)


def test_fit_by_class_is_a_fit_of_each() -> None:
    images = random_images(np.random.default_rng(2), 5, 17)
    prior = Prior.fit_by_class(images, LABELS, 17, 0.5)
    assert prior.classes == 3
    for k in range(3):
        alone = Prior.fit(images[k == LABELS], 17, 0.5)
        assert torch.equal(prior.mean[k], alone.mean)
        assert torch.equal(prior.std[k], alone.std)
    x = to_float(images, 17)
    y, back = prior.whiten(x, LABELS), prior.restore(prior.whiten(x, LABELS), LABELS)
    assert torch.equal(to_levels(back, 17), images)
    for i, label in enumerate(LABELS.tolist()):
        alone = Prior(prior.mean[label], prior.std[label])
        assert torch.equal(y[i], alone.whiten(x[i : i + 1])[0])


@given(generators(), st.sampled_from([2, 17, 256]), st.floats(0.1, 3))
def test_every_grey_level_comes_back(rng: np.random.Generator, levels: int, floor: float) -> None:
    images = random_images(rng, 6, levels)
    prior = Prior.fit(images[:2], levels, floor)
    y = prior.whiten(to_float(images, levels))
    assert torch.equal(to_levels(prior.restore(y), levels), images)


def test_whitened_training_images_have_mean_zero_and_variance_one() -> None:
    images = random_images(np.random.default_rng(3), 50, 256)
    y = Prior.fit(images, 256).whiten(to_float(images, 256)).double()
    assert y.mean(0).abs().max() < 1e-6
    assert (y.var(0, correction=0) - 1).abs().max() < 1e-5


@settings(max_examples=30)
@given(moderate_betas(min_steps=2), generators(), seeds())
def test_divergences_are_those_of_the_original_images(
    betas: Array, rng: np.random.Generator, seed: int
) -> None:
    """The bound's terms of y against normal laws of x with the prior's covariance."""
    diffusion, chain = GaussianDiffusion(Schedule.from_betas(betas.tolist())), Chain(betas)
    prior = random_prior(rng)
    oracle, t = full(prior), int(rng.integers(2, chain.steps + 1))
    x = torch.tensor(rng.uniform(-1, 1, (2, *SHAPE))).float()

    def network(y: Tensor, _: Tensor) -> Tensor:
        return torch.tanh(y)

    z = philox.normals(seed, EVALUATION_NOISE, t, np.arange(2), 4)
    z_t, z0 = prior_q_sample(chain, t, flat(x), z, oracle), flat(x) - oracle.mean
    y_t = oracle.whitened(z_t)
    guess = oracle.coloured((y_t - chain.d[t] * np.tanh(y_t)) / chain.c[t])
    mean_q, spread = prior_posterior(chain, t - 1, t, z0, z_t, oracle)
    mean_p, _ = prior_posterior(chain, t - 1, t, guess, z_t, oracle)
    nats = [kl_full(mean_q[i], spread, mean_p[i], spread) for i in range(2)]
    got = level_bits(diffusion, network, prior.whiten(x), t, seed)
    assert got == pytest.approx(np.mean(nats) / 4 / math.log(2), rel=2e-3, abs=1e-6)
    start = [
        kl_full(
            chain.c[-1] * row, chain.one_minus_alpha_bar[-1] * oracle.covariance,
            np.zeros(4), oracle.covariance,
        )
        for row in z0
    ]  # fmt: skip
    bits = prior_bits(diffusion, prior.whiten(x))
    assert bits == pytest.approx(np.mean(start) / 4 / math.log(2), rel=1e-3, abs=1e-6)


@given(generators(), st.sampled_from([2, 5, 256]), st.floats(0.02, 2))
def test_decoder_against_the_reference(rng: np.random.Generator, levels: int, std: float) -> None:
    prior = random_prior(rng)
    x, y = rng.choice(grey_levels(levels), (3, *SHAPE)), rng.normal(size=(3, *SHAPE))
    y_mean = torch.tensor(y).float()
    got = decoder_bits(prior, y_mean, torch.tensor(x).float(), std, levels)
    wide = prior.std.double().numpy()
    mean = prior.mean.double().numpy() + wide * y_mean.double().numpy()
    want = decoder_log_likelihood(x, mean, std * wide, levels)
    # The grey levels are float32, and bins may lie a thousand deviations away.
    assert got == pytest.approx(-want.mean() / math.log(2), rel=1e-3, abs=1e-4)


def test_decoder_is_a_law_of_the_grey_levels() -> None:
    prior, rng = random_prior(np.random.default_rng(7), (2,)), np.random.default_rng(8)
    y = torch.tensor(rng.normal(size=(1, 2))).float()
    for pixel in range(2):
        alone = Prior(prior.mean[pixel : pixel + 1], prior.std[pixel : pixel + 1])
        bits = [
            decoder_bits(alone, y[:, pixel : pixel + 1], torch.tensor([[x]]).float(), 0.7, 5)
            for x in grey_levels(5)
        ]
        assert sum(2.0**-b for b in bits) == pytest.approx(1, abs=1e-6)


CHANCES = np.array([0.1, 0.3, 0.15, 0.05, 0.4])
ENTROPY = float(-(CHANCES * np.log2(CHANCES)).sum())


def exact_network(diffusion: GaussianDiffusion, prior: Prior) -> Callable[[Tensor, Tensor], Tensor]:
    """Noise predicted by the best network for a vector of such pixels, by Bayes' rule in x."""
    greys = torch.tensor(grey_levels(5))

    def network(y: Tensor, t: Tensor) -> Tensor:
        power = float(diffusion.schedule.alpha_bar[t[0]])
        c, d = math.sqrt(power), math.sqrt(1 - power)
        z = (y.double() * prior.std)[..., None] - c * (greys - prior.mean.double()[:, None])
        score = torch.tensor(CHANCES).log() - (z / (d * prior.std[:, None])).square() / 2
        clean = prior.whiten((score.softmax(-1) * greys).sum(-1))
        return ((y - c * clean) / d).float()

    return network


@pytest.mark.parametrize("stds", [(0.3, 1.0), (0.7, 0.7)])
def test_bound_of_the_exact_network_closes_in_on_the_entropy(stds: tuple[float, float]) -> None:
    """Bits/dim are those of the grey levels of x, whatever the prior: one bit too few is a bug."""
    prior = Prior(torch.tensor([0.3, -0.2]), torch.tensor(stds))
    counts = (CHANCES * 500).round().astype(int)
    pixels = torch.tensor(np.repeat(grey_levels(5), counts)).float()
    x = torch.stack([pixels, pixels.flip(0)], dim=1)
    gaps = []
    for steps in (16, 192):
        diffusion = GaussianDiffusion(Schedule.log_snr_linear(steps, 8.0, -8.0))
        network, y = exact_network(diffusion, prior), prior.whiten(x)
        key, level = Key.of(0, range(len(x)), 1), torch.ones(len(x), dtype=torch.int64)
        noise = normal(key.seed, key.step, key.sample, Stream.EVALUATION_NOISE, [2])
        y_1 = diffusion.q_sample(y, level, noise)
        y_mean = diffusion.predict_xstart(network(y_1, level), y_1, level)
        std = fit_decoder_std(prior, y_mean, x, float(diffusion.schedule.sigma[1]), 5)
        terms = [(t, level_bits(diffusion, network, y, t, 0)) for t in range(steps, 1, -1)]
        last = (1, decoder_bits(prior, y_mean, x, std, 5))
        gaps.append(collect(prior_bits(diffusion, y), [*terms, last]).total - ENTROPY)
    assert 0 < gaps[1] < gaps[0] / 6
    assert gaps[1] < 0.12


@settings(max_examples=20)
@given(generators(), st.floats(0.3, 2))
def test_decoder_deviation_is_the_most_likely(rng: np.random.Generator, truth: float) -> None:
    prior = random_prior(rng)
    y_mean = torch.tensor(truth * 0.1 * rng.normal(size=(200, *SHAPE))).float()
    x = prior.mean.expand(200, *SHAPE)
    # With ever finer grey levels the fit is that of a density: the root mean square.
    got = fit_decoder_std(prior, y_mean, x, 0.1, 65536)
    assert abs(math.log(got / float(y_mean.double().square().mean().sqrt()))) < math.log(1.04)


def test_tensors_come_back() -> None:
    prior = random_prior(np.random.default_rng(9))
    again = Prior.from_tensors(prior.tensors())
    assert torch.equal(again.mean, prior.mean)
    assert torch.equal(again.std, prior.std)
    assert torch.equal(prior.to("cpu").std, prior.std)
    with pytest.raises(FrozenInstanceError):
        prior.mean = prior.std  # type: ignore[misc]


ONE = torch.ones(SHAPE)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mean": ONE}, r"prior.safetensors: tensors = \['mean'\]: allowed is mean and std"),
        ({"mean": ONE, "std": ONE, "more": ONE}, "tensors = .*more"),
        ({"mean": ONE.double(), "std": ONE}, "prior.safetensors: mean: dtype = 'torch.float64'"),
        ({"mean": ONE, "std": ONE.half()}, "std: dtype = 'torch.float16'"),
        ({"mean": ONE * math.nan, "std": ONE}, "mean = 'not finite'"),
        ({"mean": ONE, "std": ONE * math.inf}, "std = 'not finite'"),
        ({"mean": ONE, "std": ONE - 1}, "std = 0.0: allowed is positive numbers"),
        ({"mean": ONE, "std": ONE[0]}, r"std: shape = \(2, 2\): allowed is \(1, 2, 2\)"),
        ({"mean": ONE[0, 0, 0], "std": ONE[0, 0, 0]}, r"mean: shape = \(\)"),
        ({"mean": ONE[:0], "std": ONE[:0]}, r"mean: shape = \(0, 2, 2\)"),
    ],
)
def test_tensors_that_are_no_prior(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Prior.from_tensors(tensors, "prior.safetensors")


IMAGES = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "levels", "floor", "message"),
    [
        (IMAGES.float(), 17, 1.0, "images: dtype = 'torch.float32': allowed is uint8"),
        (IMAGES[0], 17, 1.0, r"images: shape = \(1, 2, 2\)"),
        (IMAGES[:0], 17, 1.0, r"images: shape = \(0, 1, 2, 2\)"),
        (IMAGES + 17, 17, 1.0, "images: largest value = 17: allowed is 0 to 16"),
        (IMAGES, 1, 1.0, "grey_levels = 1: allowed is 2 to 256"),
        (IMAGES, 17, 0.0, "floor = 0.0: allowed is a positive number"),
        (IMAGES, 17, math.nan, "floor = nan"),
        (IMAGES, 17, math.inf, "floor = inf"),
    ],
)
def test_images_that_cannot_be_fitted(
    images: Tensor, levels: int, floor: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Prior.fit(images, levels, floor)
    with pytest.raises(InputError, match=message):
        Prior.fit_by_class(images, LABELS, levels, floor)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (LABELS.int(), None, "labels = .*torch.int32"),
        (LABELS[:3], None, r"labels = .*\(3,\).*allowed is int64 \(5,\)"),
        (LABELS - 1, None, r"labels = \(-1, 1\): allowed is 0 to 1"),
        (LABELS, 2, r"labels = \(0, 2\): allowed is 0 to 1"),
        (LABELS, 5, r"classes without images = \[3, 4\]"),
    ],
)
def test_labels_that_cannot_be_fitted(labels: Tensor, classes: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Prior.fit_by_class(IMAGES, labels, 17, classes=classes)


@pytest.mark.parametrize(
    ("prior", "x", "labels", "message"),
    [
        (Prior(ONE, ONE), torch.ones(3, 1, 2, 3), None, r"x has shape \(3, 1, 2, 3\).*\(B, 1"),
        (Prior(ONE, ONE), ONE, None, r"x has shape \(1, 2, 2\)"),
        (Prior(ONE, ONE), torch.ones(5, 1, 2, 2), LABELS, "labels are given"),
        (Prior(*[ONE.expand(3, 1, 2, 2)] * 2), torch.ones(5, 1, 2, 2), None, "labels = None"),
        (Prior(*[ONE.expand(3, 1, 2, 2)] * 2), torch.ones(5, 1, 2, 2), LABELS + 1, "0 to 2"),
        (Prior(*[ONE.expand(3, 1, 2, 2)] * 2), torch.ones(5, 1, 2, 2), LABELS - 1, "0 to 2"),
        (Prior(*[ONE.expand(3, 1, 2, 2)] * 2), torch.ones(4, 1, 2, 2), LABELS, r"\(5,\).*\(4,\)"),
    ],
)  # fmt: skip
def test_images_that_do_not_fit_a_prior(
    prior: Prior, x: Tensor, labels: Tensor | None, message: str
) -> None:
    for call in (prior.whiten, prior.restore):
        with pytest.raises(ValueError, match=message):
            call(x, labels)


def test_a_learned_variance_is_refused() -> None:
    diffusion: Any = GaussianDiffusion(Schedule.cosine(3), variance="learned_range")
    with pytest.raises(ValueError, match="variance = 'learned_range': allowed with a prior"):
        check_fixed(diffusion)
    check_fixed(GaussianDiffusion(Schedule.cosine(3)))
    with pytest.raises(ValueError, match="std = 0: allowed is a positive number"):
        decoder_bits(Prior(ONE, ONE), ONE[None], ONE[None], 0, 5)
