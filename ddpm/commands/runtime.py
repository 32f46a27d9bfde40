"""Device and threads of the commands."""

import os

import torch

from ddpm.errors import InputError, check

SMALL_WORK = 1 << 18
"""Activations in one feature map of a batch below which a second thread mostly waits."""


def resolve_device(name: str) -> torch.device:
    """The device to use: "auto" is a GPU where there is one.

    Raises:
        InputError: the name is unknown, or it is "cuda" and there is no GPU.
    """
    check(name in ("auto", "cpu", "cuda"), "device", name, "auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device = 'cuda': this torch finds no GPU here; allowed is auto or cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_threads(activations: int) -> int:
    """Threads for a network whose widest feature map holds this many activations in a batch.

    Threads meet at a barrier after every layer. Where a layer is small they mostly wait there, and
    beside another busy process they wait for a core; then one thread is both faster and steadier.
    """
    cores = len(os.sched_getaffinity(0))
    return 1 if activations < SMALL_WORK else cores
