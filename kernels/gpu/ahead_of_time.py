"""Compile every op for every architecture without a card, and read off what it costs.

    python -m ddpm.kernels.gpu.ahead_of_time

prints one line of JSON per op, dtype and architecture. It has to run in a process without
TRITON_INTERPRET.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import triton

from ddpm.kernels.gpu import gcn, sass
from ddpm.kernels.gpu.cases import DTYPES, Case, Inputs, cases
from ddpm.kernels.gpu.control_flow import Cost, ways
from ddpm.kernels.gpu.disassembly import CLASSES, Listing
from ddpm.kernels.gpu.dry_run import TARGETS, DryRun, Launched, dry_run, refuse_interpreter
from ddpm.kernels.gpu.offsets import offset_bits

NARROWEST = 16
"""Bytes that an access of the body has to move for a lane."""

# Ops that a process compiles before it disassembles them.
_TOGETHER = 6


@dataclass(frozen=True)
class Measured:
    """What the compilers made of one op for one dtype and architecture; see docs/kernels.md."""

    op: str
    dtype: str
    arch: str
    bytes_per_element: float
    """Of global memory, moved by the body; an element is one of the clean data."""
    floor_bytes_per_element: float
    access_bytes: int
    """Of a lane, by the narrowest access of the body."""
    accesses: dict[str, int]
    """Accesses of a thread by kind and bytes, as in "ld16"."""
    scalar_bytes: int
    """Of global memory, read or written once by each program."""
    offset_bits: int
    registers: int
    """Of a thread."""
    spill_bytes: int
    """Of a thread."""
    shared_bytes: int
    """Of a program."""
    threads: int
    """Of a program."""
    elements_per_thread: float
    instructions_per_element: float
    instructions: dict[str, float]
    """Per element, by class."""
    longest_instructions_per_element: float
    """On the longest way through the kernel, which may be that of a rare program."""
    launches: int
    """Kernels that the launcher starts, those of torch included."""
    rare: str
    """What a branch does that is not counted, "" for nothing; see `Case.rare`."""
    problem: str = ""
    """Why the machine code could not be counted, "" where it could."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the kernel, in words; empty where all is well."""
        found = [self.problem] if self.problem else []
        if self.bytes_per_element != self.floor_bytes_per_element:
            found.append(f"moves {self.bytes_per_element:g} of {self.floor_bytes_per_element:g} B")
        if self.access_bytes < NARROWEST:
            found.append(f"an access of the body is {self.access_bytes} bytes wide")
        if self.offset_bits < 64:
            found.append(f"an offset has {self.offset_bits} bits")
        if self.spill_bytes:
            found.append(f"spills {self.spill_bytes} bytes")
        if self.launches != 1:
            found.append(f"takes {self.launches} launches")
        return tuple(found)


def measure(tasks: Sequence[tuple[Case, str]], arch: str) -> list[Measured]:
    """Compile ops for an architecture, and read what the compilers made of them.

    Args:
        tasks: cases, each with a key of `DTYPES`, the storage dtype.
        arch: key of `TARGETS`.

    Returns:
        The figures of each task, those of all kernels of its op together.

    Raises:
        RuntimeError: the process interprets kernels instead of compiling them.
    """
    runs = []
    for case, dtype in tasks:
        runs.append(dry_run(arch, case.prepare(Inputs(DTYPES[dtype]))))
    listings = iter(disassemble([kernel for run in runs for kernel in run.kernels], arch))
    return [
        _measured(case, dtype, arch, run, [next(listings) for _ in run.kernels])
        for (case, dtype), run in zip(tasks, runs, strict=True)
    ]


