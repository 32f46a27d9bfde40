"""What the ways through a kernel cost, loops multiplied out.

Loops are recognised from backward jumps and their trips from the constants of their counters.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from ddpm.kernels.gpu.disassembly import Blocks, Instruction, Listing, Step

_MOST_TRIPS = 4096


@dataclass(frozen=True)
class Cost:
    """What one thread does on one way through a piece of code."""

    instructions: Counter[str] = field(default_factory=Counter)
    """By class."""
    accesses: Counter[str] = field(default_factory=Counter)
    """Accesses of the body by kind and bytes, as in "ld16"."""
    scalar_bytes: int = 0
    """Of global memory, the same for all threads of a program."""

    @property
    def total(self) -> int:
        """All instructions."""
        return sum(self.instructions.values())

    @property
    def body_bytes(self) -> int:
        """Bytes that the thread moves in the body."""
        return sum(int(name[2:]) * count for name, count in self.accesses.items())

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other."""
        return Cost(
            self.instructions + other.instructions,
            self.accesses + other.accesses,
            self.scalar_bytes + other.scalar_bytes,
        )

    def times(self, count: int) -> "Cost":
        """Again and again."""
        instructions = Counter({k: v * count for k, v in self.instructions.items()})
        accesses = Counter({k: v * count for k, v in self.accesses.items()})
        return Cost(instructions, accesses, self.scalar_bytes * count)


def ways(listing: Listing) -> list[Cost]:
    """Give what the ways through a kernel cost.

    Of the ways that move the same bytes, only the shortest and the longest are kept.

    Args:
        listing: of a kernel.

    Returns:
        Costs, at least one, the fewest instructions first.

    Raises:
        RuntimeError: a loop whose trips are not constants of the code.
    """
    found = [cost for cost, target in _Walk(listing).leave(0, None) if target == Blocks.END]
    return sorted(found, key=lambda cost: cost.total)


class _Walk:
    """Walks through the blocks of a kernel."""

    def __init__(self, listing: Listing) -> None:
        self.code = listing.instructions
        self.by_lane = listing.by_lane
        self.blocks = Blocks(self.code)
        self.loops = self._loops()
        self.known: dict[tuple[int, int | None], list[tuple[Cost, int]]] = {}

    def leave(self, block: int, header: int | None) -> list[tuple[Cost, int]]:
        """Costs from the start of a block, each with where the way leaves the loop of a header.

        Where a way goes back to the header, that is where it leaves.
        """
        key = block, header
        if key not in self.known:
            inside = self.loops[header] if header is not None else set(self.blocks.ends)
            found = []
            for cost, target in self._first(block, header):
                if target in (Blocks.END, header) or target not in inside:
                    found.append((cost, target))
                else:
                    rest = self.leave(target, header)
                    found += [(cost + later, last) for later, last in rest]
            self.known[key] = _fewer(found)
        return self.known[key]

    def _first(self, block: int, header: int | None) -> list[tuple[Cost, int]]:
        """Costs of a block, or of the whole loop that it starts, with where they lead."""
        if block not in self.loops or block == header:
            return [(self._cost(block), target) for target in self.blocks.successors(block)]
        inside = self.leave(block, block)
        again = [cost for cost, target in inside if target == block]
        out = [(cost, target) for cost, target in inside if target != block]
        repeated = trips(self.code, min(self.loops[block]), self._last(block)) - 1
        return [(a.times(repeated) + o, target) for a, (o, target) in product(again, out)]

    def _cost(self, block: int) -> Cost:
        instructions: Counter[str] = Counter()
        accesses: Counter[str] = Counter()
        scalar = 0
        for index in range(block, self.blocks.ends[block]):
            instruction = self.code[index]
            if instruction.kind:
                instructions[instruction.kind] += 1
            if instruction.access and index in self.by_lane:
                accesses[f"{instruction.access}{instruction.width}"] += 1
            elif instruction.access:
                scalar += instruction.width
        return Cost(instructions, accesses, scalar)

    def _last(self, header: int) -> int:
        """Index after the last instruction of a loop."""
        return max(self.blocks.ends[block] for block in self.loops[header])

    def _loops(self) -> dict[int, set[int]]:
        """Blocks of every loop, by the block that it starts with."""
        before = self.blocks.predecessors()
        through = _dominators(before)
        loops: dict[int, set[int]] = {}
        for header in sorted(before):
            # Not every jump backwards is a loop: a block may stand anywhere.
            waiting = [block for block in before[header] if header in through[block]]
            if waiting:
                members = loops.setdefault(header, {header})
                while waiting:
                    block = waiting.pop()
                    if block not in members:
                        members.add(block)
                        waiting += before[block]
        return loops


