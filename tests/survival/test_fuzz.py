"""Ten thousand damaged checkpoints, manifests, configurations and metrics: read, or one line.

Whatever is read is bit for bit what was written, unless the damage came with checksums to match;
then it is still of the shapes and dtypes that the network has.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import nn

from ddpm.config import from_json, to_json
from ddpm.distributed import ALONE
from ddpm.errors import InputError
from ddpm.runs import checkpoint, sharded
from ddpm.runs.checkpoint import Checkpoint
from ddpm.runs.manifest import MANIFEST
from ddpm.runs.run_folder import RunFolder, step_of
from tests.ddpm.small import small_config
from tests.survival import corrupt

SLOWEST = 5.0
"""Seconds that none may take; a hang is longer."""
NETWORK = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
TENSORS = {"model": NETWORK.state_dict(), "ema-0.9": {"a": torch.arange(4.0)}}


Result = TypeVar("Result")


def outcome(work: Callable[[], Result]) -> Result | None:
    """What the work gives, or None where it refuses on one line; anything else fails the test."""
    started = time.perf_counter()
    try:
        return work()
    except InputError as error:
        message = str(error)
    assert time.perf_counter() - started < SLOWEST
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 1000
    return None


def same(one: Checkpoint, two: Checkpoint) -> bool:
    """Whether two checkpoints hold the same bits."""
    return (one.step, one.seconds) == (two.step, two.seconds) and all(
        one.tensors[part].keys() == two.tensors[part].keys()
        and all(torch.equal(one.tensors[part][k], two.tensors[part][k]) for k in two.tensors[part])
        for part in two.tensors
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path / "checkpoints", Checkpoint(3, 1.5, TENSORS), 2)


@contextmanager
def changed(file: Path, content: bytes) -> Iterator[None]:
    """Other content in a file for a while."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def test_damage_is_noticed(saved: Path) -> None:
    dice, whole, files = random.Random(1), checkpoint.load(saved), sorted(saved.iterdir())
    refused = 0
    for _ in range(3000):
        file = dice.choice(files)
        content = file.read_bytes()
        ways = [corrupt.bytes_of]
        if file.suffix == ".safetensors":
            ways.append(corrupt.safetensors_of)
        other = dice.choice(ways)(content, dice)
        with changed(file, other):
            read = outcome(partial(checkpoint.load, saved))
        assert (read is None) == (other != content)
        assert read is None or same(read, whole)
        refused += read is None
    assert refused > 2900


def test_damage_with_a_checksum_to_match(saved: Path) -> None:
    dice, file = random.Random(2), saved / "model.safetensors"
    content, taken = file.read_bytes(), 0
    for _ in range(2500):
        with changed(file, corrupt.safetensors_of(content, dice)):
            checkpoint.finish(saved, 3, 1.5)
            taken += outcome(partial(_restored, saved)) is not None
    assert 0 < taken < 1500


def test_shards_with_a_checksum_to_match(tmp_path: Path) -> None:
    dice, whole = random.Random(6), {"a": torch.arange(12.0).reshape(4, 3), "b": torch.ones(2)}
    folder = tmp_path / "step-3"
    sharded.write(folder / "model", whole, ALONE)
    checkpoint.finish(folder, 3, 1.5)
    (file,) = (folder / "model").iterdir()
    content, taken = file.read_bytes(), 0
    for _ in range(500):
        with changed(file, corrupt.safetensors_of(content, dice)):
            checkpoint.finish(folder, 3, 1.5)
            taken += outcome(partial(checkpoint.load, folder)) is not None
    assert 0 < taken < 400


def _restored(folder: Path) -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {name: (x.shape, x.dtype) for name, x in network.state_dict().items()}
    checkpoint.restore(network, checkpoint.load(folder, ("model",)).tensors["model"], folder)
    assert {name: (x.shape, x.dtype) for name, x in network.state_dict().items()} == before
    return network


def test_lists_of_files_that_somebody_made_up(saved: Path) -> None:
    dice, content = random.Random(3), json.loads((saved / MANIFEST).read_text())
    whole = checkpoint.load(saved)
    del content["self"]
    for _ in range(1500):
        other = corrupt.value_of(content, dice)
        text = json.dumps(other, indent=2)
        if isinstance(other, dict):
            own = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()
            text = json.dumps({**other, "self": own}, indent=2) + "\n"
        with changed(saved / MANIFEST, text.encode()):
            read = outcome(partial(checkpoint.load, saved))
        if read is not None:
            assert (read.step, type(read.seconds)) in ((3, float), (3, int))
            assert same(Checkpoint(3, 1.5, read.tensors), whole)


def test_configurations() -> None:
    dice, text = random.Random(4), to_json(small_config())
    taken = 0
    for _ in range(1500):
        other = corrupt.text_of(text, dice)
        read = outcome(partial(from_json, other, Path("run/config.json")))
        if read is not None:
            taken += 1
            assert from_json(to_json(read).encode(), Path("config.json")) == read
    assert 0 < taken < 1400


def test_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Waiting for the disk thousands of times is no part of the test.
    monkeypatch.setattr("os.fsync", lambda _: None)
    folder, dice = RunFolder(tmp_path), random.Random(5)
    lines = [json.dumps({"step": step, "loss": 1 / step, "x": [1]}) for step in range(1, 8)]
    taken = 0
    for number in range(1000):
        place = dice.randrange(len(lines))
        damaged_line = corrupt.text_of(lines[place], dice)
        content = b"".join(
            (damaged_line if at == place else line.encode()) + b"\n"
            for at, line in enumerate(lines)
        )
        content = corrupt.bytes_of(content, dice) if number % 4 == 0 else content
        folder.metrics_file.write_bytes(content)
        copy = folder.rewind_metrics(5)
        kept = folder.metrics_file.read_bytes().split(b"\n")[:-1]
        assert all((step_of(line) or 0) <= 5 and step_of(line) is not None for line in kept)
        assert set(kept) <= set(content.split(b"\n"))
        if copy is not None:
            assert copy.read_bytes() == content
            copy.unlink()
        taken += copy is None
    assert 0 < taken < 1000
