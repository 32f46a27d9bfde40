"""The ratios that the CPU implementation is held to, and whether a run reached them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ddpm.bench.peer_calls import DIFFUSERS, LUCIDRAINS
from ddpm.bench.timed import Row
from ddpm.bench.workloads import LARGE, MIDDLE, SMALL

RANDN = "torch.randn"


@dataclass(frozen=True)
class Target:
    """A ratio to reach.

    Attributes:
        op: The operation.
        shape: Of the batch.
        against: The contender.
        at_least: Its time over ours.
        reached: What a run found; None where that row did not run.
    """

    op: str
    shape: tuple[int, ...]
    against: str
    at_least: float
    reached: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where its row did not run."""
        return None if self.reached is None else self.reached >= self.at_least


HYBRID, DDPM, DDIM = "hybrid loss", "DDPM step, noise drawn", "DDIM step, eta = 0"

TARGETS = (
    Target(HYBRID, MIDDLE, LUCIDRAINS, 4.0),
    Target(HYBRID, SMALL, LUCIDRAINS, 1.0),
    Target(DDIM, LARGE, DIFFUSERS, 1.5),
    Target(DDIM, SMALL, DIFFUSERS, 1.0),
    Target(DDPM, LARGE, DIFFUSERS, 1.5),
    Target(DDPM, SMALL, DIFFUSERS, 1.0),
    Target("simple loss, eps", MIDDLE, DIFFUSERS, 1.0),
    Target("simple loss, eps", SMALL, DIFFUSERS, 1.0),
    Target("normals", LARGE, RANDN, 0.5),
)


def compared(rows: Sequence[Row]) -> list[Target]:
    """The targets whose operation was part of a run on a CPU, with what it found."""
    found = {
        (row.op, row.shape, row.contender): row.ratio
        for row in rows
        if row.device == "cpu" and row.dtype == "float32"
    }
    return [
        Target(t.op, t.shape, t.against, t.at_least, found[key])
        for t in TARGETS
        if (key := (t.op, t.shape, t.against)) in found
    ]
