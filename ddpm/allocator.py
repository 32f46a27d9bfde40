"""The C library's memory: what a network frees on the CPU stays for its next call."""

import ctypes
import os
from functools import cache

import torch

MMAP_MAX, MMAPS = -4, 0
"""M_MMAP_MAX of malloc.h, and the value by which large arrays come out of the heap as well."""

TRIM_THRESHOLD, NEVER = -1, -1
"""M_TRIM_THRESHOLD of malloc.h, and the value by which the heap is not given back."""

SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")
"""Environment variables by which a user says the same to glibc; GLIBC_TUNABLES is the fourth."""


def keep_memory(device: torch.device) -> bool:
    """Let the C library keep freed memory, so that a network's arrays are not fetched anew.

    glibc takes large arrays from the system and gives them back at once. The system clears every
    page of them at its first touch, which costs a U-Net about a fifth of its time. This holds for
    the whole process and changes no number; memory once taken stays with the process, which needs
    it again for the next update or step.

    Args:
        device: Where the network lives; only the CPU is concerned.

    Returns:
        Whether memory is kept. False on another device, with another C library, and where the
        environment has one of the settings already, which is then left alone.
    """
    return device.type == "cpu" and _keep()


@cache
def _keep() -> bool:
    if any(name in os.environ for name in SETTINGS):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(MMAP_MAX, MMAPS)) and bool(mallopt(TRIM_THRESHOLD, NEVER))
