"""Where benchmarks run, and how work on a GPU is waited for."""

from collections.abc import Callable
from typing import Any

import torch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def synchronised(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """Wait for the device, so that work is timed and not its submission."""

    def timed() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return timed
