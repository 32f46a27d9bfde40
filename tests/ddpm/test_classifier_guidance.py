"""Guidance by exact classifiers of mixtures, whose conditional networks are known."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.keys import Key
from ddpm.predictions import Prediction
from ddpm.samplers.ancestral import ancestral_table
from ddpm.samplers.classifier_guidance import Classifier, classifier_guided
from ddpm.samplers.ddim import ddim_table
from ddpm.samplers.levels import trailing
from ddpm.schedule import Schedule
from tests.devices.pretend import GPU, pretend_gpu

SCHEDULE = Schedule.log_snr_linear(60, 7.0, -7.0)
WEIGHTS = [0.2, 0.5, 0.3]
MEANS = [[-0.6, 0.1, 0.0, 0.4], [0.5, 0.5, -0.2, -0.1], [0.1, -0.7, 0.3, 0.2]]
COVARIANCES = torch.stack([
    torch.diag(torch.tensor([0.05, 0.1, 0.02, 0.08])) + 0.03,
    torch.eye(4) * 0.05,
    torch.eye(4) * 0.1 - 0.02,
]).double()  # fmt: skip
MIXTURE = GaussianMixture(WEIGHTS, MEANS, COVARIANCES)
PARTS = [GaussianMixture([1.0], MEANS[k : k + 1], COVARIANCES[k : k + 1]) for k in range(3)]


def moments(t: Tensor) -> tuple[Tensor, Tensor]:
    return SCHEDULE.alpha_bar[t].sqrt(), SCHEDULE.one_minus_alpha_bar[t].sqrt()


def exact_classifier(x: Tensor, t: Tensor) -> Tensor:
    """Logits up to a constant: log weight plus log density of each component at this level."""
    logs = [part.log_density(x, *moments(t)) for part in PARTS]
    return torch.stack(logs, dim=1) + torch.tensor(WEIGHTS).log()


def places() -> tuple[Tensor, Tensor, Tensor]:
    """Noisy images, levels and labels."""
    t = torch.tensor([1, 2, 10, 30, 45, 60, 60, 25, 5])
    signal, sigma = (c[:, None] for c in moments(t))
    z = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(9) % 3
    clean = torch.tensor(MEANS, dtype=torch.float64)[(labels + torch.arange(9) // 6) % 3]
    return (signal * clean + sigma * z).view(9, 1, 2, 2), t, labels


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_scale_one_is_the_network_of_the_component(prediction: Prediction) -> None:
    diffusion = GaussianDiffusion(SCHEDULE, prediction)
    guided = classifier_guided(
        diffusion, MIXTURE.network(SCHEDULE, prediction), exact_classifier, 1.0
    )
    x, t, labels = places()
    with torch.no_grad():
        got = guided(x, t, labels=labels)
    want = torch.empty_like(x)
    for k, part in enumerate(PARTS):
        want[labels == k] = part.network(SCHEDULE, prediction)(x, t)[labels == k]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert not got.requires_grad


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_any_scale_is_the_estimate_of_the_sharpened_density(prediction: Prediction) -> None:
    """(x + sigma^2 score) / alpha with the score of p(x_t) p(c | x_t)^w by central differences."""
    w, step = 2.5, 1e-4
    diffusion = GaussianDiffusion(SCHEDULE, prediction)
    guided = classifier_guided(
        diffusion, MIXTURE.network(SCHEDULE, prediction), exact_classifier, w
    )
    x, t, labels = places()

    def log_density(x: Tensor) -> Tensor:
        share = torch.log_softmax(exact_classifier(x, t), 1)[torch.arange(9), labels]
        return MIXTURE.log_density(x, *moments(t)) + w * share

    score = torch.zeros(9, 4, dtype=torch.float64)
    for d in range(4):
        shift = step * torch.eye(4, dtype=torch.float64)[d].view(1, 2, 2)
        score[:, d] = (log_density(x + shift) - log_density(x - shift)) / (2 * step)
    signal, sigma = (c[:, None] for c in moments(t))
    want = (x.flatten(1) + sigma**2 * score) / signal
    got = diffusion.predict_xstart(guided(x, t, labels=labels), x, t).flatten(1)
    # Central differences of densities as narrow as sigma_1 = 0.03.
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def wrong(x: Tensor, k: int) -> float:
    """Share of clean images that are likelier under another component than under k."""
    found = exact_classifier(x, torch.zeros(len(x), dtype=torch.int64)).argmax(1)
    return float((found != k).double().mean())


@pytest.mark.parametrize("random", [False, True])
def test_samples_land_in_the_component(random: bool) -> None:
    diffusion = GaussianDiffusion(SCHEDULE, "v")
    guided = classifier_guided(diffusion, MIXTURE.network(SCHEDULE, "v"), exact_classifier, 1.0)
    levels, labels = trailing(60), torch.arange(3000) % 3
    table = (
        ancestral_table(SCHEDULE, "v", levels, "posterior")
        if random
        else ddim_table(SCHEDULE, "v", levels, 0.0)
    )
    drawn = diffusion.sample_loop(
        guided, (3000, 4), table, seed=1, clip_denoised=False, labels=labels
    ).double()
    for k in range(3):
        mine = drawn[labels == k]
        spread = COVARIANCES[k].diagonal()
        # Four standard errors, and what 60 steps of first order leave.
        off = (mine.mean(0) - torch.tensor(MEANS[k])).abs()
        assert bool((off < 4 * (spread / 1000).sqrt() + 0.01).all())
        assert bool((mine.var(0) / spread - 1).abs().max() < 4 * (2 / 1000) ** 0.5 + 0.05)
        # Components overlap: no more samples look like another's than fresh draws of this one do.
        fresh = PARTS[k].sample(Key.of(0, range(1000)))
        assert wrong(mine, k) < wrong(fresh, k) + 0.02


def trainable() -> Classifier:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    return lambda x, t: layer(x.flatten(1)) + t[:, None]


def test_a_learned_variance_and_other_conditions_are_left_alone() -> None:
    seen: list[dict[str, Tensor]] = []

    def wide(x: Tensor, t: Tensor, **conditions: Tensor) -> Any:
        seen.append(conditions)
        return (torch.cat([0.1 * x, x.sin() + 0 * t.view(-1, 1, 1, 1)], dim=1),)

    x, t, labels = places()
    x = x.float()
    classifier = trainable()
    for classes in (False, True):
        learned = GaussianDiffusion(SCHEDULE, "eps", "learned_range")
        guided = classifier_guided(learned, wide, classifier, 2.0, classes=classes)
        out = guided(x, t, labels=labels, extra=t)
        assert set(seen[-1]) == ({"extra", "labels"} if classes else {"extra"})
        assert torch.equal(out[:, 1:], x.sin())
        narrow = classifier_guided(
            GaussianDiffusion(SCHEDULE, "eps"), lambda x, _: 0.1 * x, classifier, 2.0
        )
        assert torch.equal(out[:, :1], narrow(x, t, labels=labels))
        assert not torch.equal(out[:, :1], 0.1 * x)
    still = classifier_guided(learned, wide, classifier, 0.0)(x, t, labels=labels)
    assert torch.equal(still, wide(x, t)[0])


def test_no_host_reads() -> None:
    guided = classifier_guided(
        GaussianDiffusion(SCHEDULE, "x0"), lambda x, _: 0.5 * x,
        lambda x, _: torch.stack([x.flatten(1).sum(1), x.flatten(1).norm(dim=1)], 1), 1.5,
    )  # fmt: skip
    x = torch.zeros(2, 1, 3, 3, device=GPU)
    t, labels = (torch.ones(2, dtype=torch.int64, device=GPU) for _ in range(2))
    # The table is copied to the device by the first call.
    guided(x, t, labels=labels)
    with pretend_gpu(), torch.no_grad():
        assert guided(x, t, labels=labels).shape == x.shape


def test_what_cannot_be_guided_is_refused() -> None:
    flat = Schedule.from_betas([0.1, 0.5, 1.0])
    with pytest.raises(InputError, match="zero terminal SNR"):
        classifier_guided(GaussianDiffusion(flat, "v"), lambda x, _: x, exact_classifier, 1.0)
    for scale in (float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"scale = {scale}: allowed is a finite number"):
            classifier_guided(
                GaussianDiffusion(SCHEDULE, "v"), lambda x, _: x, exact_classifier, scale
            )
