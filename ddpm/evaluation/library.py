"""torchmetrics and torch-fidelity, imported where used: that takes seconds, and many lack them."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

from ddpm.errors import InputError
from ddpm.extras import require_extra


def metrics_installed() -> bool:
    """Whether torchmetrics can be found."""
    return find_spec("torchmetrics") is not None


def library_module(name: str) -> ModuleType:
    """A module of one of the two, such as "torchmetrics.image.fid".

    Raises:
        InputError: it is not installed, or cannot be imported.
    """
    package = name.split(".")[0]
    require_extra("comparing images by features", "eval", package)
    with warnings.catch_warnings():
        # What it and its own dependencies warn of on the way in is no business of the user's.
        warnings.simplefilter("ignore")
        try:
            _let_torchvision_in()
            return import_module(name)
        except (ImportError, RuntimeError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{package} is installed but cannot be imported: {reason}") from None


def _let_torchvision_in() -> None:
    """Declare the two operators without which torchvision cannot be imported.

    Both libraries import torchvision where it is installed. Wheels of torchvision from PyPI are
    built for CUDA; beside a CPU build of torch their operators do not load, and the import fails
    on the first of them that it looks for. Nothing here calls them.
    """
    if find_spec("torchvision") is None:
        return
    try:
        import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)
