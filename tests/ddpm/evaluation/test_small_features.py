"""The extractor that nobody trained: the same everywhere, and scaled by the training set."""

import numpy as np
import pytest
import torch

from ddpm.evaluation.small_features import DIRECTIONS, RandomFeatures, SmallFeatures
from ddpm.models.initialise import build


def pictures(count: int, side: int = 8, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    grey = generator.integers(0, 256, (count, 1, side, side), dtype=np.uint8)
    return torch.from_numpy(np.repeat(grey, 3, axis=1))


def test_the_training_set_has_mean_0_and_covariance_1() -> None:
    training = pictures(300)
    features = SmallFeatures(training)(training).numpy()
    assert features.shape == (300, DIRECTIONS)
    assert np.abs(features.mean(axis=0)).max() < 1e-9
    assert np.abs(np.cov(features, rowvar=False) - np.eye(DIRECTIONS)).max() < 1e-8


def test_the_main_directions_are_kept() -> None:
    training = pictures(100)
    small = SmallFeatures(training)
    raw = small.raw(training).numpy()
    spread = np.linalg.svd(raw - raw.mean(axis=0), compute_uv=False) / np.sqrt(99)
    # A direction scaled by 1 / s has length 1 / s.
    lengths = np.sort(1 / small.directions.norm(dim=0).numpy())[::-1]
    np.testing.assert_allclose(lengths, spread[:DIRECTIONS], rtol=1e-6)


def test_it_is_a_function_of_the_training_set_alone() -> None:
    training, others = pictures(80), pictures(5, seed=1)
    torch.manual_seed(1)
    first = SmallFeatures(training)(others)
    torch.manual_seed(2)
    assert torch.equal(first, SmallFeatures(training)(others))
    torch.testing.assert_close(SmallFeatures(training)(others[:2]), first[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 28, 65])
def test_any_side(side: int) -> None:
    training = pictures(10, side)
    features = SmallFeatures(training)(training)
    assert features.shape[1] <= 9
    assert bool(features.isfinite().all())


def test_the_scale_of_the_activations_is_kept_from_layer_to_layer() -> None:
    network = build(lambda: RandomFeatures(64), 0, "cpu")
    with torch.no_grad():
        parts = network(pictures(20, 64)).split([32, 64, 128, 128, 128, 128], dim=1)
    sizes = [float(part.pow(2).mean().sqrt()) for part in parts]
    assert max(sizes) / min(sizes) < 10


def test_pictures_that_are_all_alike_have_no_direction() -> None:
    same = pictures(1).expand(6, -1, -1, -1)
    features = SmallFeatures(same)(same)
    assert features.shape == (6, 1)
    assert float(features.abs().max()) < 1e-9
