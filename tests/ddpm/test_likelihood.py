import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from ddpm import likelihood
from ddpm.diffusion import GaussianDiffusion
from ddpm.likelihood import Bound, calc_bpd_loop, collect, fit_decoder_std, prior_bits
from ddpm.predictions import x0_coefficients
from ddpm.reference import philox
from ddpm.reference.chain import Chain
from ddpm.reference.decoder import decoder_log_likelihood, grey_levels
from ddpm.reference.elbo import bound_terms
from ddpm.reference.gaussian import kl_isotropic
from ddpm.reference.posterior import posterior_coefficients
from ddpm.schedule import Schedule
from ddpm.verify.oracles import quad_kl
from ddpm.verify.strategies import Array, generators, moderate_betas, seeds

EVALUATION_NOISE = 7
GREYS = grey_levels(5)
CHANCES = np.array([0.1, 0.3, 0.15, 0.05, 0.4])
ENTROPY = float(-(CHANCES * np.log2(CHANCES)).sum())
DEVIATION = 0.08


def posterior_mean(x: Array, signal: float, noise: float) -> Array:
    """E[x_0 | x_t] of one pixel whose grey level has the chances above, by Bayes' rule."""
    score = np.log(CHANCES) - (x[..., None] - signal * GREYS) ** 2 / (2 * noise)
    weight = np.exp(score - score.max(-1, keepdims=True))
    return np.asarray((weight * GREYS).sum(-1) / weight.sum(-1))


def exact_network(diffusion: GaussianDiffusion) -> Callable[..., Tensor]:
    """The best possible network for these pixels, whatever it predicts."""
    alpha_bar = diffusion.schedule.alpha_bar

    def network(x: Tensor, t: Tensor) -> Tensor:
        signal, wide = float(alpha_bar[t[0]].sqrt()), x.double()
        clean = torch.tensor(posterior_mean(wide.numpy(), signal, 1 - signal**2))
        k_x, k_out = x0_coefficients(diffusion.schedule, diffusion.prediction, t[:1])
        return ((clean - k_x * wide) / k_out).float()

    return network


def averages(chain: Chain, t: int, term: Callable[[Array, Array], Array]) -> tuple[float, float]:
    """Mean and variance in bits of a function of (x_0, estimate), over pixels and their noise."""
    z, step = np.linspace(-9, 9, 6001, retstep=True)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * step
    clean = np.repeat(GREYS[:, None], z.size, axis=1)
    signal, noise = float(chain.c[t]), float(chain.one_minus_alpha_bar[t])
    value = term(clean, posterior_mean(signal * clean + math.sqrt(noise) * z, signal, noise))
    first, second = (float(CHANCES @ (value / math.log(2)) ** n @ density) for n in (1, 2))
    return first, second - first**2


def exact_terms(chain: Chain) -> dict[int, tuple[float, float]]:
    """Every term of the bound by quadrature: the decoder at 1, divergences of normal laws above."""

    def kl(t: int) -> Callable[[Array, Array], Array]:
        a, _, s2 = posterior_coefficients(chain, t - 1, t)
        return lambda x, guess: kl_isotropic(a * x[..., None], s2, a * guess[..., None], s2)

    def decoder(x: Array, guess: Array) -> Array:
        return -decoder_log_likelihood(x, guess, DEVIATION, 5)

    terms = {t: averages(chain, t, kl(t)) for t in range(2, chain.steps + 1)}
    return terms | {1: averages(chain, 1, decoder)}


def pixels(count: int) -> Tensor:
    return torch.tensor(np.repeat(GREYS, (CHANCES * count).round().astype(int))[:, None]).float()


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_terms_of_the_exact_network_against_quadrature(prediction: str) -> None:
    diffusion = GaussianDiffusion(Schedule.log_snr_linear(6, 6.0, -6.0), prediction)
    want, count = exact_terms(Chain(diffusion.schedule.beta[1:].numpy())), 20_000
    network = exact_network(diffusion)
    terms = calc_bpd_loop(diffusion, network, pixels(count), levels=5, decoder_std=DEVIATION)
    seen = []
    for t, bits in terms:
        mean, variance = want[t]
        # Every pixel value has its exact share, so that the mean varies less than this.
        assert abs(bits - mean) < 4.5 * math.sqrt(variance / count) + 1e-6
        seen.append(t)
    assert seen == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("variance", ["beta", "learned", "learned_sigmoid"])
