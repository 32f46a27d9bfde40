r"""A variational autoencoder for images of grey levels: what diffusion is compared with.

    p(z) = N(0, I),  q(z | x) = N(\mu(x), diag \sigma^2(x)),  x_i | z ~ a logistic law in bins,
    -ELBO = KL(q(z | x) || p(z)) - E_q \log p(x | z) \ge -\log p(x).

The papers' sigmoid output suits binary pixels. Here each pixel has a location and a scale of its
own, and its law is cut into the bins of the grey levels, so that the bound is one on grey levels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.data.images import to_float
from ddpm.errors import check
from ddpm.models.checks import LARGEST_SIZE, check_input

LOG_SCALE_LIMIT = 8.0
"""Largest magnitude of the logarithm of a pixel's scale; exp(-8) is a tenth of a bin of 256."""


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Sizes of a variational autoencoder; checked at construction.  L-1-arch.

    Raises:
        InputError: a field lies outside its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["vae"] = "vae"
    """Which model this configures."""
    latent: int = 16
    """Latent coordinates."""
    hidden: int = 500
    """Units of the hidden layer of the encoder, and of that of the decoder."""
    activation: Literal["tanh", "relu"] = "tanh"
    """What the hidden units compute: relu as in the paper, or tanh, which overfits digits less."""

    def __post_init__(self) -> None:
        for name in ("latent", "hidden"):
            size = getattr(self, name)
            check(1 <= size <= LARGEST_SIZE, name, size, f"an integer from 1 to {LARGEST_SIZE}")
        check(
            self.activation in ("tanh", "relu"), "activation", self.activation, "'tanh' or 'relu'"
        )


class Vae(nn.Module):
    """Encoder and decoder of one hidden layer each; its output is the loss.  L-1-arch, L-1-MC.

    Args:
        config: Sizes of both networks.
        image_shape: (C, H, W) of one image.
        grey_levels: Number of grey levels of the images, in 2..256.

    Raises:
        InputError: the shape is empty or has no values, or there are too few or many grey levels.
    """

    def __init__(self, config: VaeConfig, image_shape: Sequence[int], grey_levels: int) -> None:
        super().__init__()
        shape = tuple(image_shape)
        check(len(shape) > 0 and min(shape) >= 1, "image_shape", shape, "positive sizes")
        check(2 <= grey_levels <= 256, "grey_levels", grey_levels, "2 to 256")
        self.config, self.image_shape, self.grey_levels = config, shape, grey_levels
        self.dimensions = math.prod(shape)
        self.encoder = _layers(config, self.dimensions, config.latent)
        self.decoder = _layers(config, config.latent, self.dimensions)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """One draw of minus the bound on the log-likelihood, in nats per dimension.  L-1-MC.

        Args:
            images: uint8 grey levels [B, C, H, W], or those levels on [-1, 1] as `to_float` gives.
            noise: Standard normal numbers [B, latent].

        Returns:
            [B], in float32 or the wider type of the weights.

        Raises:
            ValueError: images or noise do not fit.
        """
        x = self.values(images)
        mean, log_variance = self.encode(x)
        rate = latent_kl(mean, log_variance)
        distortion = self.distortion(x, reparametrised(mean, log_variance, noise))
        return (rate + distortion) / self.dimensions

    def values(self, images: Tensor) -> Tensor:
        """Images on [-1, 1], of grey levels or already there.

        Raises:
            ValueError: they have another shape than the model was made for.
        """
        check_input(images, self.image_shape)
        return to_float(images, self.grey_levels) if images.dtype == torch.uint8 else images

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), each [B, latent], for x on [-1, 1].  L-1-arch."""
        mean, log_variance = _output(self.encoder, x.flatten(1)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Location and log scale of every pixel's law, each [B, C, H, W], for z [B, latent]."""
        location, raw = _output(self.decoder, z).chunk(2, dim=1)
        # Bounded smoothly: where a limit cuts, no gradient would lead back.
        log_scale = LOG_SCALE_LIMIT * torch.tanh(raw / LOG_SCALE_LIMIT)
        shape = (len(z), *self.image_shape)
        return location.reshape(shape), log_scale.reshape(shape)

    def distortion(self, x: Tensor, z: Tensor) -> Tensor:
        """-log p(x | z) of whole images, in nats, [B].

        Args:
            x: Grey levels on [-1, 1], [B, C, H, W].
            z: Latents [B, latent].
        """
        location, log_scale = self.decode(z)
        pixels = logistic_log_likelihood(x, location, log_scale, self.grey_levels)
        return -pixels.flatten(1).sum(dim=1)


def latent_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) in nats, [B] for [B, latent].  L-1.3."""
    return (mean.square() + torch.expm1(log_variance) - log_variance).sum(dim=1) / 2


def reparametrised(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Draw z = mean + exp(log_variance / 2) noise from q(z | x).  L-1-MC.

    Raises:
        ValueError: the noise does not have the shape of the mean.
    """
    if noise.shape != mean.shape:
        raise ValueError(f"noise has shape {list(noise.shape)}: allowed is {list(mean.shape)}")
    return torch.addcmul(mean, torch.exp(log_variance / 2), noise)


def logistic_log_likelihood(x: Tensor, location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    r"""Log-probability of grey levels under a logistic law cut into bins.

    The bins are those of `ddpm.decoder`, the outer ones open. With a and b the edges of a bin in
    units of the scale and \sigma the sigmoid, \sigma(b) - \sigma(a) = \sigma(b) \sigma(-a)
    (1 - e^{a - b}): a product, so that nothing cancels or underflows, however far in the tail.

    Args:
        x: Grey levels on [-1, 1].
        location: Middle of each pixel's law, broadcast with x.
        log_scale: Logarithm of its scale, broadcast with x.
        levels: Number of grey levels, at least 2.

    Returns:
        Nats, in the broadcast shape and the type of the arguments.
    """
    half = 1 / (levels - 1)
    per_scale = torch.exp(-log_scale)
    centred = x - location
    under_upper_edge = F.logsigmoid((centred + half) * per_scale)
    over_lower_edge = F.logsigmoid((half - centred) * per_scale)
    gap = torch.log(-torch.expm1(-2 * half * per_scale))
    inner = under_upper_edge + over_lower_edge + gap
    outer = torch.where(x > 0, over_lower_edge, under_upper_edge)
    return torch.where(x.abs() > 1 - half, outer, inner)


def _layers(config: VaeConfig, inputs: int, outputs: int) -> nn.Sequential:
    """One hidden layer, and two numbers for each output."""
    hidden = nn.Tanh() if config.activation == "tanh" else nn.ReLU()
    return nn.Sequential(
        nn.Linear(inputs, config.hidden), hidden, nn.Linear(config.hidden, 2 * outputs)
    )


def _output(layers: nn.Sequential, x: Tensor) -> Tensor:
    """What layers make of x, in at least float32, in which exponentials of it are taken."""
    out: Tensor = layers(x.to(next(layers.parameters()).dtype))
    return out.to(torch.promote_types(out.dtype, torch.float32))
