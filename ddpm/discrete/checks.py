"""What the process refuses before it computes; values are looked at on a CPU only.

Elsewhere reading them would be a wait for the device.
"""

import torch
from torch import Tensor


def check_images(images: Tensor, grey_levels: int) -> None:
    """Refuse what is not a batch of grey levels.

    Raises:
        ValueError: naming shape and type, or the largest value.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or min(images.shape[1:]) < 1:
        raise ValueError(
            f"images have shape {list(images.shape)} and type {images.dtype}: allowed is "
            "[B, C, H, W] and torch.uint8"
        )
    if images.is_cpu and len(images) and int(images.max()) >= grey_levels:
        raise ValueError(f"images reach {int(images.max())}: allowed is 0 to {grey_levels - 1}")


def check_levels_of(t: Tensor, batch: int, lowest: int, steps: int) -> None:
    """Refuse what is not one level in lowest..T for each image.

    Raises:
        ValueError: naming shape and type, or the range.
    """
    if t.dtype != torch.int64 or t.shape != (batch,):
        raise ValueError(
            f"t has shape {list(t.shape)} and type {t.dtype}: allowed is [{batch}] and torch.int64"
        )
    if t.is_cpu and batch and not lowest <= int(t.min()) <= int(t.max()) <= steps:
        raise ValueError(
            f"t lies in [{int(t.min())}, {int(t.max())}]: allowed is {lowest} to T = {steps}"
        )
