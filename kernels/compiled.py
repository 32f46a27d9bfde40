"""Whether the loops that numba compiles take the place of torch operations on the CPU.

They are an extra, `pip install 'ddpm-proven[cpu]'`: without numba, or with NUMBA_DISABLE_JIT=1,
torch computes the same numbers, to the bit but for the values of a loss: it sums them in another
order, and near the true variance it keeps fewer digits of the bound.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor


@cache
def available() -> bool:
    """Whether numba is installed and not switched off."""
    if find_spec("numba") is None:
        return False
    from ddpm.kernels.cpu import compiling

    return not compiling.DISABLED


def ready() -> bool:
    """Whether compiled loops may be called: they are there, and no compiler traces the call."""
    return not torch.compiler.is_compiling() and available()


def fit(*tensors: Tensor | None) -> bool:
    """Whether compiled loops may read these: float32 of the CPU, and the loops are ready."""
    for x in tensors:
        if x is not None and not (x.dtype is torch.float32 and x.is_cpu):
            return False
    return ready()
