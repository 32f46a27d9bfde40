"""Parts of a checkpoint that several ranks write, each its shards, as safetensors files.

torch.distributed.checkpoint writes and reads them with its storage for safetensors; its own format
keeps the list of tensors in a pickle. A shard's place in the whole stands in the header of its
file. Everything there is compared before a tensor is read, because what is missing between two
shards would be left as it is found in memory.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ddpm.distributed import AgreedError, Ranks
from ddpm.errors import InputError

PLACES = "DCP_SHARDING_INFO"
OFFSETS = "saved_offsets"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Shard:
    """Rows of a tensor in one file: where they begin, their shape, and their dtype."""

    first: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def write(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write the shards of this rank, while every other rank writes its own.

    Args:
        folder: Where to, the same on every rank; made if it is not there.
        tensors: DTensors sharded along their first dimension, or tensors that all ranks share, of
            which one rank writes each.
        ranks: The ranks.

    Raises:
        AgreedError: on every rank, where one cannot write.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        with _quiet():
            save(dict(tensors), storage_writer=writer, process_group=ranks.host)
    except CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        raise AgreedError(f"{folder}: cannot be written by rank {rank}: {cause}") from error


def read_full(folder: Path) -> Tensors:
    """Read every tensor of a folder of shards, all of it, without any other process.

    Raises:
        InputError: a file is no such shard, or the shards do not make up whole tensors.
    """
    whole = _layout(folder)
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in whole.items()}
    return _read(folder, tensors)


def read_like(folder: Path, own: Mapping[str, Tensor]) -> Tensors:
    """Read what this rank holds of every tensor, without any other process.

    Args:
        folder: The shards, of any number of ranks.
        own: Tensors of the names, shapes and dtypes that are expected, sharded or not; they stay as
            they are.

    Returns:
        Tensors of the same kind.

    Raises:
        InputError: see `read_full`; or a tensor is missing, unknown, or of another shape or dtype.
    """
    whole = _layout(folder)
    for name in [*own, *whole]:
        if name not in own or name not in whole:
            where = "the network" if name not in own else "the checkpoint"
            raise InputError(f"{folder}: tensor {name!r} is not in {where}")
        shape, dtype = whole[name]
        if (shape, dtype) != (tuple(own[name].shape), own[name].dtype):
            raise InputError(
                f"{folder}: tensor {name!r} is {dtype} {list(shape)}: "
                f"allowed is {own[name].dtype} {list(own[name].shape)}"
            )
    return _read(folder, {name: torch.empty_like(x).detach() for name, x in own.items()})


def _read(folder: Path, targets: Tensors) -> Tensors:
    reader = HuggingFaceStorageReader(str(folder))
    try:
        with _quiet():
            load(dict(targets), storage_reader=reader, no_dist=True)
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))
        raise InputError(f"{folder}: cannot be read: {cause}") from None
    return targets


def _layout(folder: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of every whole tensor, once its shards are known to make it up."""
    found: dict[str, list[Shard]] = {}
    for file in sorted(folder.iterdir()):
        for name, shard in _shards(file):
            found.setdefault(name, []).append(shard)
    if not found:
        raise InputError(f"{folder}: holds no shard")
    return {name: _joined(folder, name, shards) for name, shards in found.items()}


def _shards(file: Path) -> Iterator[tuple[str, Shard]]:
    """Names and places of what a file holds.

    Raises:
        InputError: the file is none that `write` has written.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            places = json.loads((opened.metadata() or {})[PLACES])
            for name in opened.keys():  # noqa: SIM118
                part = opened.get_slice(name)
                shape, dtype = tuple(part.get_shape()), DTYPES[part.get_dtype()]
                yield name, Shard(_first_row(places[name][OFFSETS], shape), shape, dtype)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is no shard of a checkpoint: {error}") from None


def _first_row(offsets: Any, shape: tuple[int, ...]) -> int:
    """First row of a shard whose offsets are [row, 0, 0, ...].

    Raises:
        ValueError: they are not.
    """
    fit = isinstance(offsets, list) and len(offsets) == len(shape)
    if not fit or any(type(x) is not int or x < 0 for x in offsets) or any(offsets[1:]):
        raise ValueError(f"offsets {offsets} of a shard of shape {list(shape)}")
    return offsets[0] if offsets else 0


def _joined(folder: Path, name: str, shards: list[Shard]) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and dtype of a tensor whose shards follow each other without gap or overlap.

    Raises:
        InputError: they do not.
    """
    # A rank without rows writes an empty shard, which begins where others do.
    ordered = sorted((s for s in shards if 0 not in s.shape[:1]), key=lambda s: s.first)
    ordered = ordered or shards[:1]
    alike = {(s.shape[1:], len(s.shape), s.dtype) for s in shards}
    rows = 0
    for shard in ordered:
        if shard.first != rows or len(alike) > 1 or (not shard.shape and len(ordered) > 1):
            raise InputError(f"{folder}: the shards of tensor {name!r} do not make up a whole")
        rows += shard.shape[0] if shard.shape else 0
    tail = ordered[0].shape[1:]
    return ((rows, *tail) if ordered[0].shape else ()), ordered[0].dtype


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice of torch that is meant for itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
