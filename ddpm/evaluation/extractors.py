"""Feature extractors by name: what the Frechet and kernel distances compare images by.

An extractor is a module of uint8 RGB images [B, 3, H, W] in 0..255 that returns features [B, D]:
what torchmetrics and torch-fidelity call one, so that theirs fit here and ours fit there.
"""

import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.data.images import ImageData
from ddpm.errors import InputError, check
from ddpm.evaluation.arrays import Images, representative
from ddpm.evaluation.inception import inception
from ddpm.evaluation.small_features import SmallFeatures
from ddpm.extras import require_extra

NAMES = ("small", "pixels", "inception")
ALLOWED = f"{', '.join(NAMES)} or MODULE:ATTRIBUTE of your own"
PIXELS_SIDE = 16
"""Larger images are averaged down to this side: a covariance of more values has no inverse."""
BATCH = 256


class PixelFeatures(nn.Module):
    """The grey levels themselves, in [0, 1]; larger images averaged down to 16 x 16."""

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 [B, 3, H, W] to float32 [B, D]."""
        height, width = (min(PIXELS_SIDE, side) for side in images.shape[2:])
        return F.adaptive_avg_pool2d(images.float() / 255, (height, width)).flatten(1)


def check_features(name: str) -> None:
    """Refuse an extractor that is not there, before any work is done for it.

    Raises:
        InputError: the name is unknown, its module or weights cannot be found, or torchmetrics,
            which does the comparing, is not installed.
    """
    require_extra("comparing images by features", "eval", "torchmetrics")
    if name == "inception":
        inception()
    elif name not in NAMES:
        _of_the_user(name)


def extractor(name: str, data: ImageData, device: torch.device) -> nn.Module:
    """The extractor of a name, on a device, in evaluation mode.

    Args:
        name: "small", "pixels", "inception", or "module:attribute", where the attribute is a module
            or returns one when called with nothing.
        data: What the model was trained on; "small" is fitted to its training images, to at most
            10,000 of them.
        device: Where it computes.

    Raises:
        InputError: the name is unknown, or its module or weights cannot be used.
    """
    if name == "small":
        chosen = data.train[representative(data.train)]
        found: nn.Module = SmallFeatures(as_rgb(chosen, data.levels))
    elif name == "pixels":
        found = PixelFeatures()
    else:
        found = inception() if name == "inception" else _of_the_user(name)
    return found.to(device).eval()


def as_rgb(images: Images, levels: int) -> Tensor:
    """Grey levels 0..levels-1, [N, 1 or 3, H, W], as uint8 [N, 3, H, W] in 0..255."""
    array = torch.as_tensor(images)
    table = torch.round(torch.arange(256) * (255 / (levels - 1))).clamp(0, 255).to(torch.uint8)
    return table[array.long()].expand(-1, 3, -1, -1)


@torch.no_grad()
def features(network: nn.Module, images: Images, levels: int, device: torch.device) -> Tensor:
    """Features of images, some at a time.

    Args:
        network: An extractor.
        images: uint8 [N, C, H, W], N >= 1, grey levels 0..levels-1, C = 1 or 3.
        levels: Number of grey levels, 2..256.
        device: Where the extractor computes.

    Returns:
        float64 [N, D] on the CPU.

    Raises:
        InputError: what the extractor returns is not one row of finite numbers for each image.
    """
    parts = []
    for first in range(0, len(images), BATCH):
        batch = as_rgb(images[first : first + BATCH], levels)
        found = network(batch.to(device))
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(batch):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"features returns {got}: allowed is a tensor ({len(batch)}, D)")
        if not (found.is_floating_point() and bool(found.isfinite().all())):
            raise InputError("features returns values that are not finite floating-point numbers")
        parts.append(found.double().cpu())
    return torch.cat(parts)


def _of_the_user(name: str) -> nn.Module:
    """What stands under MODULE:ATTRIBUTE; the working folder is looked through last."""
    module, _, attribute = name.partition(":")
    check(bool(module) and bool(attribute), "features", name, ALLOWED)
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        found = getattr(import_module(module), attribute)
        if not isinstance(found, nn.Module) and callable(found):
            found = found()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"features = {name!r}: {error}; allowed is {ALLOWED}") from None
    finally:
        sys.path.remove(here)
    what = type(found).__name__
    if not isinstance(found, nn.Module):
        raise InputError(f"features = {name!r} is a {what}: allowed is a torch.nn.Module")
    return found
