# Compiled functions have no Python types: numba gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""What the compiled loops compare a prediction with: factor times source, less sigma x_0 for v."""

from numba import float32
from torch import Tensor

from ddpm.kernels.cpu.compiling import inlined

# What the source is multiplied with in the target: 1, signal, or -1 over sigma.
_PLAIN, _ROTATED, _SCORE = 0, 1, 2


def kind_of(x0: Tensor | None, score: bool) -> int:
    """Name the target to the loops: with x0 it is v, otherwise the source or the score."""
    if score:
        return _SCORE
    return _PLAIN if x0 is None else _ROTATED


@inlined
def factor(kind, signal, sigma):
    """Give what the source is multiplied with at a level."""
    if kind == _SCORE:
        return -(float32(1.0) / sigma)
    return signal if kind == _ROTATED else float32(1.0)
