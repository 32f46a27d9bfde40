# Device functions have no Python types: triton gives them theirs when it compiles them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""How kernels are launched: one table of block sizes per architecture, and one flat grid.

A program handles one block of one sample. Results of elementwise kernels do not depend on the
block; sums depend on it in their rounding only.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_PROGRAMS = 2**31 - 1


@triton.jit
def place(SIZE: tl.constexpr, LENGTH: tl.constexpr):
    """Sample and first element of a program of the flat grid, int64, LENGTH elements each."""
    PARTS: tl.constexpr = (SIZE + LENGTH - 1) // LENGTH
    program = tl.program_id(0)
    return (program // PARTS).to(tl.int64), (program % PARTS).to(tl.int64) * LENGTH


@triton.jit
def at_level(table_ptr, t, levels):
    """Entry t of a table, NaN where t is outside 0..levels - 1."""
    return tl.load(table_ptr + t, mask=(t >= 0) & (t < levels), other=float("nan"))


@dataclass(frozen=True)
class Launch:
    """Elements handled at a time by one program, and its warps."""

    block: int
    """Elements, a power of two."""
    num_warps: int
    """Warps of 32 threads (64 on AMD)."""


# Elements per program at most, and elements per thread. Thirty-two elements are eight Philox
# counters: they spread the key schedule and the addresses thin and still stay in registers.
TABLE: dict[str, tuple[int, int]] = {
    "cuda:80": (2048, 32),
    "cuda:90": (2048, 32),
    "cuda:100": (2048, 32),
    "hip:gfx942": (2048, 32),
    "interpreter": (256, 16),
}
DEFAULT = "cuda:90"


@lru_cache(maxsize=64)
def architecture(device: torch.device) -> str:
    """Name the row of the table for a device; "interpreter" for the CPU."""
    if device.type == "cpu":
        return "interpreter"
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        name = f"hip:{properties.gcnArchName.split(':')[0]}"
    else:
        name = f"cuda:{properties.major}{properties.minor}"
    return name if name in TABLE else DEFAULT


@lru_cache(maxsize=1024)
def choose(name: str, size: int, times: int = 1) -> Launch:
    """Pick the block for samples of a size: a divisor of it where a large one exists.

    Args:
        name: row of the table.
        size: elements per sample, at least 1.
        times: elements per thread as a multiple of the table's, a power of two: kernels that draw
            and hold little else have registers for more, and fewer instructions per element then.

    Returns:
        The launch; the block is never much larger than the sample.
    """
    limit, per_thread = TABLE[name]
    divisor = min(limit, size & -size)
    block = divisor if divisor >= limit // 8 else min(limit, 1 << max(2, (size - 1).bit_length()))
    threads = 64 if name.startswith("hip") else 32
    return Launch(block, max(1, min(8, block // (threads * per_thread * times))))


def grid(batch: int, blocks: int) -> tuple[int]:
    """Flat grid over (sample, block), so that the batch may exceed 65,535.

    Raises:
        ValueError: more programs than one launch can have.
    """
    if batch * blocks > MAX_PROGRAMS:
        raise ValueError(
            f"batch of {batch} samples in {blocks} blocks each; allowed: {MAX_PROGRAMS} blocks"
        )
    return (batch * blocks,)


def sizes(x: Tensor) -> tuple[int, int]:
    """Give (batch, elements per sample) of a tensor [B, ...]."""
    batch = x.shape[0]
    return batch, x.numel() // max(1, batch)
