"""Pictures that samples follow on the way, and their noisy versions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream
from ddpm.keys import Key


@dataclass(frozen=True, eq=False)
class Following:
    """Pictures that the samples of a run follow.

    Attributes:
        reference: float32 [N, C, H, W] in [-1, 1]; picture i of a run follows row i % N.

    Raises:
        InputError: it is no such batch of pictures.
    """

    reference: Tensor

    def __post_init__(self) -> None:
        dtype, shape = self.reference.dtype, tuple(self.reference.shape)
        if dtype != torch.float32 or len(shape) != 4 or 0 in shape:
            raise InputError(
                f"reference is {dtype} {shape}: allowed is torch.float32 [N, C, H, W] with N >= 1"
            )
        largest = float(self.reference.abs().max())
        allowed = "finite values in [-1, 1], this being the farthest from 0"
        check(largest <= 1, "reference", largest, allowed)

    def check(self, image_shape: Sequence[int]) -> None:
        """Refuse samples of another shape.

        Args:
            image_shape: (C, H, W) of the samples.

        Raises:
            InputError: naming both shapes.
        """
        shape = tuple(self.reference.shape[1:])
        if shape != tuple(image_shape):
            raise InputError(
                f"reference has pictures of shape {shape}: allowed is that of the samples, "
                f"{tuple(image_shape)}"
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
