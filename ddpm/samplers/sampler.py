"""The choice of a sampler: its name, its levels and what else can be set."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm.samplers.ilvr import Ilvr


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How to draw pictures.

    Attributes:
        name: One of `ddpm.samplers.catalogue.CATALOGUE`.
        steps: Number of levels to visit; None for all of them.
        spacing: Where these lie, see `ddpm.samplers.levels.spaced`.
        levels: The levels themselves, strictly decreasing to 0, in place of steps and spacing.
        eta: Share of fresh noise, for ddim: 0 is deterministic and 1 ancestral.
        variance: Of an ancestral step; None for that of the training.
        sde: Coordinates of a solver, "vp", "ve" or "sub-vp"; None for its own.
        guidance: Scale of classifier-free guidance; 1 for none, 0 for no classes.
        label: Class of all pictures; None for each class in turn.
        ilvr: Pictures whose coarse part the samples take over, or None.
    """

    name: str = "ancestral"
    steps: int | None = None
    spacing: str = "trailing"
    levels: tuple[int, ...] | None = None
    eta: float = 0.0
    variance: str | None = None
    sde: str | None = None
    guidance: float = 1.0
    label: int | None = None
    ilvr: Ilvr | None = None

    def labels(self, pictures: Sequence[int], classes: int) -> Tensor | None:
        """Classes of pictures by their numbers, int64, on the CPU; None without classes."""
        if not classes:
            return None
        number = torch.tensor(list(pictures), dtype=torch.int64)
        return number % classes if self.label is None else torch.full_like(number, self.label)
