"""Checkpoints of one rank or of many: who writes what, and how any of them is read by any."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ddpm.distributed import Ranks
from ddpm.files import begin_folder, publish_folder
from ddpm.runs import checkpoint
from ddpm.runs.checkpoint import Checkpoint

CHECKPOINTS_KEPT = 3


def save(folder: Path, state: Checkpoint, ranks: Ranks, *, sharded: bool) -> Path:
    """Write a checkpoint under a folder; every rank calls it.

    Args:
        folder: Where the checkpoints of the run lie.
        state: The state; of a sharded network what this rank holds of it.
        ranks: The ranks.
        sharded: Whether each rank writes its shards; otherwise rank 0 writes all.

    Returns:
        The checkpoint's folder.

    Raises:
        InputError: it cannot be written; the checkpoints that were there still are.
    """
    if sharded:
        return _save_shards(folder, state, ranks)
    return Path(ranks.first(lambda: str(checkpoint.save(folder, state, CHECKPOINTS_KEPT))))


def load(folder: Path, own: Mapping[str, Mapping[str, Tensor]], *, sharded: bool) -> Checkpoint:
    """Read a checkpoint of any number of ranks, on every rank by itself.

    Args:
        folder: The checkpoint.
        own: Its parts and their tensors as they are now, sharded or not.
        sharded: Whether only this rank's shards are wanted, where the file holds shards too.

    Returns:
        Whole tensors, or DTensors where `own` has them and the checkpoint has shards.

    Raises:
        InputError: the checkpoint is damaged or lacks a part.
    """
    if not (sharded and any(checkpoint.part_path(folder, part).is_dir() for part in own)):
        return checkpoint.load(folder, tuple(own))
    from ddpm.runs.sharded import read_like

    # Without a part this compares every checksum and reads no tensor.
    whole = tuple(part for part in own if not checkpoint.part_path(folder, part).is_dir())
    state = checkpoint.load(folder, whole)
    shards = {part: read_like(folder / part, own[part]) for part in own if part not in whole}
    return Checkpoint(state.step, state.seconds, {**state.tensors, **shards})


def _save_shards(folder: Path, state: Checkpoint, ranks: Ranks) -> Path:
    from ddpm.runs.sharded import write

    target = folder / f"step-{state.step}"
    temporary = Path(ranks.first(lambda: str(begin_folder(target))))

    def publish() -> None:
        checkpoint.finish(temporary, state.step, state.seconds)
        publish_folder(temporary, target)
        checkpoint.keep_last(folder, CHECKPOINTS_KEPT)

    try:
        for part, tensors in state.tensors.items():
            write(temporary / part, tensors, ranks)
        ranks.first(publish)
    finally:
        if ranks.main:
            shutil.rmtree(temporary, ignore_errors=True)
    return target
