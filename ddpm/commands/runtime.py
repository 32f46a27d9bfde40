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
    For a larger one there are as many as OMP_NUM_THREADS says, or else as this machine has cores
    for each process of the job.
    """
    return 1 if activations < SMALL_WORK else max(1, _threads_allowed())


def _threads_allowed() -> int:
    # Lists such as "4,2" are for nested parallel regions; what is no number is ignored by OpenMP.
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if outermost.isdecimal() and int(outermost) > 0:
        return int(outermost)
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return len(os.sched_getaffinity(0)) // (int(here) if here.isdecimal() and int(here) else 1)