def _dominators(before: dict[int, set[int]]) -> dict[int, set[int]]:
    """Blocks that every way from the start to a block leads through, itself included."""
    through = {block: set(before) for block in before}
    through[0] = {0}
    changed = True
    while changed:
        changed = False
        for block in sorted(before.keys() - {0}):
            found = set.intersection(*(through[b] for b in before[block])) | {block}
            changed |= found != through[block]
            through[block] = found
    return through


def _fewer(found: list[tuple[Cost, int]]) -> list[tuple[Cost, int]]:
    """Keep the shortest and the longest of the ways that lead to one place with the same bytes."""
    groups: dict[tuple[int, int], list[Cost]] = {}
    for cost, target in found:
        groups.setdefault((target, cost.body_bytes), []).append(cost)
    kept = []
    for (target, _), costs in groups.items():
        short = min(costs, key=lambda cost: (cost.total, cost.scalar_bytes))
        long = max(costs, key=lambda cost: (cost.total, cost.scalar_bytes))
        kept += [(cost, target) for cost in ((short,) if short is long else (short, long))]
    return kept


def trips(code: Sequence[Instruction], first: int, last: int) -> int:
    """Count how often a loop starts, by following whole numbers from the start of the kernel.

    Args:
        code: instructions of the kernel.
        first: index of the first instruction of the loop.
        last: index after the last one.

    Returns:
        Trips, at least 1.

    Raises:
        RuntimeError: no comparison of constants ever comes out differently.
    """
    known: dict[str, int] = {}
    _follow(code[:first], known)
    before: dict[int, bool] = {}
    for count in range(1, _MOST_TRIPS):
        outcomes = _follow(code[first:last], known)
        if not outcomes:
            break
        # The test of an inner loop comes out alike each time.
        if any(before.get(place, outcome) != outcome for place, outcome in outcomes.items()):
            return count
        before = outcomes
    raise RuntimeError(f"the trips of the loop at instructions {first} to {last} are not constants")


def _follow(code: Sequence[Instruction], known: dict[str, int]) -> dict[int, bool]:
    """Follow whole numbers once through instructions, and give the outcomes of comparisons."""
    outcomes = {}
    for place, instruction in enumerate(code):
        step = instruction.step
        source = known.get(step.source) if step else None
        for register in instruction.writes & known.keys():
            del known[register]
        if step is None:
            continue
        if step.action == "set":
            # A pair of registers that is set holds a small number: zeros but for its low word.
            known |= dict.fromkeys(instruction.writes, 0) | {step.register: step.value}
        elif step.action == "add" and source is not None:
            known[step.register] = (source + step.value) % 2**32
        elif step.action != "add" and source is not None:
            outcomes[place] = _holds(source, step)
    return outcomes


def _holds(value: int, step: Step) -> bool:
    """Outcome of a comparison of a word."""
    left, right = (
        (word - 2**32 if step.signed and word >= 2**31 else word) for word in (value, step.value)
    )
    return {
        "lt": left < right, "le": left <= right, "gt": left > right,
        "ge": left >= right, "eq": left == right, "ne": left != right,
    }[step.action]  # fmt: skip
