"""Exact answers of mixtures against SciPy's densities, finite differences and conditioning."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key
from ddpm.predictions import Prediction, x0_coefficients
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.levels import trailing
from ddpm.schedule import Schedule

SCHEDULE = Schedule.log_snr_linear(20, 6.0, -6.0)


def made(seed: int, components: int, dimensions: int) -> GaussianMixture:
    generator = np.random.default_rng(seed)
    factors = generator.normal(size=(components, dimensions, dimensions))
    weights = generator.uniform(0.2, 1.0, components)
    return GaussianMixture(
        torch.tensor(weights / weights.sum()),
        torch.tensor(generator.normal(size=(components, dimensions))),
        torch.tensor(0.3 * factors @ factors.transpose(0, 2, 1) + 0.05 * np.eye(dimensions)),
    )


def exact(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def density(mixture: GaussianMixture, x: np.ndarray, a: float, s: float) -> float:
    eye = np.eye(mixture.dimensions)
    parts = zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    return sum(
        float(w)
        * float(stats.multivariate_normal(a * m.numpy(), a * a * c.numpy() + s * s * eye).pdf(x))
        for w, m, c in parts
    )


MIXTURES = st.builds(made, st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
LEVELS = st.tuples(st.floats(0.05, 1.5), st.floats(0.1, 2.0))


@settings(max_examples=40)
@given(MIXTURES, LEVELS, st.integers(0, 1000))
def test_density_is_scipy_s_and_score_its_slope(
    mixture: GaussianMixture, level: tuple[float, float], seed: int
) -> None:
    a, s = level
    x = np.random.default_rng(seed).normal(size=mixture.dimensions)
    arguments = (exact(a), exact(s))
    got = mixture.log_density(torch.tensor(x)[None], *arguments)
    assert got.item() == pytest.approx(math.log(density(mixture, x, a, s)), rel=1e-9, abs=1e-9)
    score = mixture.score(torch.tensor(x)[None], *arguments)[0]
    for d in range(mixture.dimensions):
        step = 1e-5 * np.eye(mixture.dimensions)[d]
        ends = [math.log(density(mixture, x + sign * step, a, s)) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / 2e-5
        assert score[d].item() == pytest.approx(slope, rel=1e-5, abs=1e-5)


@settings(max_examples=25)
@given(st.builds(made, st.integers(0, 10_000), st.integers(1, 3), st.just(1)), LEVELS)
def test_posterior_is_the_integral_of_bayes(
    mixture: GaussianMixture, level: tuple[float, float]
) -> None:
    (a, s), x = level, 0.4

    grid = np.linspace(-12, 12, 48_001)
    joint = stats.norm(a * grid, s).pdf(x) * sum(
        float(w) * stats.norm(float(m), math.sqrt(float(c))).pdf(grid)
        for w, m, c in zip(
            mixture.weights, mixture.means[:, 0], mixture.covariances[:, 0, 0], strict=True
        )
    )
    mass, first, second = (integrate.simpson(joint * grid**power, x=grid) for power in range(3))
    law = mixture.posterior(torch.tensor([[x]]), exact(a), exact(s))
    assert law.mean.item() == pytest.approx(first / mass, rel=1e-6, abs=1e-7)
    assert law.trace.item() == pytest.approx(second / mass - (first / mass) ** 2, rel=1e-5)


@given(st.integers(0, 1000), st.integers(1, 5), LEVELS)
def test_posterior_of_one_component_conditions_the_joint_covariance(
    seed: int, dimensions: int, level: tuple[float, float]
) -> None:
    a, s = level
    mixture = made(seed, 1, dimensions)
    mean, cov = mixture.means[0].numpy(), mixture.covariances[0].numpy()
    x = np.linspace(-1, 1, dimensions)
    noisy = a * a * cov + s * s * np.eye(dimensions)
    gain = a * cov @ np.linalg.inv(noisy)
    law = mixture.posterior(torch.tensor(x)[None], exact(a), exact(s))
    np.testing.assert_allclose(law.mean[0], mean + gain @ (x - a * mean), rtol=1e-8, atol=1e-9)
    assert law.trace.item() == pytest.approx(np.trace(cov - a * gain @ cov), rel=1e-7)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score", "mean"])
def test_network_predicts_what_the_straight_line_turns_into_the_denoiser(
    prediction: Prediction,
) -> None:
    mixture, t = made(1, 3, 4), torch.tensor([1, 7, 20])
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).view(3, 1, 2, 2)
    k_x, k_out = (k.view(3, 1, 1, 1) for k in x0_coefficients(SCHEDULE, prediction, t))
    output = mixture.network(SCHEDULE, prediction)(x, t)
    signal, sigma = SCHEDULE.alpha_bar[t].sqrt(), SCHEDULE.one_minus_alpha_bar[t].sqrt()
    want = mixture.posterior(x, signal, sigma).mean.view(x.shape)
    torch.testing.assert_close(k_x * x + k_out * output, want, rtol=1e-9, atol=1e-9)
    half = mixture.network(SCHEDULE, prediction)(x.float(), t)
    assert half.dtype == torch.float32


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
def test_network_between_levels_is_that_of_a_schedule_which_has_the_level(
    prediction: Prediction,
) -> None:
    mixture, x = made(2, 2, 3), torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
    log_snr = SCHEDULE.log_snr
    inserted = torch.cat([log_snr[:8], log_snr[7:8] * 0.75 + log_snr[8:9] * 0.25, log_snr[8:]])
    fine = mixture.network(Schedule(inserted), prediction)(x, torch.tensor([8, 8]))
    network = mixture.network(SCHEDULE, prediction)
    torch.testing.assert_close(network(x, torch.tensor([7.25, 7.25])), fine, rtol=1e-10, atol=1e-12)
    whole = network(x, torch.tensor([7, 20]))
    assert torch.equal(network(x, torch.tensor([7.0, 20.0])), whole)


def test_what_levels_between_do_not_have() -> None:
    x, mixture = torch.zeros(1, 2), made(2, 2, 2)
    with pytest.raises(ValueError, match=r"t has dtype torch.float32: allowed where 'mean'"):
        mixture.network(SCHEDULE, "mean")(x, torch.tensor([2.0]))
    with pytest.raises(ValueError, match=r"t from 0.5 .*: allowed is 1 to T = 20"):
        mixture.network(SCHEDULE, "eps")(x, torch.tensor([0.5]))


def test_draws_have_the_moments_and_components_of_the_mixture() -> None:
    mixture = GaussianMixture(
        [0.2, 0.8],
        [[-5.0, 0.0], [5.0, 1.0]],
        torch.tensor([[[1, 0.5], [0.5, 2]], [[2, 0], [0, 0]]]),
    )
    count = 40_000
    drawn = mixture.sample(Key.of(3, range(count)))
    left = drawn[:, 0] < 0
    assert abs(left.double().mean() - 0.2) < 4 * math.sqrt(0.16 / count)
    covariance = torch.cov(drawn[left].T)
    for got, want, spread in zip(
        covariance.flatten(), [1, 0.5, 0.5, 2], [2, 2.25, 2.25, 8], strict=True
    ):
        assert abs(got - want) < 4 * math.sqrt(spread / (0.2 * count))
    assert torch.allclose(drawn[~left, 1], torch.tensor(1.0).double())
    one = mixture.sample(Key.of(3, [17]))
    assert torch.equal(one[0], drawn[17])


def test_best_reverse_variance_lies_between_the_papers_two_for_unit_variance() -> None:
    mixture = GaussianMixture([0.5, 0.5], [[-0.8], [0.8]], [0.36, 0.36])
    t, x = torch.tensor(9), mixture.sample(Key.of(1, range(4000)))
    noisy = SCHEDULE.alpha_bar[9].sqrt() * x
    noisy = noisy + SCHEDULE.one_minus_alpha_bar[9].sqrt() * torch.randn(
        x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = mixture.reverse_variance(SCHEDULE, noisy, t - 1, t).mean()
    assert SCHEDULE.posterior(t - 1, t)[2] < found < SCHEDULE.beta[9]


def test_reverse_variance_is_that_of_the_gaussian_chain() -> None:
    mixture, s, t = GaussianMixture([1.0], [[0.3]], [4.0]), 5, 9
    bar = SCHEDULE.alpha_bar
    kept = bar[t] / bar[s]
    # The joint law of (x_s, x_t), conditioned on x_t.
    var_s, var_t = 4 * bar[s] + 1 - bar[s], 4 * bar[t] + 1 - bar[t]
    want = var_s - kept * var_s**2 / var_t
    x = torch.tensor([[0.7]])
    found = mixture.reverse_variance(SCHEDULE, x, torch.tensor(s), torch.tensor(t))
    assert found.item() == pytest.approx(want.item(), rel=1e-9)


def test_ancestral_sampling_with_it_ends_near_the_data() -> None:
    mixture = GaussianMixture([0.3, 0.7], [[-0.7], [0.5]], [0.01, 0.02])
    schedule = Schedule.log_snr_linear(100, 8.0, -8.0)
    diffusion = GaussianDiffusion(schedule, "eps")
    network = mixture.network(schedule, "eps")
    drawn: Tensor = diffusion.sample_loop(
        network,
        (4000, 1),
        ancestral_table(schedule, "eps", trailing(100, 100), "posterior"),
        seed=1,
        clip_denoised=False,
    )
    distance = stats.ks_2samp(drawn[:, 0].numpy(), mixture.sample(Key.of(9, range(4000)))[:, 0])
    assert distance.pvalue > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], [[0.0], [1.0]], [1.0, 1.0]), "weights"),
        (([1.0], [[0.0], [1.0]], [1.0]), "means"),
        (([1.0], [[0.0, 1.0]], [[1.0]]), "covariances"),
        (([1.0], [[0.0, 1.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "eigenvalues"),
        (([1.0], [[0.0, 1.0]], [[[1.0, 0.2], [0.1, 1.0]]]), "symmetric"),
    ],
)
def test_bad_input(
    arguments: tuple[list[float], list[list[float]], list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


def test_other_dimensions_are_refused() -> None:
    mixture = made(1, 2, 3)
    with pytest.raises(ValueError, match=r"x has shape \(2, 4\); allowed: .* 3 numbers"):
        mixture.score(torch.zeros(2, 4), torch.tensor(1.0), torch.tensor(1.0))
