"""Presets: what they stand for, and how other options go with them."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm.cli.options import PRESETS as NAMES
from ddpm.commands.defaults import make_config
from ddpm.commands.request import Request
from ddpm.data.hubs import is_hub
from ddpm.data.images import ImageData
from ddpm.data.load import NAMED, load_images
from ddpm.errors import InputError
from ddpm.models.unet import UNetConfig
from ddpm.presets import PRESETS, completed
from ddpm.runs.run_folder import RunFolder
from tests.cli.command import run_here


def images(side: int, channels: int = 3) -> ImageData:
    part = torch.zeros(4, channels, side, side, dtype=torch.uint8)
    return ImageData("none", part, part, None, None, 256)


def test_the_help_names_them() -> None:
    assert NAMES == "digits, fashion-mnist, cifar10 or imagenet64"
    assert set(PRESETS) == set(NAMES.replace(" or ", ", ").split(", "))


@pytest.mark.parametrize("name", PRESETS)
def test_each_is_complete_and_says_where_it_is_from(name: str) -> None:
    request = completed(Request(preset=name, data="folder"))
    assert request.data == "folder"
    assert (request.steps is None) != (request.minutes is None)
    side = {"digits": 8, "fashion-mnist": 28, "cifar10": 32, "imagenet64": 64}[name]
    config = make_config(Request(preset=name, data="folder", steps=1), images(side), "folder")
    assert isinstance(config.model, UNetConfig)
    assert "measured" in PRESETS[name].source or "https://" in PRESETS[name].source


@pytest.mark.parametrize("name", [n for n, preset in PRESETS.items() if not preset.own_data])
def test_the_data_of_each_are_of_a_kind_that_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that is refused, because its files are pickles, is refused before its library."""
    source = PRESETS[name].options["data"]
    if not is_hub(source):
        assert source in NAMED
        return
    for library in ("torchvision", "datasets"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match="is not installed"):
        load_images(source)


def test_papers_figures() -> None:
    """Sizes that the papers state: 35.7 and about 120 million parameters."""
    for name, side, wanted in (("cifar10", 32, 35.7e6), ("imagenet64", 64, 120e6)):
        config = make_config(Request(preset=name, data="folder", steps=1), images(side), "folder")
        with torch.device("meta"):
            count = sum(p.numel() for p in config.network().parameters())
        assert count == pytest.approx(wanted, rel=0.1), name


def test_other_options_win() -> None:
    request = completed(Request(preset="cifar10", steps=5, ema=(0.5,), attention=(), levels=7))
    assert (request.steps, request.ema, request.levels) == (5, (0.5,), 7)
    assert request.channels == 128
    given = completed(Request(preset="cifar10", minutes=2.0))
    assert (given.steps, given.minutes) == (None, 2.0)
    assert completed(Request(steps=3)) == Request(steps=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "mnist"}, "preset = 'mnist': allowed is digits, fashion-mnist"),
        ({"preset": "imagenet64"}, "data = None: allowed is a path of images with preset"),
    ],
)
def test_bad_presets(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        completed(Request(**given))


def test_a_run_from_a_preset_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(PRESETS["digits"], options={"data": "digits", "channels": 4, "steps": 3})
    monkeypatch.setitem(PRESETS, "digits", small)
    run = tmp_path / "run"
    device = ["--device", "cpu"]
    assert run_here("train", "--run", run, "--preset", "digits", "--batch-size", "4", *device) == 0
    model = RunFolder(run).config().model
    assert isinstance(model, UNetConfig)
    assert model.channels == 4
    assert run_here("train", "--run", run, "--preset", "digits", "--resume", *device) == 0
