"""Damage that knows a format: it repairs checksums and lies where a reader would believe it."""

import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np

Generator = np.random.Generator
Damage = Callable[[bytes, Generator], bytes]

LIES = (0, 1, 2, 3, 255, 256, 65535, 1 << 16, 10**6, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
HUGE = (10**12, -1, -(10**12), 1 << 62, 1 << 63, 1 << 64, 10**30)


def anyhow(content: bytes, draw: Generator) -> bytes:
    """Damage that knows nothing: cut, lengthen, overwrite, insert, remove, repeat or replace."""
    how = int(draw.integers(0, 8))
    if not content or how == 0:
        return draw.bytes(int(draw.integers(0, 80)))
    place = int(draw.integers(0, len(content)))
    length = int(draw.integers(1, 17))
    if how == 1:
        return content[:place]
    if how == 2:
        return content + draw.bytes(length)
    if how == 3:
        return content[:place] + draw.bytes(length) + content[place:]
    if how == 4:
        return content[:place] + content[place + length :]
    if how == 5:
        return content[:place] + content[place : place + 64] + content[place:]
    result = bytearray(content)
    last = len(content) if how == 6 else min(len(content), 48)
    for _ in range(int(draw.integers(1, 6))):
        result[int(draw.integers(0, last))] = int(draw.integers(0, 256))
    return bytes(result)


def lie(draw: Generator, width: int, order: str = ">") -> bytes:
    """A whole number of so many bytes that a reader had better not believe."""
    value = LIES[int(draw.integers(0, len(LIES)))]
    return (
        struct.pack(f"{order}Q", value)[-width:]
        if order == ">"
        else struct.pack("<Q", value)[:width]
    )


def idx_header(content: bytes, draw: Generator) -> bytes:
    """One of the dimensions is a lie."""
    place = 4 * int(draw.integers(0, 4))
    return content[:place] + lie(draw, 4) + content[place + 4 :]


def npy_header(content: bytes, draw: Generator) -> bytes:
    """A header of NumPy's with another shape, type or order, of the right length."""
    start = content.index(b"{")
    end = content.index(b"\n", start)
    text = content[start:end].decode()
    shape = ", ".join(str(number(draw)) for _ in range(int(draw.integers(0, 6))))
    kinds = ("|u1", "|O", "<f8", "|V1000000000", "<U99999999", "|i1", ">u8", "?", "", "|S0")
    changes = (
        (r"\(.*\)", f"({shape},)"),
        (r"'\|u1'|'<i8'", repr(kinds[int(draw.integers(0, len(kinds)))])),
        ("False", ("True", "None", "1or 2", "'x'")[int(draw.integers(0, 4))]),
        ("'descr'", "'other'"),
        (r"\}", ""),
        (r"\(", "((" * int(draw.integers(1, 20))),
    )
    pattern, new = changes[int(draw.integers(0, len(changes)))]
    text = re.sub(pattern, lambda _: new, text, count=1)
    text = text.rstrip().ljust(end - start)
    length = struct.pack("<H", start - 10 + len(text) + 1)
    return content[:8] + length + content[10:start] + text.encode() + content[end:]


def number(draw: Generator) -> int:
    """A dimension, likely or absurd."""
    choices = (*LIES, *HUGE, 4, 5, 40)
    return choices[int(draw.integers(0, len(choices)))]


def npz_member(content: bytes, draw: Generator) -> bytes:
    """An archive whose checksums are right and one of whose arrays lies."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = sorted(members)[int(draw.integers(0, len(members)))]
    damage = (npy_header, anyhow)[int(draw.integers(0, 2))]
    members[chosen] = damage(members[chosen], draw)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def zip_field(content: bytes, draw: Generator) -> bytes:
    """A field of a zip header is a lie: sizes, offsets, counts, methods."""
    marks = [m.start() for m in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", content)]
    place = marks[int(draw.integers(0, len(marks)))] + int(draw.integers(4, 46))
    return content[:place] + lie(draw, 4, "<") + content[place + 4 :]


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG file: kind and data."""
    place = 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def png_chunk(content: bytes, draw: Generator) -> bytes:
    """A chunk is changed, repeated, dropped or added, and all checksums are right."""
    chunks = list(png_chunks(content))
    place = int(draw.integers(0, len(chunks)))
    kind, data = chunks[place]
    how = int(draw.integers(0, 5))
    if how == 0:
        data = lie(draw, 4) + lie(draw, 4) + data[8:] if kind == b"IHDR" else anyhow(data, draw)
        chunks[place] = (kind, data)
    elif how == 1:
        chunks[place] = (kind, anyhow(data, draw))
    elif how == 2:
        chunks.insert(place, (kind, data))
    elif how == 3:
        del chunks[place]
    else:
        kinds = (b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"acTL", b"fdAT", b"eXIf", b"iTXt", b"gAMA")
        packed = zlib.compress(bytes(1 << 21)) if draw.integers(0, 8) == 0 else draw.bytes(20)
        new = (kinds[int(draw.integers(0, len(kinds)))], b"key\0\0" + packed)
        chunks.insert(place, new)
    written = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    return content[:8] + b"".join(written)


def jpeg_segment(content: bytes, draw: Generator) -> bytes:
    """A length or a size after one of the markers is a lie."""
    marks = [m.start() for m in re.finditer(rb"\xff[\xc0-\xc4\xda-\xdd\xe0\xe1]", content)]
    place = marks[int(draw.integers(0, len(marks)))] + int(draw.integers(2, 10))
    return content[:place] + lie(draw, 2) + content[place + 2 :]


def tar_header(content: bytes, draw: Generator) -> bytes:
    """A field of a header is a lie, and the header's checksum is right."""
    blocks = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]
    at = blocks[int(draw.integers(0, len(blocks)))]
    header = bytearray(content[at : at + 512])
    how = int(draw.integers(0, 4))
    if how == 0:
        header[156] = b"0157xgLKSDV\0\xff"[int(draw.integers(0, 13))]
    elif how == 1:
        header[124:136] = tar_number(draw)
    elif how == 2:
        header[156] = b"xgLKS"[int(draw.integers(0, 5))]
        header[124:136] = tar_number(draw)
    else:
        place = int(draw.integers(0, 500))
        header[place : place + 8] = draw.bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:at] + bytes(header[:512]) + content[at + 512 :]