def test_terms_of_other_variances_against_quadrature(variance: Any) -> None:
    """Both laws are integrated: their variances differ, and so may their means."""
    schedule, raw, count = Schedule.log_snr_linear(4, 4.0, -4.0), 0.4, 20_000
    learned = variance != "beta"
    diffusion = GaussianDiffusion(schedule, "x0", variance, grey_levels=5)
    plain = GaussianDiffusion(schedule, "x0")

    def network(x: Tensor, t: Tensor) -> Tensor:
        guess = exact_network(plain)(x, t)
        return torch.cat([guess, torch.full_like(guess, raw)], dim=1) if learned else guess

    chain = Chain(schedule.beta[1:].numpy())
    std = float(schedule.sigma[1]) if not learned else None
    got = dict(calc_bpd_loop(diffusion, network, pixels(count), levels=5, decoder_std=std))
    for t in (2, 4):
        a, _, s2 = posterior_coefficients(chain, t - 1, t)
        beta, share = float(schedule.beta[t]), 1 / (1 + math.exp(-raw))
        chosen = {
            "beta": beta,
            "learned": beta**raw * s2 ** (1 - raw),
            "learned_sigmoid": s2 + share * (beta - s2),
        }[variance]

        def kl(x: Array, guess: Array, a: Array = a, s2: Array = s2, p: float = chosen) -> Array:
            return kl_isotropic(a * x[..., None], s2, a * guess[..., None], p)

        mean, spread = averages(chain, t, kl)
        assert abs(got[t] - mean) < 4.5 * math.sqrt(spread / count) + 1e-6
    if learned:
        reverse = diffusion.p_mean_variance(network, torch.zeros(1, 1), torch.tensor([1]))
        deviation = float(reverse.variance.sqrt())
        mean, spread = averages(
            chain, 1, lambda x, guess: -decoder_log_likelihood(x, guess, deviation, 5)
        )
        assert abs(got[1] - mean) < 4.5 * math.sqrt(spread / count) + 1e-6


def test_fixed_variance_needs_a_deviation_and_a_learned_one_has_it() -> None:
    diffusion = GaussianDiffusion(Schedule.cosine(3), "x0")
    with pytest.raises(ValueError, match="std = None: allowed with a fixed variance"):
        list(calc_bpd_loop(diffusion, lambda x, _: x, pixels(20), levels=5, decoder_std=None))
    learned = GaussianDiffusion(Schedule.cosine(3), "x0", "learned")
    assert fit_decoder_std(learned, lambda x, _: x, pixels(20), levels=5, seed=0) is None


