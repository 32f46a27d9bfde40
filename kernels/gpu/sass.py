"""Read the machine code of NVIDIA cards as `nvdisasm` prints it."""

import re
import struct

from ddpm.kernels.gpu.disassembly import Instruction, Listing, Step, follow

_LINE = re.compile(
    r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*?)\s*;", re.MULTILINE
)
_REGISTER = re.compile(r"(?<![\w.])(U?[RP])(\d+)(\.64)?")
_PREDICATE = re.compile(r"!?U?P(\d+|T)$")

_WAITS = {"NOP"}
_SPECIAL = {"MUFU", "I2F", "I2FP", "F2I", "F2F", "F2FP", "FRND", "I2I", "I2IP", "F2IP", "FCHK"}
_FLOAT = re.compile(r"(F(ADD|MUL|FMA|MNMX|SEL|SETP|SET|CMP|SWZADD|FMA2)|H(ADD|MUL|FMA|SETP|MNMX)2|"
                    r"HFMA2|D(ADD|MUL|FMA|SETP|MNMX))")  # fmt: skip
_INTEGER = re.compile(
    r"U?(IADD|IMAD|IMUL|LOP|PLOP|SHF|SHL|SHR|LEA|ISETP|PRMT|SEL|IMNMX|VIMNMX|VIADD|VIADDMNMX|"
    r"IABS|POPC|FLO|BREV|BMSK|SGXT|IDP|I2IP|SZEXT|XMAD|ISCADD|VABSDIFF|BFE|BFI)"
)
_MEMORY = re.compile(r"(LD|ST|ATOM|RED|UBLK|UTMA|MEMBAR|CCTL|ULDC|LDC|LDS|STS|SYNCS|FENCE|ERRBAR)")
_MOVE = re.compile(r"IMAD\.(MOV|U32$)")

# Comparisons by their suffix; a counter is compared with a constant on its right.
_COMPARE = {"LT", "LE", "GT", "GE", "NE", "EQ"}
_ZERO = ["SRZ"]


def text_of(cubin: bytes) -> bytes:
    """Cut the machine code out of a cubin with one kernel, an ELF file of 64 bits."""
    (sections,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, sections + k * size) for k in range(count)]
    for name, _, _, _, place, length in headers:
        if cubin.startswith(b".text.", headers[names][4] + name):
            return cubin[place : place + length]
    raise RuntimeError("a cubin without machine code")


def read(text: str, usage: str, first: int, length: int) -> Listing:
    """Read one kernel.

    Args:
        text: what `nvdisasm --binary` prints of the machine code of some kernels after another.
        usage: what `cuobjdump --dump-resource-usage` prints of the kernel.
        first: address of the kernel in that code.
        length: of its code, in bytes.

    Returns:
        Its instructions and what it needs.
    """
    lines = [
        (int(place, 16), *rest)
        for place, *rest in _LINE.findall(text)
        if first <= int(place, 16) < first + length
    ]
    places = {line[0]: index for index, line in enumerate(lines)}
    found = tuple(_instruction(guard, name, rest, places) for _, guard, name, rest in lines)
    used = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    by_lane = follow(
        found,
        lane=lambda i: "SR_TID.X" in i.reads or "SR_LANEID" in i.reads,
        uniform=lambda i: i.name.startswith("R2UR"),
    )
    return Listing(found, used["REG"], used["STACK"] + used["LOCAL"], by_lane)


def _instruction(guard: str, name: str, rest: str, places: dict[int, int]) -> Instruction:
    """Understand one line."""
    operands = [part.strip().removesuffix(".reuse") for part in rest.split(",")] if rest else []
    stem = name.split(".")[0]
    always = guard.lstrip("!") in ("", "PT", "UPT")
    writes = _written(name, stem, operands)
    reads = _registers(", ".join([guard, *operands[_results(stem, operands) :]]))
    reads |= {part for part in operands if part.startswith("SR_")}
    access = _access(stem)
    target = _target(name, stem, operands, places)
    jumps_always = stem == "BRA" and always and len(operands) == 1
    # What is called and returns is the slow part of a division, which hardly any number takes.
    stops = stem in ("EXIT", "RET")
    return Instruction(
        name=name,
        kind=_kind(name, stem),
        reads=reads,
        writes=writes,
        always=always,
        access=access,
        width=_width(name) if access else 0,
        address=_registers(" ".join(re.findall(r"\[[^\]]*\]", rest))),
        target=target,
        falls=not (jumps_always or (stops and always)),
        ends=stem == "EXIT",
        step=_step(name, stem, operands) if always else None,
    )


