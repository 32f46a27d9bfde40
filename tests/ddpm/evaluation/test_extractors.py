"""Extractors by name, what they are given, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.errors import InputError
from ddpm.evaluation.extractors import PixelFeatures, as_rgb, check_features, extractor, features

CPU = torch.device("cpu")


class Means(nn.Module):
    """Mean of each colour."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(2, 3))


ready = Means()
number = 3
flat = nn.Flatten(0)


def half() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Identity())


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_images("digits")


def test_grey_levels_become_bytes_of_three_colours() -> None:
    grey = torch.arange(17, dtype=torch.uint8).view(17, 1, 1, 1)
    rgb = as_rgb(grey, 17)
    assert rgb.shape == (17, 3, 1, 1)
    assert rgb.dtype == torch.uint8
    assert rgb[:, 1, 0, 0].tolist() == [round(k * 255 / 16) for k in range(17)]
    colour = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2).numpy()
    assert np.array_equal(as_rgb(colour, 256).numpy(), colour)


def test_an_extractor_of_ones_own(data: ImageData) -> None:
    for name in ("ready", "Means"):
        network = extractor(f"{__name__}:{name}", data, CPU)
        found = features(network, data.test[:300], data.levels, CPU)
        expected = as_rgb(data.test[:300], 17).double().mean(dim=(2, 3))
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_module_in_the_working_folder(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "features_of_mine.py").write_text("from torch import nn\nnet = nn.Flatten()\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(extractor("features_of_mine:net", data, CPU), nn.Flatten)


@pytest.mark.parametrize("side", [8, 16, 32])
def test_pixels_are_averaged_down_to_16(side: int) -> None:
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    )
    found = PixelFeatures()(images).view(2, 3, min(side, 16), -1)
    if side == 32:
        images = images.view(2, 3, 16, 2, 16, 2).double().mean(dim=(3, 5))
    torch.testing.assert_close(found.double() * 255, images.double(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("big", ["features = 'big'", "small, pixels, inception or MODULE:ATTRIBUTE"]),
        (":net", ["features = ':net'", "allowed"]),
        ("nowhere_to_be_found:net", ["nowhere_to_be_found", "allowed"]),
        (f"{__name__}:nothing", ["nothing", "allowed"]),
        (f"{__name__}:number", ["is a int", "torch.nn.Module"]),
    ],
)
def test_what_is_not_there_is_refused(name: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        check_features(name)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("network", "word"),
    [
        (flat, r"returns \(960,\): allowed is a tensor \(5, D\)"),
        (nn.Identity(), r"returns \(5, 3, 8, 8\)"),
        (nn.Flatten(), "not finite floating-point"),
        (nn.Sequential(Means(), nn.Threshold(1e9, float("nan"))), "not finite floating-point"),
    ],
)
def test_features_that_are_none_are_refused(data: ImageData, network: nn.Module, word: str) -> None:
    with pytest.raises(InputError, match=word):
        features(network, data.test[:5], data.levels, CPU)