def test_labels_reach_the_network_with_their_images() -> None:
    diffusion, x0 = GaussianDiffusion(Schedule.cosine(3), "x0"), torch.rand(300, 1) * 2 - 1
    seen: list[Tensor] = []

    def network(x: Tensor, _: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return x

    list(calc_bpd_loop(diffusion, network, x0, levels=5, decoder_std=0.1, labels=torch.arange(300)))
    assert torch.equal(torch.cat(seen), torch.arange(300).repeat(3))


def test_bound_lies_above_the_truth_and_closes_in() -> None:
    gaps = []
    for steps in (2, 8, 32, 96):
        diffusion = GaussianDiffusion(Schedule.log_snr_linear(steps), "x0")
        x0, network = pixels(2000), exact_network(diffusion)
        terms = diffusion.calc_bpd_loop(network, x0, levels=5, decoder_std=DEVIATION, seed=steps)
        gaps.append(collect(prior_bits(diffusion, x0), list(terms)).total - ENTROPY)
        means, variances = zip(
            *exact_terms(Chain(diffusion.schedule.beta[1:].numpy())).values(), strict=True
        )
        assert sum(means) > ENTROPY
        # Noise is independent between levels and every pixel value has its exact share, so that
        # the variances of the terms add up to no more than this.
        assert abs(gaps[-1] + ENTROPY - sum(means)) < 0.001 + 4.5 * (sum(variances) / 2000) ** 0.5
    # The gap is of the order of 1 / T.
    assert all(0 < 2.5 * later < gap for gap, later in pairwise(gaps))
    assert gaps[0] > 1


@settings(max_examples=30)
@given(moderate_betas(), generators(), seeds(), st.sampled_from(["x0", "eps", "v"]))
def test_every_draw_against_the_reference(
    betas: Array, rng: np.random.Generator, seed: int, prediction: str
) -> None:
    diffusion, chain = (
        GaussianDiffusion(Schedule.from_betas(betas.tolist()), prediction),
        Chain(betas),
    )
    x0 = rng.choice(GREYS, size=(3, 4))
    noise = np.stack(
        [
            philox.normals(seed, EVALUATION_NOISE, t, np.arange(3), 4)
            for t in range(1, chain.steps + 1)
        ]
    )

    def denoise(x_t: Array, t: int) -> Array:
        return posterior_mean(x_t, float(chain.c[t]), float(chain.one_minus_alpha_bar[t]))

    want = bound_terms(x0, chain, denoise, noise, 0.3, 5)
    images = torch.tensor(x0, dtype=torch.float32)
    got = calc_bpd_loop(
        diffusion, exact_network(diffusion), images, levels=5, decoder_std=0.3, seed=seed
    )
    bound = collect(prior_bits(diffusion, images), list(got))
    scale = 4 * math.log(2)
    # Estimates are float32 and off by 1e-5 where an eps is divided by a signal of 1/16.
    close = partial(pytest.approx, rel=1e-3, abs=1e-5)
    assert bound.prior == pytest.approx(want.prior.mean() / scale, rel=1e-6, abs=1e-9)
    assert bound.kl[2:].tolist() == close((want.kls.mean(1) / scale).tolist())
    assert bound.decoder == close(want.decoder.mean() / scale)
    assert bound.total == close(want.total.mean() / scale)


@given(moderate_betas(), generators())
def test_prior_against_quadrature(betas: Array, rng: np.random.Generator) -> None:
    x0 = rng.uniform(-1, 1, size=(1, 2))
    chain, diffusion = Chain(betas), GaussianDiffusion(Schedule.from_betas(betas.tolist()))
    signal, sigma = float(chain.c[-1]), float(chain.d[-1])
    nats = [quad_kl(signal * x, sigma, 0.0, 1.0) for x in x0[0]]
    got = prior_bits(diffusion, torch.tensor(x0))
    assert got == pytest.approx(np.mean(nats) / math.log(2), rel=1e-6, abs=1e-8)


def test_prior_without_signal_is_zero() -> None:
    diffusion = GaussianDiffusion(Schedule.from_betas([0.5, 1.0]), "v")
    assert prior_bits(diffusion, torch.ones(2, 3)) == 0


def test_terms_do_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    diffusion, x0 = GaussianDiffusion(Schedule.cosine(4), "v"), pixels(40)

    def terms(seed: int) -> list[tuple[int, float]]:
        network = exact_network(diffusion)
        return list(calc_bpd_loop(diffusion, network, x0, levels=5, decoder_std=0.3, seed=seed))

    whole, other = terms(3), terms(4)
    monkeypatch.setattr(likelihood, "BATCH", 7)
    assert terms(3) == whole
    assert all(a != b for (_, a), (_, b) in zip(whole, other, strict=True))


@settings(max_examples=20)
@given(st.floats(0.2, 2.5), generators())
def test_decoder_deviation_is_the_most_likely(factor: float, rng: np.random.Generator) -> None:
    diffusion = GaussianDiffusion(Schedule.log_snr_linear(5, 4.0, -4.0), "x0")
    residual = factor * float(diffusion.schedule.sigma[1]) * rng.normal(size=(50, 4))
    guess = torch.tensor(residual, dtype=torch.float32)
    got = fit_decoder_std(diffusion, lambda *_: guess, torch.zeros_like(guess), levels=257, seed=1)

    def loss(log_std: float) -> float:
        return -float(decoder_log_likelihood(0.0, residual, math.exp(log_std), 257).mean())

    best = optimize.minimize_scalar(loss, bounds=(-8, 2), method="bounded").x
    assert got is not None
    assert abs(math.log(got) - best) < math.log(1.04)


def test_collecting_terms() -> None:
    bound = collect(0.5, [(3, 1.0), (2, 2.0), (1, 4.0)])
    assert (bound.prior, bound.decoder, bound.total) == (0.5, 4.0, 7.5)
    assert bound.kl.dtype == torch.float64
    assert bound.kl.tolist() == [0, 0, 2, 1]
    assert collect(0.0, [(1, 3.0)]).total == 3
    assert Bound(1.0, torch.tensor([2.0, 3.0]), 4.0).total == 10
