"""Every network learns eight labelled images; no network could without the labels."""

import pytest
import torch
from sklearn.datasets import load_digits

from ddpm.diffusion import GaussianDiffusion
from ddpm.keys import Key, draw_levels
from ddpm.models.initialise import build
from ddpm.models.mlp import MLPConfig
from ddpm.models.network import build_network
from ddpm.models.transformer import TransformerConfig
from ddpm.models.unet import UNetConfig
from ddpm.schedule import Schedule
from tests.ddpm.models.networks import Config, images

LEVELS = 100
DIFFUSION = GaussianDiffusion(Schedule.log_snr_linear(LEVELS), "x0")
IMAGES = torch.from_numpy(load_digits().images[:8, None] / 8 - 1).float()
UPDATES, RATE = 240, 1e-2
WITHOUT_LABELS = 0.10
"""Below the least loss of any network that is not told which image it sees."""
REACHED = 0.03
"""Above what every network reaches."""


def test_the_least_loss_without_labels() -> None:
    """That of the posterior mean, by Bayes' rule over the eight images."""
    repeats = 200
    x0 = IMAGES.repeat(repeats, 1, 1, 1)
    key = Key.of(5, range(8 * repeats))
    t, noise = draw_levels(key, LEVELS), images(8 * repeats, 1, 8, 8)
    x_t = DIFFUSION.q_sample(x0, t, noise)
    alpha_bar = DIFFUSION.schedule.alpha_bar[t][:, None].double()
    distance = (
        (x_t.flatten(1)[:, None] - alpha_bar.sqrt()[..., None] * IMAGES.flatten(1)).square().sum(-1)
    )
    posterior = (-distance / (2 * (1 - alpha_bar))).softmax(1)
    best = (posterior @ IMAGES.flatten(1).double()).view_as(x0)
    assert WITHOUT_LABELS < float((best - x0).square().mean()) < 1.2 * WITHOUT_LABELS


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(channels=8, blocks=1, classes=8),
        MLPConfig(width=64, depth=2, classes=8),
        TransformerConfig(patch=4, width=64, depth=2, classes=8),
    ],
    ids=lambda config: config.kind,
)
def test_eight_labelled_images_are_learned(config: Config) -> None:
    model = build(lambda: build_network(config, (1, 8, 8)), 1, "cpu")
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    labels, losses = torch.arange(8), []
    for update in range(UPDATES):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - update / UPDATES)
        key = Key.of(0, range(8), update)
        t = draw_levels(key, LEVELS)
        loss = DIFFUSION.training_losses(model, IMAGES, t, key=key, labels=labels).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[:10]) / 10 > 2 * WITHOUT_LABELS
    assert sum(losses[-40:]) / 40 < REACHED
