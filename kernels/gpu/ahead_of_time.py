"""Compile every kernel for every target without a GPU, and read what the compilers made of it.

    python -m ddpm.kernels.gpu.ahead_of_time

prints one line of JSON per kernel, dtype and target: registers, spills, shared memory, and on
NVIDIA the machine instructions per element and the widths of global accesses. It has to run in a
process without TRITON_INTERPRET.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ddpm.kernels.diffusion_loss import CHUNK
from ddpm.kernels.gpu import diffusion_loss, launch, normal, q_sample, sampler_step
from ddpm.kernels.streams import Stream

TARGETS = {
    "cuda:80": GPUTarget("cuda", 80, 32),
    "cuda:90": GPUTarget("cuda", 90, 32),
    "cuda:100": GPUTarget("cuda", 100, 32),
    "hip:gfx942": GPUTarget("hip", "gfx942", 64),
}
DTYPES = ("fp32", "fp16", "bf16")
# Disassembly takes as long as compilation; one target tells the instructions.
DISASSEMBLED = ("cuda:90",)
# Elements of a sample: 3 x 64 x 64.
SIZE = 3 * 64 * 64

_INT64 = ("t_ptr", "seed_ptr", "step_ptr", "sample_ptr", "row_ptr", "levels_ptr")
_FLOAT32 = ("signal_ptr", "sigma_ptr", "weight_ptr", "grad_ptr", "table_ptr")
_SCALARS = {"levels": "i32", "rows": "i32", "clip": "fp32"}


@dataclass(frozen=True)
class Case:
    """One kernel with its compile-time arguments."""

    name: str
    kernel: Any
    constants: dict[str, Any]
    float32: tuple[str, ...] = ()
    """Pointers that are float32 whatever the storage dtype."""


@dataclass(frozen=True)
class Compiled:
    """What a compiler made of one kernel."""

    kernel: str
    dtype: str
    target: str
    registers: int
    spills: int
    """Bytes of local memory (NVIDIA) or spilt registers (AMD)."""
    shared: int
    per_element: float | None
    """Machine instructions of the whole kernel over elements per thread, where disassembled."""
    accesses: dict[str, int]
    """Global loads and stores by kind and bytes, as in "ld16"; NVIDIA only."""
    binary: bytes = field(repr=False)


def cases() -> tuple[Case, ...]:
    """Give the kernels, each in its form with most arithmetic."""
    v = {"PREDICTION": "v", "noise_ptr": None}
    length = {"LENGTH": min(CHUNK, SIZE)}
    given = {"DRAWN": False, "seed_ptr": None, "step_ptr": None, "sample_ptr": None}
    drawn = {"DRAWN": True, "noise_ptr": None}
    stream = {"STREAM": int(Stream.INITIAL_NOISE), "STEP_STRIDE": 0}
    step = {"ROW_STRIDE": 0, "CLIP": True, "DRAW": True}
    loss = diffusion_loss._diffusion_loss_kernel
    loss_backward = diffusion_loss._diffusion_loss_backward_kernel
    return (
        Case("q_sample", q_sample._q_sample_kernel, given),
        Case("q_sample_drawn", q_sample._q_sample_kernel, drawn),
        Case("normal", normal._normal_kernel, stream),
        Case("diffusion_loss", loss, {**v, **length}, float32=("out_ptr",)),
        Case("diffusion_loss_backward", loss_backward, v),
        Case("sampler_step", sampler_step._sampler_step_kernel, step),
    )


def compile_case(case: Case, dtype: str, target: str) -> Compiled:
    """Compile one kernel for one dtype and target.

    Args:
        case: the kernel.
        dtype: "fp32", "fp16" or "bf16", the storage dtype.
        target: key of `TARGETS`.

    Returns:
        The binary and what it uses.

    Raises:
        RuntimeError: the process interprets kernels instead of compiling them.
    """
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise RuntimeError("TRITON_INTERPRET is set; allowed: unset, kernels must be compiled")
    chosen = launch.choose(target, SIZE)
    source = _source(case, dtype, chosen.block)
    options = {"num_warps": chosen.num_warps, "enable_fp_fusion": True}
    built = triton.compile(source, target=TARGETS[target], options=options)
    inspect = _inspect_hip if target.startswith("hip") else partial(_inspect_cuda, target)
    return Compiled(case.name, dtype, target, shared=built.metadata.shared, **inspect(built))


def compile_all(targets: tuple[str, ...] = tuple(TARGETS)) -> Iterator[Compiled]:
    """Compile every kernel, dtype and target."""
    for target in targets:
        for case in cases():
            for dtype in DTYPES:
                yield compile_case(case, dtype, target)


def _source(case: Case, dtype: str, block: int) -> ASTSource:
    constants = {"SIZE": SIZE, "BLOCK": block, **case.constants}
    names = case.kernel.arg_names

    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name in _SCALARS:
            return _SCALARS[name]
        if name in _INT64:
            return "*i64"
        return "*fp32" if name in _FLOAT32 + case.float32 else f"*{dtype}"

    signature = {name: kind(name) for name in names}
    # Tensors of torch start at multiples of 16 bytes; the launcher would find the same.
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if signature[name].startswith("*")
    }
    values = {(names.index(name),): value for name, value in constants.items()}
    return ASTSource(case.kernel, signature, values, aligned)


def _inspect_cuda(target: str, built: Any) -> dict[str, Any]:
    """Read registers, local memory and instructions with the tools of the triton wheel."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        usage = _run(tools / "cuobjdump", "--dump-resource-usage", file.name)
        wanted = target in DISASSEMBLED
        listing = _run(tools / "nvdisasm", "-c", file.name) if wanted else ""
    used = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    code = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ +)?([A-Z][\w.]*)", listing, re.M)
    instructions = sum(name != "NOP" for name in code)
    chosen = launch.choose(target, SIZE)
    per_thread = chosen.block / (32 * chosen.num_warps)
    return {
        "registers": used["REG"],
        "spills": used["STACK"] + used["LOCAL"],
        "per_element": round(instructions / per_thread, 2) if wanted else None,
        "accesses": _accesses(built.asm["ptx"]),
        "binary": built.asm["cubin"],
    }


def _accesses(ptx: str) -> dict[str, int]:
    """Count global accesses by kind and width."""
    found = re.findall(r"\b(ld|st)\.global[\w.:]*?(?:\.v(\d))?\.b(\d+)\b", ptx)
    return dict(Counter(f"{kind}{int(count or 1) * int(bits) // 8}" for kind, count, bits in found))


def _inspect_hip(built: Any) -> dict[str, Any]:
    """Read registers and spills from the metadata at the end of the assembly."""
    used = {
        key: int(value) for key, value in re.findall(r"\.(\w+_count):\s+(\d+)", built.asm["amdgcn"])
    }
    return {
        "registers": used["vgpr_count"],
        "spills": used["vgpr_spill_count"] + used["sgpr_spill_count"],
        "per_element": None,
        "accesses": {},
        "binary": built.asm["hsaco"],
    }


def _run(tool: Path, *arguments: str) -> str:
    command = [str(tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Print one line of JSON per kernel, dtype and target."""
    for compiled in compile_all():
        record = asdict(compiled) | {"binary": len(compiled.binary)}
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
