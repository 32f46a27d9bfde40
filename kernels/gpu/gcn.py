"""Read the assembly that the compiler for AMD cards prints."""

import re

from ddpm.kernels.gpu.disassembly import Instruction, Listing, Step, follow

_CODE = re.compile(r"\s+((?:v|s|ds|global|buffer|flat|scratch)_\w+)\s*([^;]*)")
_REGISTER = re.compile(r"\b([vsa])(?:(\d+)|\[(\d+):(\d+)\])|\b(vcc|exec|scc|m0)\b")
_ACCESS = re.compile(r"(?:global|buffer|flat|s)_(load|store|atomic)_(\w+)")
_WIDTHS = {"dwordx16": 64, "dwordx8": 32, "dwordx4": 16, "dwordx3": 12, "dwordx2": 8, "dword": 4,
           "ushort": 2, "sshort": 2, "short": 2, "ubyte": 1, "sbyte": 1, "byte": 1}  # fmt: skip

_WAITS = {"s_nop", "s_waitcnt"}
_SPECIAL = re.compile(r"v_(cvt|sqrt|rcp|rsq|exp|log|sin|cos|fract|floor|ceil|rndne|trunc|ldexp)_")
_MOVE = re.compile(r"(v_(mov|readlane|writelane|readfirstlane|accvgpr)|s_(mov|movk|cmov|cselect))")
_FLOAT = re.compile(r"v_\w*_(f64|f32|f16|bf16)\b|v_\w*_(f64|f32|f16|bf16)_")
_CONTROL = re.compile(r"s_(branch|cbranch|endpgm|barrier|and_saveexec|or_saveexec|setprio|sleep)")
_COMPARE = re.compile(r"s_cmpk?_(lt|le|gt|ge|eq|ne|lg)_([iu])(32|64)")


def read(text: str) -> Listing:
    """Read one kernel.

    Args:
        text: assembly with its metadata, as Triton keeps it.

    Returns:
        Its instructions and what it needs; loads of the kernel's own arguments are no accesses.
    """
    labels: dict[str, int] = {}
    lines: list[tuple[str, str]] = []
    for line in text[: text.index(".section\t.rodata")].splitlines():
        label, code = re.match(r"(\.L\w+):", line), _CODE.match(line)
        if label:
            labels[label[1]] = len(lines)
        elif code:
            lines.append((code[1], code[2].strip()))
    found = []
    arguments = {"s0", "s1"}
    for name, rest in lines:
        instruction = _instruction(name, rest, labels, arguments)
        arguments -= instruction.writes
        found.append(instruction)
    used = {key: int(value) for key, value in re.findall(r"\.(\w+):\s+(\d+)\s*$", text, re.M)}
    # A scalar register that spills goes to a lane of a vector register, and no memory is moved.
    spilt = 4 * used["vgpr_spill_count"]
    by_lane = follow(
        found,
        lane=lambda _: False,
        uniform=lambda i: i.name.startswith(("v_readlane", "v_readfirstlane")),
        start=("v0",),
    )
    spill_bytes = used["private_segment_fixed_size"] + spilt
    return Listing(tuple(found), used["vgpr_count"], spill_bytes, by_lane)


def _instruction(name: str, rest: str, labels: dict[str, int], arguments: set[str]) -> Instruction:
    """Understand one line; arguments are the registers that point to those of the kernel."""
    operands = [part.strip() for part in rest.split(",")] if rest else []
    match = _ACCESS.match(name)
    access, address = "", frozenset[str]()
    writes = bool(operands)
    if match:
        access = {"load": "ld", "store": "st", "atomic": "at"}[match[1]]
        returns = access == "ld" or (access == "at" and "sc0" in rest)
        first = 1 if returns or name.startswith("buffer") else 0
        address = _registers(" ".join(operands[first : first + 1]))
        writes = returns
        if name.startswith("s_load") and address <= arguments:
            access = ""
        # A scalar register is the same for all lanes, whatever it was computed from.
        address = frozenset(register for register in address if register.startswith("v"))
    jump = name.startswith(("s_branch", "s_cbranch"))
    conditional = name.startswith("s_cbranch")
    target = labels[operands[0]] if jump else None
    stem = match[2].split("_")[0] if match else ""
    written = _registers(operands[0]) if writes and not jump else frozenset[str]()
    if name.startswith("s_cmp"):
        written = frozenset({"scc"})
    return Instruction(
        name=name,
        kind=_kind(name),
        reads=_registers(", ".join(operands[1:] if written else operands)),
        writes=written,
        access=access,
        width=_WIDTHS[stem] if access in ("ld", "st") else 4 if access else 0,
        address=address,
        target=target,
        falls=not (name == "s_branch" or name == "s_endpgm") or conditional,
        ends=name == "s_endpgm",
        step=_step(name, operands),
    )


def _kind(name: str) -> str:
    if name in _WAITS:
        return ""
    if re.match(r"(global|buffer|flat|scratch|ds|s_load|s_store|s_buffer|s_dcache)_", name):
        return "memory"
    for pattern, kind in ((_SPECIAL, "special"), (_MOVE, "other"), (_CONTROL, "other")):
        if pattern.match(name):
            return kind
    return "float" if _FLOAT.match(name) else "integer"


def _registers(text: str) -> frozenset[str]:
    found = set()
    for letter, single, low, high, named in _REGISTER.findall(text):
        if named:
            found.add(named)
        elif single:
            found.add(letter + single)
        else:
            found |= {f"{letter}{k}" for k in range(int(low), int(high) + 1)}
    return frozenset(found)


def _step(name: str, operands: list[str]) -> Step | None:
    """Understand what a scalar instruction does with words of 32 bits, or the low of two."""
    constant = [_constant(part) for part in operands]
    match = _COMPARE.match(name)
    if match and constant[1] is not None:
        action = {"lg": "ne"}.get(match[1], match[1])
        return Step(action, constant[1], source=_low(operands[0]), signed=match[2] == "i")
    if name in ("s_mov_b32", "s_mov_b64", "s_movk_i32"):
        value = constant[1]
        if value is None:
            return Step("add", 0, _low(operands[0]), _low(operands[1]))
        value = _extended(value) if name == "s_movk_i32" else value
        return Step("set", value % 2**32, _low(operands[0]))
    if name == "s_addk_i32" and constant[1] is not None:
        return Step("add", _extended(constant[1]) % 2**32, operands[0], operands[0])
    if name == "v_writelane_b32":
        return Step("add", 0, f"{operands[0]}, {operands[2]}", operands[1])
    if name == "v_readlane_b32":
        return Step("add", 0, operands[0], f"{operands[1]}, {operands[2]}")
    if name in ("s_add_i32", "s_add_u32") and constant[2] is not None:
        return Step("add", constant[2], operands[0], operands[1])
    return None


def _low(operand: str) -> str:
    """The low one of a pair of registers."""
    return re.sub(r"([sv])\[(\d+):\d+\]", r"\1\2", operand)


def _extended(value: int) -> int:
    """Read a constant of 16 bits as a signed one."""
    return value - 2**16 if 2**15 <= value < 2**16 else value


def _constant(operand: str) -> int | None:
    match = re.match(r"(-?)(0x[0-9a-f]+|\d+)$", operand)
    return int(match[1] + match[2], 0) % 2**32 if match else None
