"""Machine instructions of NVIDIA and AMD as one kind of listing.

What a listing tells of an instruction is what the static laboratory counts: its class, where it may
jump, and how many bytes of global memory it moves for a lane. An access belongs to the body of a
kernel where its address depends on the lane; any other is the same for the whole program.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

CLASSES = ("float", "integer", "special", "memory", "other")
"""Arithmetic; whole numbers and bits; conversions and special functions; memory; moves, control."""


@dataclass(frozen=True)
class Instruction:
    """One machine instruction."""

    name: str
    """With its suffixes, as in "LDG.E.128"."""
    kind: str
    """One of `CLASSES`, or "" for one that only waits and is not counted."""
    reads: frozenset[str] = frozenset()
    """Registers."""
    writes: frozenset[str] = frozenset()
    """Registers."""
    always: bool = True
    """Whether the registers are written whatever a predicate says."""
    access: str = ""
    """"ld", "st" or "at" (atomic) for an access of global memory, else ""."""
    width: int = 0
    """Bytes that the access moves for one lane."""
    address: frozenset[str] = frozenset()
    """Registers that make up the address of the access."""
    target: int | None = None
    """Index of the instruction to which it may jump."""
    falls: bool = True
    """Whether the next instruction may follow."""
    ends: bool = False
    """Whether the kernel may end here."""
    step: "Step | None" = None
    """What it does with whole numbers, where it is that simple."""


@dataclass(frozen=True)
class Step:
    """What an instruction does with whole numbers, where it is simple enough to be followed."""

    action: str
    """"set" to a value, "add" a value to a source, or a comparison of the source with a value:
    "lt", "le", "gt", "ge", "ne", "eq"."""
    value: int
    """Constant, as an unsigned word of 32 bits."""
    register: str = ""
    """Where the result goes, unless it is a comparison."""
    source: str = ""
    """Register, "" for none."""
    signed: bool = False
    """How a comparison reads the two words."""


@dataclass(frozen=True)
class Listing:
    """Instructions of a kernel in the order of their addresses."""

    instructions: tuple[Instruction, ...]
    registers: int
    spill_bytes: int
    """Of a thread: stack, local memory and registers kept in memory."""
    by_lane: frozenset[int]
    """Indices of the accesses whose address depends on the lane."""


class Blocks:
    """Pieces of code that are run from their start to their end."""

    END = -1
    """Stands for the end of the kernel where a block is meant."""

    def __init__(self, code: Sequence[Instruction]) -> None:
        """Cut code into blocks; each is named by the index of its first instruction."""
        found = {0}
        for index, instruction in enumerate(code):
            if instruction.target is not None:
                found.add(instruction.target)
            if instruction.target is not None or instruction.ends or not instruction.falls:
                found.add(index + 1)
        starts = sorted(start for start in found if start < len(code))
        self.code = code
        self.ends = dict(zip(starts, [*starts[1:], len(code)], strict=True))

    def successors(self, block: int) -> list[int]:
        """Blocks that may follow, `END` among them."""
        last = self.code[self.ends[block] - 1]
        found = [self.END] if last.ends else []
        if last.target is not None:
            found.append(last.target)
        if last.falls and self.ends[block] < len(self.code):
            found.append(self.ends[block])
        return found

    def predecessors(self) -> dict[int, set[int]]:
        """Blocks that lead to each block that can be reached."""
        before: dict[int, set[int]] = {0: set()}
        waiting = [0]
        while waiting:
            block = waiting.pop()
            for target in self.successors(block):
                if target != self.END:
                    if target not in before:
                        waiting.append(target)
                    before.setdefault(target, set()).add(block)
        return before


def follow(
    instructions: Sequence[Instruction],
    lane: Callable[[Instruction], bool],
    uniform: Callable[[Instruction], bool],
    start: Iterable[str] = (),
) -> frozenset[int]:
    """Find the accesses whose address depends on the number of the lane.

    Args:
        instructions: of one kernel.
        lane: whether an instruction reads the number of the lane.
        uniform: whether what an instruction writes is the same for all lanes of a warp.
        start: registers that hold the number of the lane from the start.

    Returns:
        Indices of accesses, on whatever way the address came to depend on it.
    """
    blocks = Blocks(instructions)
    # Registers that depend on the lane at the start of each block, on one of the ways to it.
    at_start = {0: set(start)}
    found = set()
    waiting = [0]
    while waiting:
        block = waiting.pop()
        varying = set(at_start[block])
        for index in range(block, blocks.ends[block]):
            instruction = instructions[index]
            if instruction.access and instruction.address & varying:
                found.add(index)
            if lane(instruction) or (instruction.reads & varying and not uniform(instruction)):
                varying |= instruction.writes
            elif instruction.always:
                varying -= instruction.writes
        for target in set(blocks.successors(block)) - {Blocks.END}:
            if target not in at_start or not varying <= at_start[target]:
                at_start.setdefault(target, set()).update(varying)
                waiting.append(target)
    return frozenset(found)
