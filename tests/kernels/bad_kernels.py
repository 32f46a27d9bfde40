"""Kernels with one fault each, compiled by a process of its own to show that each is noticed."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from ddpm.kernels.gpu.ahead_of_time import measure
from ddpm.kernels.gpu.cases import Case, Inputs

BLOCK = 2048


@triton.jit
def add_kernel(out_ptr, x_ptr, y_ptr, SIZE: tl.constexpr, BLOCK: tl.constexpr, HOW: tl.constexpr):
    """Add y to x, a block for each program, with the fault that HOW names."""
    lane = tl.arange(0, BLOCK)
    if HOW == "narrow offsets":
        at = tl.program_id(0) * BLOCK + lane
    elif HOW == "offsets widened too late":
        at = (tl.program_id(0) * BLOCK).to(tl.int64) + lane
    else:
        at = tl.program_id(0).to(tl.int64) * BLOCK + lane
    mask = at < SIZE
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if HOW == "a spilling block":
        # Sorting keeps everything alive, in more registers than a thread may have here.
        x = tl.sort(x) + y
    total = x + y
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=mask)
    if HOW == "an extra pass":
        tl.debug_barrier()
        again = tl.load(out_ptr + at, mask=mask, other=0.0)
        tl.store(out_ptr + at, again + again, mask=mask)


@triton.jit
def sum_kernel(out_ptr, x_ptr, SIZE: tl.constexpr, BLOCK: tl.constexpr, TIMES: tl.constexpr):
    """Sum every sample, one for each program, and read it TIMES times in a loop for that."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for _ in range(TIMES):
        for start in range(0, SIZE, BLOCK):
            total += tl.load(x_ptr + (row * SIZE + start + lane), volatile=True)
    tl.store(out_ptr + row, tl.sum(total, 0))


def _add(inputs: Inputs, how: str) -> Callable[[], None]:
    def shifted() -> Tensor:
        whole = torch.zeros(inputs.elements + 1, dtype=inputs.dtype)
        return whole[1:] if how == "an unaligned pointer" else whole[:-1]

    out, x, y = shifted(), shifted(), shifted()
    warps = 1 if how == "a spilling block" else 2
    options = {"maxnreg": 32} if how == "a spilling block" else {}

    def call() -> None:
        grid = (inputs.elements // BLOCK,)
        for _ in range(2 if how == "two launches" else 1):
            add_kernel[grid](
                out, x, y, SIZE=inputs.elements, BLOCK=BLOCK, HOW=how, num_warps=warps, **options
            )
        if how == "a kernel of torch":
            out.add_(1.0)

    return call


def _sum(inputs: Inputs, times: int) -> Callable[[], None]:
    out, x = torch.zeros(inputs.batch), inputs.data()
    size = inputs.elements // inputs.batch

    def call() -> None:
        sum_kernel[(inputs.batch,)](out, x, SIZE=size, BLOCK=BLOCK, TIMES=times, num_warps=2)

    return call


FAULTS = (
    "",
    "narrow offsets",
    "offsets widened too late",
    "an unaligned pointer",
    "an extra pass",
    "two launches",
    "a kernel of torch",
    "a spilling block",
)


def main() -> None:
    """Print one line of JSON for each faulty kernel and architecture."""
    cases = [Case(how, partial(_add, how=how), 3) for how in FAULTS]
    cases += [Case("one reading", partial(_sum, times=1), 1)]
    cases += [Case("three readings", partial(_sum, times=3), 1)]
    for arch in sys.argv[1:]:
        # Registers cannot be limited by that option on AMD.
        kept = [c for c in cases if c.name != "a spilling block" or arch.startswith("sm_")]
        for measured in measure([(case, "fp32") for case in kept], arch):
            line = asdict(measured) | {"faults": measured.faults}
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