def tar_number(draw: Generator) -> bytes:
    """A size of 12 bytes, in octal or in the binary form for sizes beyond it."""
    value = number(draw)
    if draw.integers(0, 2):
        return b"%011o\0" % (abs(value) % (1 << 33))
    return (
        b"\x80" + (value % (1 << 88)).to_bytes(11, "big")
        if value >= 0
        else b"\xff" * 4 + (value % (1 << 64)).to_bytes(8, "big")
    )


def tar_payload(content: bytes, draw: Generator) -> bytes:
    """An extended header of any content stands before the members."""
    keys = ("path", "size", "linkpath", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major",
            "hdrcharset", "GNU.sparse.numblocks", "mtime")  # fmt: skip
    lines = b""
    for _ in range(int(draw.integers(1, 4))):
        value = (str(number(draw)), "a.png", "1,2,3", "\0", "")[int(draw.integers(0, 5))]
        text = f" {keys[int(draw.integers(0, len(keys)))]}={value}\n".encode()
        length = len(text) + 2 if draw.integers(0, 4) else number(draw)
        lines += str(length).encode() + text
    info = tarfile.TarInfo("pax")
    info.type = (tarfile.XHDTYPE, tarfile.XGLTYPE)[int(draw.integers(0, 2))]
    info.size = len(lines)
    padded = lines + bytes(-len(lines) % 512)
    return info.tobuf(tarfile.USTAR_FORMAT) + padded + content
