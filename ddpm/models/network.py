"""The networks by their configurations."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Tag
from torch import nn

from ddpm.errors import check
from ddpm.models.mlp import MLP, MLPConfig
from ddpm.models.transformer import Transformer, TransformerConfig
from ddpm.models.unet import UNet, UNetConfig
from ddpm.models.untied import Untied, UntiedConfig
from ddpm.models.vae import Vae, VaeConfig

AnyConfig = UNetConfig | MLPConfig | TransformerConfig | UntiedConfig | VaeConfig


def _kind(config: Any) -> Any:
    """The tag of a configuration; a U-Net where there is none, as before there were others."""
    if isinstance(config, dict):
        return config.get("kind", "unet")
    return getattr(config, "kind", None)


NetworkConfig = Annotated[
    Annotated[UNetConfig, Tag("unet")]
    | Annotated[MLPConfig, Tag("mlp")]
    | Annotated[TransformerConfig, Tag("transformer")]
    | Annotated[UntiedConfig, Tag("untied")]
    | Annotated[VaeConfig, Tag("vae")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="kind: allowed is unet, mlp, transformer, untied, vae",
    ),
]
"""Any configuration of a network; pydantic tells them apart by `kind`."""


def build_network(
    config: AnyConfig,
    image_shape: Sequence[int],
    outputs: int | None = None,
    grey_levels: int = 256,
) -> nn.Module:
    """The network of a configuration, with torch's own initial weights.

    Args:
        config: Which network, and its sizes.
        image_shape: (C, H, W) of one image; for an MLP and untied networks any shape.
        outputs: Channels that the network returns; None for those of an image, twice where the
            variance is learned.
        grey_levels: Number of grey levels of the images; an autoencoder gives their probabilities.

    Returns:
        A module of (x [B, C, H, W], t [B], labels int64 [B] or None), or the autoencoder.

    Raises:
        InputError: the network cannot take such images, or outputs is not positive.
    """
    check_images(config, image_shape)
    if isinstance(config, MLPConfig):
        return MLP(config, image_shape, outputs)
    if isinstance(config, UntiedConfig):
        return Untied(config, image_shape, outputs)
    if isinstance(config, VaeConfig):
        return Vae(config, image_shape, grey_levels)
    if isinstance(config, TransformerConfig):
        return Transformer(config, image_shape[0], outputs)
    return UNet(config, outputs)


def check_images(config: AnyConfig, image_shape: Sequence[int]) -> None:
    """Refuse images that the network of a configuration cannot take, before it is built.

    Args:
        config: Which network, and its sizes.
        image_shape: As in `build_network`.

    Raises:
        InputError: naming what does not fit.
    """
    shape = tuple(image_shape)
    check(len(shape) > 0 and min(shape) >= 1, "image_shape", shape, "positive sizes")
    if isinstance(config, MLPConfig | UntiedConfig | VaeConfig):
        return
    check(len(shape) == 3, "image_shape", shape, "channels, height, width")
    if isinstance(config, UNetConfig):
        check(
            config.image_channels == shape[0],
            "image_channels", config.image_channels, f"{shape[0]}, as in the images",
        )  # fmt: skip


def values_of_a_layer(config: AnyConfig, image_shape: Sequence[int]) -> int:
    """Roughly how many values a layer gives for one image, by which threads are chosen."""
    if isinstance(config, MLPConfig):
        return config.width
    if isinstance(config, VaeConfig):
        return config.hidden
    if isinstance(config, UntiedConfig):
        return max(config.hidden)
    _, height, width = image_shape
    if isinstance(config, TransformerConfig):
        return config.width * -(-height // config.patch) * -(-width // config.patch)
    return config.channels * height * width
