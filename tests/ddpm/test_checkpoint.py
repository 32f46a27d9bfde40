"""Checkpoints are complete or refused: every byte is under a checksum."""

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ddpm import checkpoint
from ddpm.checkpoint import Checkpoint
from ddpm.errors import InputError
from ddpm.files import sha256

TENSORS = {part: {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)} for part in
           ("model", "ema", "optimiser")}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(tmp_path_factory.mktemp("run"), Checkpoint(3, 1.5, TENSORS), 2)


def test_round_trip(saved: Path) -> None:
    state = checkpoint.load(saved)
    assert (state.step, state.seconds) == (3, 1.5)
    for part, tensors in TENSORS.items():
        assert all(torch.equal(state.tensors[part][k], v) for k, v in tensors.items())
    assert list(checkpoint.load(saved, ("ema",)).tensors) == ["ema"]


def test_only_the_last_are_kept_and_order_is_by_number(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, Checkpoint(step, 0.0, TENSORS), 2)
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step-10", "step-100"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-100"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)
    folder = checkpoint.save(tmp_path, Checkpoint(1, 2.0, TENSORS), 2)
    assert checkpoint.load(folder).seconds == 2.0
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_an_unfinished_write_is_not_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, Checkpoint(2, 0.0, TENSORS), 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), data=st.data())
def test_a_flipped_bit_is_noticed(saved: Path, where: float, bit: int, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(sorted(saved.iterdir())))
    content = file.read_bytes()
    index = int(where * len(content))
    flipped = bytes([content[index] ^ (1 << bit)])
    try:
        file.write_bytes(content[:index] + flipped + content[index + 1 :])
        with pytest.raises(InputError, match=re.escape(str(saved))):
            checkpoint.load(saved)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", checkpoint.MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"self": 1, "step": 2}', "\x00"])
def test_a_strange_manifest_is_refused(tmp_path: Path, text: str) -> None:
    folder = checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)
    (folder / checkpoint.MANIFEST).write_text(text)
    with pytest.raises(InputError, match="damaged"):
        checkpoint.load(folder)


def test_a_file_with_a_right_checksum_that_is_no_safetensors(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)
    (folder / "ema.safetensors").write_bytes(b"\x80\x04pickle")
    content = json.loads((folder / checkpoint.MANIFEST).read_text())
    del content["self"]
    content["sha256"]["ema.safetensors"] = sha256(folder / "ema.safetensors")
    (folder / checkpoint.MANIFEST).write_text(checkpoint._manifest_text(content))
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "bias is not in the checkpoint"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "c": torch.zeros(1)}, "network"),
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, r"allowed is .* \[2, 3\]"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2).half()}, "torch.float16"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checkpoint.restore(nn.Linear(3, 2), tensors, Path("ema.safetensors"))
