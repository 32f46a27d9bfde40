"""How wide the offsets into tensors are, read from Triton's intermediate representation.

An offset of 32 bits wraps around in a tensor of more than 2^31 elements. Every offset that depends
on the program or on data has to have 64 bits, and so has whatever it was computed from. What is
left to 32 bits is bounded: constants, ranges of lanes, counters of loops between constants.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_LINE = re.compile(r"^\s*(%[\w-]+)(?::\d+)? = ([\w.]+) ?(.*)$")
_FOR = re.compile(r"scf\.for (%[\w-]+) = (%[\w-]+) to (%[\w-]+) step (%[\w-]+)")
_VALUE = re.compile(r"%[\w-]+(?:#\d+)?")
_SAME = {"tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape", "tt.trans", "arith.extsi",
         "arith.extui", "arith.index_cast", "ttg.convert_layout"}  # fmt: skip
_MOST_PROGRAMS = 2**31 - 1


@dataclass(frozen=True)
class _Range:
    """What is known of a whole number or of all elements of a tensor of them."""

    low: int
    high: int
    bounded: bool
    """Whether it comes from constants alone."""
    wraps: bool = False
    """Whether 32 bits may have been too few on the way."""


def offset_bits(text: str) -> int:
    """Give the width of the narrowest offset that is not bounded.

    Args:
        text: Triton's first representation of a kernel ("ttir").

    Returns:
        64, or 32 where an offset has 32 bits or was computed with so few that it may wrap around.
    """
    known: dict[str, _Range] = {}
    widths = [64]
    for raw in text.splitlines():
        line = re.sub(r"\s*loc\(.*\)\s*$", "", raw)
        loop = _FOR.search(line)
        if loop:
            low, high = (known.get(name, _anything(64)) for name in (loop[2], loop[3]))
            bounded = low.bounded and high.bounded
            fits = low.low < high.high
            known[loop[1]] = _Range(low.low, high.high - 1 if fits else low.low, bounded)
        match = _LINE.match(line)
        if not match or loop:
            continue
        name, operation, rest = match.groups()
        if operation == "tt.addptr":
            offset = _VALUE.findall(rest)[1]
            widths.append(_width(known.get(offset, _anything(64)), _bits(rest)))
        else:
            known[name] = _result(operation, rest, known)
    return min(widths)


def _width(offset: _Range, bits: int) -> int:
    if offset.wraps:
        return 32
    return 64 if offset.bounded else bits


def _bits(types: str) -> int:
    """Width of the last type of a line; pointers count as 64 bits."""
    found = re.findall(r"(?<![\w!])i(\d+)\b|xi(\d+)>", types)
    return int(found[-1][0] or found[-1][1]) if found else 64


def _anything(bits: int) -> _Range:
    return _Range(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, False)


def _result(operation: str, rest: str, known: dict[str, _Range]) -> _Range:
    """Range of what an operation gives."""
    bits = _bits(rest)
    operands = [known.get(name, _anything(64)) for name in _VALUE.findall(rest)]
    if operation == "arith.constant":
        value = re.search(r"(?:dense<)?(-?\d+)>? : ", rest)
        return _Range(int(value[1]), int(value[1]), True) if value else _anything(64)
    if operation == "tt.make_range":
        end, start = (int(re.search(rf"{key} = (\d+)", rest)[1]) for key in ("end", "start"))  # type: ignore[index]
        return _Range(start, end - 1, True)
    if operation == "tt.get_program_id":
        return _Range(0, _MOST_PROGRAMS - 1, False)
    if operation in _SAME:
        return operands[0]
    if operation == "arith.trunci":
        return _fitted(operands[0].low, operands[0].high, operands, bits)
    if len(operands) == 2 and operation in _ARITHMETIC:
        low, high = _ARITHMETIC[operation](operands[0], operands[1])
        return _fitted(low, high, operands, bits)
    return _anything(bits)


def _fitted(low: int, high: int, operands: list[_Range], bits: int) -> _Range:
    """A range in a word; outside of it the word wraps around."""
    wraps = any(operand.wraps for operand in operands)
    bounded = all(operand.bounded for operand in operands)
    whole = _anything(bits)
    if low < whole.low or high > whole.high:
        return _Range(whole.low, whole.high, bounded, wraps or bits < 64)
    return _Range(low, high, bounded, wraps)


def _quotient(a: _Range, b: _Range) -> tuple[int, int]:
    if b.low <= 0:
        return a.low, a.high
    found = [abs(x) // y * (1 if x >= 0 else -1) for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(found), max(found)


def _remainder(a: _Range, b: _Range) -> tuple[int, int]:
    most = max(abs(b.low), abs(b.high)) - 1
    return (0 if a.low >= 0 else -most), min(most, max(a.high, 0))


def _shifted(a: _Range, b: _Range) -> tuple[int, int]:
    if b.low < 0 or b.high > 63:
        return _anything(64).low, _anything(64).high
    found = [x << y for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(found), max(found)


def _product(a: _Range, b: _Range) -> tuple[int, int]:
    found = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(found), max(found)


_ARITHMETIC: dict[str, Callable[[_Range, _Range], tuple[int, int]]] = {
    "arith.addi": lambda a, b: (a.low + b.low, a.high + b.high),
    "arith.subi": lambda a, b: (a.low - b.high, a.high - b.low),
    "arith.muli": _product,
    "arith.divsi": _quotient,
    "arith.remsi": _remainder,
    "arith.shli": _shifted,
    "arith.minsi": lambda a, b: (min(a.low, b.low), min(a.high, b.high)),
    "arith.maxsi": lambda a, b: (max(a.low, b.low), max(a.high, b.high)),
}
