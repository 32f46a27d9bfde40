"""Checkpoints are complete or refused: every byte is under a checksum."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ddpm.errors import InputError
from ddpm.files import begin_folder, publish_folder, sha256
from ddpm.runs import checkpoint
from ddpm.runs.checkpoint import Checkpoint
from ddpm.runs.manifest import MANIFEST

TENSORS = {part: {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)} for part in
           ("model", "ema", "optimiser")}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(tmp_path_factory.mktemp("run"), Checkpoint(3, 1.5, TENSORS), 2)


def listed(folder: Path, **changes: object) -> None:
    """Write a manifest that is what nobody has written, with a checksum of its own that fits."""
    sums = {file.name: sha256(file) for file in folder.glob("*.safetensors")}
    content = {"step": 3, "seconds": 1.5, "sha256": sums, **changes}
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    text = json.dumps({**content, "self": own}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path / "checkpoints", Checkpoint(3, 1.5, TENSORS), 2)


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
    with pytest.raises(InputError, match="step-2: cannot be written: No space left"):
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


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "3", '{"self": 1, "step": 2}', "\x00", pytest.param("[" * 10**5, id="deep")],
)
def test_a_strange_manifest_is_refused(tmp_path: Path, text: str) -> None:
    folder = checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="damaged"):
        checkpoint.load(folder)


def test_a_file_with_a_right_checksum_that_is_no_safetensors(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, Checkpoint(1, 0.0, TENSORS), 2)
    (folder / "ema.safetensors").write_bytes(b"\x80\x04pickle")
    checkpoint.finish(folder, 1, 0.0)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "'bias' is not in the checkpoint"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "c": torch.zeros(1)}, "network"),
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, r"allowed is .* \[2, 3\]"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2).half()}, "torch.float16"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checkpoint.restore(nn.Linear(3, 2), tensors, Path("ema.safetensors"))


def test_parts_are_those_that_were_saved(tmp_path: Path) -> None:
    tensors = {"model": {"a": torch.ones(2)}, "ema": {}, "ema-0.9999": {"a": torch.zeros(2)}}
    folder = checkpoint.save(tmp_path, Checkpoint(7, 0.5, tensors), 1)
    assert checkpoint.verify(folder).parts == ("ema", "ema-0.9999", "model")
    state = checkpoint.load(folder)
    assert state.tensors.keys() == tensors.keys()
    assert torch.equal(state.tensors["ema-0.9999"]["a"], torch.zeros(2))
    with pytest.raises(InputError, match=r"holds no 'optimiser'; it has ema, ema-0.9999, model"):
        checkpoint.load(folder, ("model", "optimiser"))


@pytest.mark.parametrize("part", ["../model", "", ".hidden", "a/b", "a\nb"])
def test_a_part_that_could_lie_elsewhere_is_refused(tmp_path: Path, part: str) -> None:
    with pytest.raises(InputError, match="part = "):
        checkpoint.save(tmp_path, Checkpoint(1, 0.0, {part: {}}), 1)
    assert list(tmp_path.iterdir()) == []


def test_several_processes_fill_one_folder(tmp_path: Path) -> None:
    target = tmp_path / "checkpoints" / "step-4"
    temporary = begin_folder(target)
    (temporary / "model").mkdir()
    for rank in range(2):
        (temporary / "model" / f"shard-{rank}.safetensors").write_bytes(b"shard")
    checkpoint.finish(temporary, 4, 2.0)
    assert checkpoint.checkpoints(target.parent) == []
    publish_folder(temporary, target)
    manifest = checkpoint.verify(target)
    assert manifest.sums.keys() == {f"model/shard-{rank}.safetensors" for rank in range(2)}
    assert manifest.parts == ("model",)
    assert checkpoint.part_path(target, "model") == target / "model"
    (target / "model" / "shard-2.safetensors").write_bytes(b"shard")
    with pytest.raises(InputError, match=r"shard-2.*not a file of this checkpoint"):
        checkpoint.verify(target)


def test_the_list_of_files_that_was_always_written_is_read(fresh: Path) -> None:
    listed(fresh)
    assert checkpoint.load(fresh).tensors.keys() == TENSORS.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"step": True}, {"step": -1}, {"step": 3.0}, {"step": "3"}, {"step": 2**63},
        {"seconds": -1}, {"seconds": None}, {"seconds": float("nan")}, {"seconds": 10**400},
        {"sha256": []}, {"sha256": {"model.safetensors": 1}}, {"extra": 1},
        {"sha256": {"../x.safetensors": ""}}, {"sha256": {"/etc/passwd": ""}},
        {"sha256": {"model/../../x.safetensors": ""}}, {"sha256": {"model/a/b": ""}},
        {"sha256": {"model/..": ""}}, {"sha256": {"passwd": ""}}, {"sha256": {"": ""}},
        {"sha256": {"model.safetensors": "", "model/a": ""}},
        {"sha256": {"\x1b[2J.safetensors": ""}},
    ],
)  # fmt: skip
def test_a_list_that_nobody_wrote_is_refused(fresh: Path, changes: dict[str, object]) -> None:
    (fresh.parent / "x.safetensors").write_bytes(b"")
    listed(fresh, **changes)
    with pytest.raises(InputError, match=f"{MANIFEST}: not the list of files"):
        checkpoint.load(fresh)


def test_a_renamed_checkpoint_is_refused(fresh: Path) -> None:
    other = fresh.rename(fresh.with_name("step-30"))
    with pytest.raises(InputError, match="is that of update 3"):
        checkpoint.load(other)
    assert checkpoint.load(other.rename(fresh.with_name("best"))).step == 3


def test_links_pipes_and_strangers_are_refused(fresh: Path) -> None:
    model, elsewhere = fresh / "model.safetensors", fresh.parent / "elsewhere"
    shutil.move(model, elsewhere)
    model.symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"model.safetensors': not a file"):
        checkpoint.load(fresh)
    model.unlink()
    os.mkfifo(model)
    with pytest.raises(InputError, match=r"model.safetensors': not a file"):
        checkpoint.load(fresh)
    model.unlink()
    shutil.move(elsewhere, model)
    (fresh / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"pytorch_model.bin.*not a file of this checkpoint"):
        checkpoint.load(fresh)
    (fresh / "pytorch_model.bin").unlink()
    (fresh / "model" / "deep").mkdir(parents=True)
    with pytest.raises(InputError, match=r"deep'?: not a file"):
        checkpoint.load(fresh)


def test_a_linked_checkpoint_or_list_is_refused(fresh: Path) -> None:
    link = fresh.parent.parent / "step-3"
    link.symlink_to(fresh)
    with pytest.raises(InputError, match="a link"):
        checkpoint.load(link)
    (fresh / MANIFEST).rename(fresh.parent / "list")
    (fresh / MANIFEST).symlink_to(fresh.parent / "list")
    with pytest.raises(InputError, match=f"{MANIFEST}: missing"):
        checkpoint.load(fresh)
    (fresh / MANIFEST).unlink()
    os.mkfifo(fresh / MANIFEST)
    with pytest.raises(InputError, match="not an ordinary file"):
        checkpoint.load(fresh)


def test_nothing_is_ever_unpickled(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to unpickle ends in one of these, which now refuse to be looked up."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(name, refuse)
    assert checkpoint.load(fresh).step == 3
    payload = b"cos\nsystem\n(S'touch pwned'\ntR."
    for file in sorted(fresh.glob("*.safetensors")):
        file.write_bytes(payload)
    checkpoint.finish(fresh, 3, 1.5)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        checkpoint.load(fresh)


def test_a_listing_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        checkpoint.checkpoints(tmp_path)


def test_only_numbers_are_steps(tmp_path: Path) -> None:
    for name in ("step-1", "step-²", "step-x", "step-", "step-1.old", "xstep-2"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-1"]
    assert checkpoint.checkpoints(tmp_path / "absent") == []
