"""Pictures that samples follow on the way, and their noisy versions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key


def check_pictures(name: str, pictures: Tensor) -> None:
    """Refuse what is no batch of pictures in [-1, 1].

    Raises:
        InputError: naming what is wrong.
    """
    if pictures.dtype != torch.float32 or pictures.ndim != 4 or pictures.numel() == 0:
        raise InputError(
            f"{name} is {pictures.dtype} {tuple(pictures.shape)}: allowed is torch.float32 "
            "[N, C, H, W] with N >= 1"
        )
    largest = float(pictures.abs().max())
    check(largest <= 1, name, largest, "finite values in [-1, 1], this being the farthest from 0")


def check_fits(name: str, pictures: Tensor, image_shape: Sequence[int]) -> None:
    """Refuse pictures of another shape than that of the samples.

    Args:
        name: Of the pictures, as the user knows it.
        pictures: [N, C, H, W].
        image_shape: (C, H, W) of the samples.

    Raises:
        InputError: naming both shapes.
    """
    if tuple(pictures.shape[1:]) != tuple(image_shape):
        raise InputError(
            f"{name} has pictures of shape {tuple(pictures.shape[1:])}: allowed is that of the "
            f"samples, {tuple(image_shape)}"
        )


def followed(pictures: Tensor, key: Key) -> Tensor:
    """The picture that each sample of a key follows: sample i follows picture i % N.

    Args:
        pictures: [N, ...].
        key: Its sample indices are [B].

    Returns:
        [B, ...] on the device of the key.
    """
    return pictures.to(key.sample.device)[key.sample % len(pictures)]


def noisy(diffusion: GaussianDiffusion, pictures: Tensor, s: int, key: Key) -> Tensor:
    """Draw pictures at level s, themselves at level 0.  G-51.

    The noise is a function of (seed, level, sample), drawn apart from that of the sampler; it does
    not read the step of the key.

    Args:
        diffusion: The process.
        pictures: float32 [B, ...] in [-1, 1].
        s: Level in 0..T.
        key: Its seed and sample indices [B].
    """
    if s == 0:
        return pictures
    t = torch.full_like(key.sample, s)
    size = list(pictures.shape[1:])
    noise = normal(key.seed, t, key.sample, Stream.CONDITION_NOISE, size, torch.float32)
    return diffusion.q_sample(pictures, t, noise)
