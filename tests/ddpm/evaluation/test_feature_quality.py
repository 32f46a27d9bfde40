"""Distances in a feature space: against other formulas, and in the order that eyes would give."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.mixture import GaussianMixture
from torch import nn

from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.errors import InputError
from ddpm.evaluation import feature_quality as quality
from ddpm.evaluation.extractors import extractor
from ddpm.evaluation.feature_quality import FeatureQuality, feature_quality, frechet, kernel
from ddpm.evaluation.frechet import frechet_distance
from ddpm.evaluation.library import library_module, metrics_installed

pytestmark = pytest.mark.skipif(not metrics_installed(), reason="torchmetrics is not installed")

CPU = torch.device("cpu")
RANDOM = np.random.default_rng


def points(count: int, dims: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = RANDOM(seed)
    mixing = generator.normal(size=(dims, dims))
    return torch.from_numpy(shift + generator.normal(size=(count, dims)) @ mixing)


def test_frechet_is_that_of_the_pixel_distance() -> None:
    real, drawn = points(60, 7, 0), points(40, 7, 1, 0.5)
    (mu1, cov1), (mu2, cov2) = (
        (x.numpy().mean(axis=0), np.cov(x.numpy(), rowvar=False)) for x in (real, drawn)
    )
    assert frechet(real, drawn) == pytest.approx(frechet_distance(mu1, cov1, mu2, cov2), rel=1e-9)


def test_frechet_where_it_can_be_worked_out() -> None:
    # Means apart by (3, 4); standard deviations 1 and 2 along both axes.
    corners = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64) * 0.75**0.5
    moved = 2 * corners + torch.tensor([3.0, 4.0])
    assert frechet(corners, moved) == pytest.approx(25 + 2 * (2 - 1) ** 2, rel=1e-9)
    assert frechet(corners, corners) == pytest.approx(0, abs=1e-9)


def test_kernel_is_the_double_sum() -> None:
    x, y = points(9, 3, 2).numpy(), points(9, 3, 3, 0.3).numpy()

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((1 + sum(p * q for p, q in zip(a, b, strict=True)) / 3) ** 3)

    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs) / len(pairs)
    across = sum(k(a, b) for a in x for b in y) / 81
    assert kernel(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(
        within - 2 * across, rel=1e-9
    )


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_kernel_is_the_librarys() -> None:
    real, drawn = points(30, 4, 4), points(30, 4, 5)
    identity = nn.Identity()
    identity.num_features = 4  # type: ignore[assignment]
    metric = library_module("torchmetrics.image.kid").KernelInceptionDistance(
        identity, subsets=1, subset_size=30
    )
    metric.update(real, real=True)
    metric.update(drawn, real=False)
    assert kernel(real, drawn) == pytest.approx(float(metric.compute()[0]), rel=1e-4)


def test_kernel_of_unequal_numbers_repeats_and_leaves_the_generator_alone() -> None:
    real, drawn = points(300, 4, 6), points(60, 4, 6)
    before = torch.random.get_rng_state()
    first = kernel(real, drawn)
    assert first == kernel(real, drawn)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "SEED", 1)
        assert kernel(real, drawn) != first


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_images("digits")


@pytest.fixture(scope="module")
def small(data: ImageData) -> nn.Module:
    return extractor("small", data, CPU)


def judged(samples: torch.Tensor, data: ImageData, small: nn.Module) -> FeatureQuality:
    return feature_quality(samples, data, "small", small, CPU)


def draw(data: ImageData, seed: int, keep: list[int] | None = None) -> torch.Tensor:
    assert data.train_labels is not None
    kept = np.isin(data.train_labels.numpy(), range(10) if keep is None else keep)
    return data.train[RANDOM(seed).permutation(np.flatnonzero(kept))[:360]]


def as_images(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.round().clip(0, 16).astype(np.uint8)).view(-1, 1, 8, 8)


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    return as_images(gaussian_filter(images.numpy().astype(float), (0, 0, sigma, sigma)))


def noisy(images: torch.Tensor, sigma: float) -> torch.Tensor:
    return as_images(images.numpy() + RANDOM(9).normal(0, sigma, images.shape))


def test_real_images_are_better_than_blur_noise_and_missing_classes(
    data: ImageData, small: nn.Module
) -> None:
    real = draw(data, 0)
    orders = {
        "blur": [real, blurred(real, 0.4), blurred(real, 0.5), blurred(real, 0.7)],
        "noise": [real, noisy(real, 1), noisy(real, 2), noisy(real, 4)],
        "classes": [real, draw(data, 0, [0, 2, 3, 4, 5, 6, 7, 9]), draw(data, 0, [0, 1, 2, 3, 4])],
    }
    for name, images in orders.items():
        found = [judged(x, data, small) for x in images]
        for measure in ("frechet", "kernel"):
            values = [f[measure]["samples_test"] for f in found]
            assert values == sorted(values), (name, measure, values)
            # Steps are larger than what one draw of real images differs from the next.
            assert values[1] > 1.15 * abs(found[0][measure]["train_test"])
        recall = [f["recall"]["samples_test"] for f in found]
        assert recall == sorted(recall, reverse=True), (name, recall)
    lost = judged(orders["classes"][2], data, small)
    assert lost["precision"]["samples_test"] > 0.8
    assert lost["recall"]["samples_test"] < 0.65


def test_a_better_model_of_the_digits_is_better(data: ImageData, small: nn.Module) -> None:
    pixels = data.train.numpy().reshape(-1, 64).astype(float)
    generator = RANDOM(3)
    independent = np.stack([generator.choice(pixels[:, i], 360) for i in range(64)], axis=1)
    gaussian = generator.multivariate_normal(pixels.mean(axis=0), np.cov(pixels.T), 360)
    mixture = GaussianMixture(10, reg_covar=0.1, random_state=0).fit(pixels).sample(360)[0]
    found = [judged(as_images(x), data, small) for x in (independent, gaussian, mixture)]
    for measure in ("frechet", "kernel"):
        values = [f[measure]["samples_test"] for f in found]
        assert values[0] > 1.3 * values[1] > 1.3**2 * values[2], values
    assert found[2]["frechet"]["samples_test"] > found[2]["frechet"]["train_test"]


def test_what_real_images_get(data: ImageData, small: nn.Module) -> None:
    found = judged(draw(data, 1), data, small)
    assert found["extractor"] == "small"
    assert found["dimensions"] == 64
    for name in ("frechet", "precision", "recall"):
        compared = found[name]
        assert compared["samples_test"] == pytest.approx(compared["train_test"], rel=0.15)
    assert abs(found["kernel"]["train_test"]) < 0.02
    assert found == judged(draw(data, 1), data, small)


def test_more_samples_than_training_images(data: ImageData, small: nn.Module) -> None:
    few = replace(
        data, train=data.train[:20], train_labels=None, test=data.test[:30], test_labels=None
    )
    assert judged(draw(data, 2), few, small)["frechet"]["train_test"] > 0


@pytest.mark.parametrize("part", ["num", "training images", "test images"])
def test_too_few_images_are_refused(data: ImageData, small: nn.Module, part: str) -> None:
    bare = replace(data, train_labels=None, test_labels=None)
    if part == "training images":
        bare = replace(bare, train=bare.train[:3])
    if part == "test images":
        bare = replace(bare, test=bare.test[:3])
    samples = data.test[: 3 if part == "num" else 10]
    with pytest.raises(InputError, match=f"{part} = 3: allowed is at least 4"):
        judged(samples, bare, small)


def test_without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm.extras.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"torchmetrics: install .*ddpm-proven\[eval\]"):
        library_module("torchmetrics.image.fid")