def _measured(
    case: Case, dtype: str, arch: str, run: DryRun, listings: Sequence[Listing]
) -> Measured:
    """Sum up the figures of the kernels of one op."""
    inputs = Inputs(DTYPES[dtype])
    floor = float(case.floor * inputs.dtype.itemsize * case.passes.get(arch, 1))
    elements = inputs.elements / (run.kernels[0].programs * run.kernels[0].threads)
    usual, longest, problem = Cost(), Cost(), ""
    for kernel, listing in zip(run.kernels, listings, strict=True):
        if inputs.elements != elements * kernel.programs * kernel.threads:
            raise RuntimeError(f"{case.name}: its kernels differ in elements per thread")
        try:
            found = ways(listing)
        except RuntimeError as error:
            problem, found = str(error), [Cost()]
        usual += _usual(found, floor * elements) if case.rare else found[-1]
        longest += found[-1]
    return Measured(
        op=case.name,
        dtype=dtype,
        arch=arch,
        bytes_per_element=usual.body_bytes / elements,
        floor_bytes_per_element=floor,
        access_bytes=min((int(name[2:]) for name in usual.accesses), default=0),
        accesses=dict(sorted(usual.accesses.items())),
        scalar_bytes=usual.scalar_bytes,
        offset_bits=min(offset_bits(kernel.assembly["ttir"]) for kernel in run.kernels),
        registers=max(listing.registers for listing in listings),
        spill_bytes=sum(listing.spill_bytes for listing in listings),
        shared_bytes=max(kernel.shared_bytes for kernel in run.kernels),
        threads=run.kernels[0].threads,
        elements_per_thread=elements,
        instructions_per_element=round(usual.total / elements, 2),
        instructions={kind: round(usual.instructions[kind] / elements, 2) for kind in CLASSES},
        longest_instructions_per_element=round(longest.total / elements, 2),
        launches=len(run.kernels) + len(run.torch_kernels),
        rare=case.rare,
        problem=problem,
    )


def _usual(found: Sequence[Cost], least: float) -> Cost:
    """The shortest of the ways that move what has to be moved; the longest if none does."""
    enough = [cost for cost in found if cost.body_bytes >= least]
    return enough[0] if enough else found[-1]


def disassemble(kernels: Sequence[Launched], arch: str) -> list[Listing]:
    """Read the machine instructions of kernels, on NVIDIA with the tools of the triton wheel.

    The disassembler takes longer to start than to work, so that it gets all kernels at once.
    """
    if TARGETS[arch][1].backend == "hip":
        return [gcn.read(kernel.assembly["amdgcn"]) for kernel in kernels]
    codes = [sass.text_of(kernel.assembly["cubin"]) for kernel in kernels]
    machine = re.sub(r"^sm_", "SM", arch)
    text = _tool("nvdisasm", b"".join(codes), "--binary", machine)
    listings, first = [], 0
    for kernel, code in zip(kernels, codes, strict=True):
        usage = _tool("cuobjdump", kernel.assembly["cubin"], "--dump-resource-usage")
        listings.append(sass.read(text, usage, first, len(code)))
        first += len(code)
    return listings


def _tool(name: str, content: bytes, *options: str) -> str:
    """Run a tool of NVIDIA on a file with some content."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        command = [str(tool), *options, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure_all(names: Sequence[str] | None = None) -> list[Measured]:
    """Measure ops for every dtype and architecture, in as many processes as there are cores.

    Args:
        names: of cases; None for all.

    Returns:
        Figures in the order of the cases, dtypes and architectures.

    Raises:
        RuntimeError: the process interprets kernels instead of compiling them.
        ValueError: a name is not that of a case.
    """
    refuse_interpreter()
    chosen = wanted(names)
    parts = [chosen[k : k + _TOGETHER] for k in range(0, len(chosen), _TOGETHER)]
    tasks = [(arch, part) for part in parts for arch in TARGETS]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        found = [row for rows in pool.map(_measure_named, tasks) for row in rows]
    places = [{name: k for k, name in enumerate(kind)} for kind in (chosen, DTYPES, TARGETS)]
    return sorted(found, key=lambda r: (places[0][r.op], places[1][r.dtype], places[2][r.arch]))


def wanted(names: Sequence[str] | None) -> list[str]:
    """Give names of cases, all of them for None.

    Raises:
        ValueError: a name is not that of a case.
    """
    known = [case.name for case in cases()]
    for name in names or ():
        if name not in known:
            raise ValueError(f"op is {name!r}; allowed: {', '.join(known)}")
    return list(names or known)


def _measure_named(task: tuple[str, list[str]]) -> list[Measured]:
    """Measure some ops for one architecture, in a process of its own."""
    arch, names = task
    chosen = [case for case in cases() if case.name in names]
    return measure([(case, dtype) for case in chosen for dtype in DTYPES], arch)


def main() -> None:
    """Print one line of JSON per op, dtype and architecture."""
    for measured in measure_all():
        sys.stdout.write(json.dumps(asdict(measured) | {"faults": measured.faults}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
