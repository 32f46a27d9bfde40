"""Configurations of networks: sizes they lead to, JSON they survive, and what they refuse."""

import json
from dataclasses import asdict

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from ddpm.models.mlp import MLP, MLPConfig
from ddpm.models.network import AnyConfig, NetworkConfig, build_network
from ddpm.models.transformer import Transformer, TransformerConfig
from ddpm.models.unet import UNet, UNetConfig
from tests.ddpm.models.networks import Config


@pytest.mark.parametrize(
    ("config", "shape", "count"),
    [
        (UNetConfig(), (1, 8, 8), 888_929),
        (UNetConfig(channels=16, multipliers=(1, 2, 2), attention=(1, 2)), (1, 28, 28), 437_457),
        (UNetConfig(classes=10), (1, 8, 8), 888_929 + 11 * 128),
        (UNetConfig(learned_variance=True), (1, 8, 8), 888_929 + 32 * 9 + 1),
        (MLPConfig(), (1, 28, 28), 4_582_284),
        (MLPConfig(depth=0), (1, 28, 28), 1_570_284),
        (MLPConfig(classes=10), (1, 28, 28), 4_582_284 + 11 * 500),
        (MLPConfig(learned_variance=True), (1, 28, 28), 4_582_284 + 501 * 784),
        (TransformerConfig(), (1, 8, 8), 1_254_532),
        (TransformerConfig(classes=10), (1, 28, 28), 1_254_532 + 11 * 128),
        (TransformerConfig(learned_variance=True), (1, 8, 8), 1_254_532 + 129 * 4),
        # DiT-S/2, but for its embedding of labels and its learned variance: 33 million.
        (TransformerConfig(width=384, depth=12, heads=6), (4, 32, 32), 32_523_664),
    ],
)
def test_numbers_of_parameters(config: Config, shape: tuple[int, ...], count: int) -> None:
    with torch.device("meta"):
        model = build_network(config, shape)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("w", [12, 500])
def test_numbers_of_parameters_by_formula(w: int) -> None:
    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    values, depth, classes = 30, 2, 3
    film = 2 * w + linear(w, 2 * w)
    mlp = linear(64, w) + linear(w, w) + linear(values, w) + film + linear(w, values)
    mlp += depth * (2 * w + 2 * linear(w, w) + film) + (classes + 1) * w
    patch = 5 * 2**2
    block = linear(w, 6 * w) + linear(w, 3 * w) + linear(w, w) + linear(w, 3 * w) + linear(3 * w, w)
    transformer = 2 * linear(w, w) + linear(patch, w) + linear(w, 2 * w) + linear(w, 2 * patch)
    transformer += depth * block + (classes + 1) * w
    cases: list[tuple[Config, tuple[int, ...], int]] = [
        (MLPConfig(width=w, depth=depth, classes=classes), (5, 6, 1), mlp),
        (
            TransformerConfig(
                width=w, depth=depth, classes=classes, learned_variance=True, mlp_ratio=3.0
            ),
            (5, 6, 1),
            transformer,
        ),
    ]
    for config, shape, count in cases:
        test_numbers_of_parameters(config, shape, count)


KINDS: list[tuple[Config, type[nn.Module]]] = [
    (UNetConfig(channels=4, attention=(0,)), UNet),
    (MLPConfig(width=8, classes=2), MLP),
    (TransformerConfig(width=8, learned_variance=True, mlp_ratio=1.5), Transformer),
]
READER: TypeAdapter[AnyConfig] = TypeAdapter(NetworkConfig)


@pytest.mark.parametrize(("config", "kind"), KINDS)
def test_a_configuration_survives_json(config: Config, kind: type[nn.Module]) -> None:
    text = json.dumps(asdict(config))
    assert READER.validate_json(text) == config
    assert READER.validate_python(config) is config
    assert type(build_network(config, (1, 4, 4))) is kind


def test_a_configuration_from_before_there_were_kinds_is_a_unet() -> None:
    old = """{"image_channels": 1, "channels": 8, "multipliers": [1, 2], "blocks": 1,
              "attention": [1], "dropout": 0.1}"""
    want = UNetConfig(channels=8, blocks=1, attention=(1,), dropout=0.1)
    assert READER.validate_json(old) == want
    assert TypeAdapter(UNetConfig).validate_json(old) == want
    assert (want.kind, want.classes, want.learned_variance) == ("unet", 0, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "dit"}', "kind: allowed is unet, mlp, transformer"),
        ('{"kind": ["mlp"]}', "kind: allowed is unet, mlp, transformer"),
        ("[]", "kind: allowed is unet, mlp, transformer"),
        ("3", "kind: allowed is unet, mlp, transformer"),
        ('{"kind": "mlp", "channels": 3}', "channels"),
        ('{"kind": "mlp", "width": 0}', "width = 0: allowed is an integer of at least 1"),
        ('{"kind": "transformer", "heads": 3}', "heads = 3: allowed is a divisor of width = 128"),
        ('{"width": 3}', "width"),
    ],
)
def test_configurations_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        READER.validate_json(text)
    assert message in str(caught.value)
    assert len(caught.value.errors()) == 1


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (UNetConfig(), (3, 8, 8), "image_channels = 1: allowed is 3, as in the images"),
        (UNetConfig(), (1, 8), r"image_shape = \(1, 8\): allowed is channels, height, width"),
        (TransformerConfig(), (8,), r"image_shape = \(8,\): allowed is channels, height, width"),
        (TransformerConfig(), (0, 8, 8), r"image_shape = \(0, 8, 8\): allowed is positive sizes"),
        (MLPConfig(), (), r"image_shape = \(\): allowed is positive sizes"),
        (MLPConfig(), (1, 0), r"image_shape = \(1, 0\): allowed is positive sizes"),
    ],
)
def test_images_that_a_network_cannot_take(
    config: Config, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(config, shape)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        *[
            (kind, {name: 0}, f"{name} = 0: allowed is an integer of at least 1")
            for kind, name in [
                (MLPConfig, "width"), (TransformerConfig, "patch"), (TransformerConfig, "width"),
                (TransformerConfig, "depth"), (TransformerConfig, "heads"),
            ]
        ],
        (MLPConfig, {"depth": -1}, "depth = -1: allowed is an integer of at least 0"),
        (TransformerConfig, {"width": 6}, "width = 6: allowed is a multiple of 4"),
        (TransformerConfig, {"heads": 5}, "heads = 5: allowed is a divisor of width = 128"),
        *[
            (TransformerConfig, {"mlp_ratio": ratio}, f"mlp_ratio = {ratio}: allowed is")
            for ratio in (0.0, -1.0, 1 / 129, float("nan"), float("inf"))
        ],
        *[
            (kind, {"dropout": rate}, f"dropout = {rate}: allowed is a probability")
            for kind in (MLPConfig, TransformerConfig) for rate in (1.0, -0.1, float("nan"))
        ],
        *[
            (kind, {"classes": -1}, "classes = -1: allowed is 0 for none, or their number")
            for kind in (MLPConfig, TransformerConfig)
        ],
    ],
)  # fmt: skip
def test_sizes_that_are_refused(
    kind: type[Config], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)  # type: ignore[arg-type]
