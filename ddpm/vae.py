"""Training, likelihood and samples of a variational autoencoder, with numbers drawn by keys."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ddpm.data.images import to_float, to_levels
from ddpm.errors import check
from ddpm.kernels.normal import normal
from ddpm.kernels.philox import words
from ddpm.kernels.streams import Stream
from ddpm.keys import Key
from ddpm.likelihood import BATCH, NATS_PER_BIT
from ddpm.models.vae import Vae, latent_kl, reparametrised


def training_losses(
    model: Callable[..., Tensor],
    images: Tensor,
    key: Key,
    weight: Tensor | None = None,
    latent: int | None = None,
) -> Tensor:
    """One draw of minus the bound for each image, in nats per dimension.  L-1-MC.

    Args:
        model: A `Vae`, or what is wrapped around it.
        images: uint8 grey levels [B, C, H, W], or those levels on [-1, 1].
        key: Where the draw is used; its numbers are of the stream TRAINING_NOISE.
        weight: float32 [B], a factor of each loss, or None for ones.
        latent: Latent coordinates; None where the model tells them, which a wrapper may not.

    Returns:
        float32 [B].

    Raises:
        ValueError: images and key do not fit the model or each other.
    """
    size = model.config.latent if latent is None else latent  # type: ignore[attr-defined]
    losses = model(images, _noise(key, Stream.TRAINING_NOISE, size))
    return losses if weight is None else losses * weight


@torch.no_grad()
def elbo_bits(model: Vae, images: Tensor, seed: int, draws: int = 1) -> tuple[float, float]:
    """Both terms of the bound, averaged over images, in bits per dimension.  L-1.3, L-1-MC.

    Args:
        model: The autoencoder.
        images: uint8 grey levels [B, C, H, W], or those levels on [-1, 1]; image i is sample i and
            draw d step d of the evaluation noise.
        seed: Key of that noise.
        draws: Draws of the latents for each image, at least 1.

    Returns:
        KL(q(z | x) || p(z)), which is exact, and -E_q log p(x | z), averaged over the draws. Their
        sum is the bound.

    Raises:
        InputError: there are no images or no draws.
    """
    rates, distortions = [], []
    for x, keys in _parts(model, images, seed, draws):
        mean, log_variance = model.encode(x)
        rates.append(latent_kl(mean, log_variance).double())
        for key in keys:
            noise = _noise(key, Stream.EVALUATION_NOISE, model.config.latent)
            z = reparametrised(mean, log_variance, noise)
            distortions.append(model.distortion(x, z).double())
    return _bits(model, torch.cat(rates)), _bits(model, torch.cat(distortions))


@torch.no_grad()
def importance_bits(model: Vae, images: Tensor, seed: int, draws: int) -> float:
    """The importance-weighted bound -E log(mean of w), w = p(x | z) p(z) / q(z | x).  L-1.1.

    Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2015,
    https://arxiv.org/abs/1509.00519: one draw estimates the bound of `elbo_bits`, more draws one
    that lies lower and tends to -log p(x).

    Args:
        model: The autoencoder.
        images: As in `elbo_bits`.
        seed: Key of the evaluation noise.
        draws: Draws of the latents for each image, at least 1.

    Returns:
        Bits per dimension, averaged over the images.

    Raises:
        InputError: there are no images or no draws.
    """
    bounds = []
    for x, keys in _parts(model, images, seed, draws):
        mean, log_variance = model.encode(x)
        total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        for key in keys:
            noise = _noise(key, Stream.EVALUATION_NOISE, model.config.latent)
            z = reparametrised(mean, log_variance, noise)
            ratio = (noise.square() + log_variance - z.square()).sum(dim=1) / 2
            weight = ratio.double() - model.distortion(x, z).double()
            total = torch.logaddexp(total, weight)
        bounds.append(math.log(draws) - total)
    return _bits(model, torch.cat(bounds))


@torch.no_grad()
def sample(model: Vae, shape: Sequence[int], key: Key, draw: bool = False) -> Tensor:
    """Images from latents of the prior.  L-1-arch.

    Args:
        model: The autoencoder.
        shape: [B, C, H, W], B one for each sample of the key.
        key: Where the draw is used: latents are of the stream INITIAL_NOISE, pixels, where they
            are drawn, of SAMPLING_NOISE.
        draw: Whether each pixel is drawn from its law, as a grey level; otherwise it is the middle
            of that law, cut to [-1, 1].

    Returns:
        float32 [B, C, H, W] in [-1, 1].

    Raises:
        ValueError: the shape is not that of the model and the key.
    """
    allowed = (len(key.sample), *model.image_shape)
    if tuple(shape) != allowed:
        raise ValueError(f"shape = {list(shape)}: allowed is {list(allowed)}")
    # Sums of a matrix product depend on how many are drawn at once; rounded from float64, pictures
    # do not.
    decoder = copy.deepcopy(model).double()
    location, log_scale = decoder.decode(_noise(key, Stream.INITIAL_NOISE, model.config.latent))
    if not draw:
        return location.clamp(-1, 1).float()
    word = words(key.seed, key.step, key.sample, Stream.SAMPLING_NOISE, model.dimensions)
    share = (word.double() + 0.5) / 2**32
    pixels = location + torch.exp(log_scale) * torch.logit(share).view(allowed)
    return to_float(to_levels(pixels, model.grey_levels), model.grey_levels)


def _noise(key: Key, stream: Stream, size: int) -> Tensor:
    return normal(key.seed, key.step, key.sample, stream, [size], torch.float32)


def _parts(model: Vae, images: Tensor, seed: int, draws: int) -> Iterator[tuple[Tensor, list[Key]]]:
    """Some images on [-1, 1] at a time, and the keys of their draws.

    Raises:
        InputError: there are no images or no draws.
    """
    check(len(images) >= 1, "number of images", len(images), "at least 1")
    check(draws >= 1, "draws", draws, "an integer of at least 1")
    whole = [Key.of(seed, range(len(images)), step, images.device) for step in range(draws)]
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        yield (
            model.values(images[part]),
            [Key(key.seed, key.step, key.sample[part]) for key in whole],
        )


def _bits(model: Vae, nats: Tensor) -> float:
    """Average of nats of whole images, in bits per dimension."""
    return float(nats.mean()) / model.dimensions / NATS_PER_BIT
