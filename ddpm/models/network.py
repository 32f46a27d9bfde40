"""The networks by their configurations."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Tag
from torch import nn

from ddpm.errors import check
from ddpm.models.mlp import MLP, MLPConfig
from ddpm.models.transformer import Transformer, TransformerConfig
from ddpm.models.unet import UNet, UNetConfig


def _kind(config: Any) -> Any:
    """The tag of a configuration; a U-Net where there is none, as before there were others."""
    if isinstance(config, dict):
        return config.get("kind", "unet")
    return getattr(config, "kind", None)


NetworkConfig = Annotated[
    Annotated[UNetConfig, Tag("unet")]
    | Annotated[MLPConfig, Tag("mlp")]
    | Annotated[TransformerConfig, Tag("transformer")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="kind: allowed is unet, mlp, transformer",
    ),
]
"""Any configuration of a network; pydantic tells them apart by `kind`."""


def build_network(
    config: UNetConfig | MLPConfig | TransformerConfig, image_shape: Sequence[int]
) -> nn.Module:
    """The network of a configuration, with torch's own initial weights.

    Args:
        config: Which network, and its sizes.
        image_shape: (C, H, W) of one image; for an MLP any shape.

    Returns:
        A module of (x [B, C, H, W], t [B], labels int64 [B] or None).

    Raises:
        InputError: the network cannot take such images.
    """
    check_images(config, image_shape)
    if isinstance(config, MLPConfig):
        return MLP(config, image_shape)
    if isinstance(config, TransformerConfig):
        return Transformer(config, image_shape[0])
    return UNet(config)


def check_images(
    config: UNetConfig | MLPConfig | TransformerConfig, image_shape: Sequence[int]
) -> None:
    """Refuse images that the network of a configuration cannot take, before it is built.

    Args:
        config: Which network, and its sizes.
        image_shape: As in `build_network`.

    Raises:
        InputError: naming what does not fit.
    """
    shape = tuple(image_shape)
    check(len(shape) > 0 and min(shape) >= 1, "image_shape", shape, "positive sizes")
    if isinstance(config, MLPConfig):
        return
    check(len(shape) == 3, "image_shape", shape, "channels, height, width")
    if isinstance(config, UNetConfig):
        check(
            config.image_channels == shape[0],
            "image_channels", config.image_channels, f"{shape[0]}, as in the images",
        )  # fmt: skip
