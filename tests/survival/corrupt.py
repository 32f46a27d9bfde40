"""Ways to damage a file: as a disk would, as a hand would, and as somebody who means harm would."""

import json
import random
import struct
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308,
    1e-320, float("nan"), float("inf"), "", "0", "../x", "/etc/passwd", "\x00", "\x1b[2J", "a\nb",
    "\ud800", "F32", "é", [], [[]], [0], [0, 0], {}, {"": None}, {"step": 1},
)  # fmt: skip
"""Values that stand where another is expected."""
LENGTHS = (0, 1, 7, 8, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 100_000_001)
"""Lengths of a safetensors header that are not true."""


def bytes_of(content: bytes, dice: random.Random) -> bytes:
    """Other bytes: bits flipped, a piece cut out, doubled, zeroed, moved, or made up."""
    first, last = sorted((dice.randrange(len(content) + 1), dice.randrange(len(content) + 1)))
    before, piece, after = content[:first], content[first:last], content[last:]
    where = dice.randrange(len(content))
    flipped = content[where] ^ (1 << dice.randrange(8))
    return dice.choice(
        [
            content[:where] + bytes([flipped]) + content[where + 1 :],
            content[:where] + bytes([dice.randrange(256)]) + content[where + 1 :],
            before,
            after,
            before + after,
            before + piece * 2 + after,
            before + bytes(len(piece)) + after,
            before + bytes(reversed(piece)) + after,
            piece + before + after,
            before + dice.randbytes(dice.randrange(1, 30)) + after,
            b"",
        ]
    )


def value_of(value: Any, dice: random.Random) -> Any:
    """Another JSON value: one place inside it removed, added, renamed, or given an odd value."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        others = {name: inner for name, inner in value.items() if name != key}
        deeper = {**value, key: value_of(value[key], dice)}
        changes = [others, {**others, f"{key}x": value[key]}, {**value, "extra": dice.choice(ODD)}]
        return dice.choice([deeper] * 6 + changes)
    if isinstance(value, list) and value and dice.random() < 0.7:
        place = dice.randrange(len(value))
        deeper_list = [*value[:place], value_of(value[place], dice), *value[place + 1 :]]
        return dice.choice([deeper_list] * 3 + [value[:place], value * 2])
    if type(value) is int and dice.random() < 0.5:
        return value + dice.choice([-1, 1, 2**32, -(2**32), 10**12])
    return dice.choice(ODD)


def text_of(text: str, dice: random.Random) -> bytes:
    """Other JSON: of another value, or of other bytes; sometimes so deep that a parser gives up."""
    kind = dice.random()
    if kind < 0.02:
        return text.replace("1", "[" * dice.choice([500, 100_000]), 1).encode()
    if kind < 0.3:
        return bytes_of(text.encode(), dice)
    return json.dumps(value_of(json.loads(text), dice)).encode()


def safetensors_of(content: bytes, dice: random.Random) -> bytes:
    """Another safetensors file: its header changed, its length untrue, or its bytes other ones."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    kind = dice.random()
    if kind < 0.25:
        return bytes_of(content, dice)
    if kind < 0.35:
        return struct.pack("<Q", dice.choice(LENGTHS)) + header + data
    if kind < 0.45:
        data = bytes_of(data, dice)
    header = text_of(header.decode(), dice)
    return struct.pack("<Q", len(header)) + header + data