def _kind(name: str, stem: str) -> str:
    if stem in _WAITS:
        return ""
    if stem in _SPECIAL:
        return "special"
    if _MOVE.match(name):
        return "other"
    for pattern, kind in ((_FLOAT, "float"), (_MEMORY, "memory"), (_INTEGER, "integer")):
        if pattern.match(stem):
            return kind
    return "other"


def _access(stem: str) -> str:
    if stem in ("LDG", "LD", "LDGSTS"):
        return "ld"
    if stem in ("STG", "ST"):
        return "st"
    return "at" if stem in ("ATOM", "ATOMG", "RED", "REDG") else ""


def _width(name: str) -> int:
    """Bytes of an access: a register unless a suffix says otherwise."""
    parts = name.split(".")
    for suffix, width in (("256", 32), ("128", 16), ("64", 8)):
        if suffix in parts:
            return width
    narrow = [width for suffix, width in (("8", 1), ("16", 2)) if f"U{suffix}" in parts
              or f"S{suffix}" in parts]  # fmt: skip
    return narrow[0] if narrow else 4


def _results(stem: str, operands: list[str]) -> int:
    """Count the operands that an instruction writes: predicates may stand about the register."""
    if _access(stem) == "st" or stem in ("STS", "STL", "BRA", "EXIT", "RED", "REDG", "BAR", "CALL"):
        return 0
    count = 0
    while count < len(operands) and _PREDICATE.match(operands[count]):
        count += 1
    if "SETP" in stem or stem in ("PLOP3", "UPLOP3"):
        return min(count, 2)
    count += 1
    while count < len(operands) and re.match(r"U?P(\d+|T)$", operands[count]) and count < 3:
        count += 1
    return count


def _written(name: str, stem: str, operands: list[str]) -> frozenset[str]:
    found = set()
    parts = name.split(".")
    pair = (
        {"64", "WIDE"} & set(parts)
        or stem in ("CS2R", "FFMA2", "FMUL2", "FADD2")
        or (stem in ("DADD", "DMUL", "DFMA", "DMNMX"))
    )
    length = 8 if "256" in parts else 4 if "128" in parts else 2 if pair else 1
    for operand in operands[: _results(stem, operands)]:
        for letter, number, _ in _REGISTER.findall(operand):
            many = length if "R" in letter else 1
            found |= {f"{letter}{int(number) + k}" for k in range(many)}
    return frozenset(found)


def _registers(text: str) -> frozenset[str]:
    found = set()
    for letter, number, wide in _REGISTER.findall(text):
        found |= {f"{letter}{int(number) + k}" for k in range(2 if wide else 1)}
    return frozenset(found)


def _target(name: str, stem: str, operands: list[str], places: dict[int, int]) -> int | None:
    """Index of where an instruction may jump; a warp that has fallen apart is not followed."""
    if stem == "BRX" or stem == "JMX":
        raise RuntimeError(f"{name}: a jump to an address from a register cannot be followed")
    if stem not in ("BRA", "CALL", "JMP") or ".DIV" in name:
        return None
    return places.get(int(operands[-1], 16)) if operands[-1].startswith("0x") else None


def _step(name: str, stem: str, operands: list[str]) -> Step | None:
    """Understand what an instruction does with words of 32 bits."""
    constant = [_constant(part) for part in operands]
    if stem in ("MOV", "UMOV") or name == "IMAD.MOV.U32" or (stem, operands[1:]) == ("CS2R", _ZERO):
        value = constant[-1] if stem not in ("MOV", "UMOV") else constant[1]
        source = operands[-1] if stem not in ("MOV", "UMOV") else operands[1]
        if value is not None:
            return Step("set", value, operands[0])
        return Step("add", 0, operands[0], source) if _REGISTER.fullmatch(source) else None
    if stem in ("IADD3", "UIADD3", "VIADD", "UIADD") and ".X" not in name:
        sources = [part for part in operands[1:] if re.fullmatch(r"U?R\d+", part)]
        added = [value for value in constant[1:] if value]
        if len(sources) == 1 and len(added) == 1:
            return Step("add", added[0], operands[0], sources[0])
    if stem in ("ISETP", "UISETP") and ".EX" not in name and constant[3] is not None:
        action = next(part.lower() for part in name.split(".") if part in _COMPARE)
        return Step(action, constant[3], source=operands[2], signed=".U32" not in name)
    return None


def _constant(operand: str) -> int | None:
    """Value of a constant as an unsigned word, None for anything else."""
    if operand in ("RZ", "URZ", "SRZ"):
        return 0
    match = re.match(r"(-?)(0x[0-9a-f]+)$", operand)
    return int(match[1] + match[2], 16) % 2**32 if match else None
