"""Samples that take over the coarse part of a picture.  G-Alg3, G-ILVR-phi."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ilvr:
    """Pictures to take the coarse part of.

    Attributes:
        reference: float32 [N, C, H, W] in [-1, 1]; picture i of a run follows row i % N.
        factor: Side of the squares of pixels that are averaged, at least 2.
    """

    reference: Tensor
    factor: int = 4
