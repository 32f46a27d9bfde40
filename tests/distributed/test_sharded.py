"""Shards of any number of ranks are read back whole, and what is none is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ddpm.errors import InputError
from ddpm.runs.sharded import OFFSETS, PLACES, read_full, read_like
from tests.distributed import work
from tests.distributed.together import outcomes_of, together

Change = Callable[[dict[str, torch.Tensor], dict[str, dict[str, list[int]]]], None]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "part"
    together(4, work.write_shards, folder)
    return folder


def test_shards_of_four_ranks_are_read_by_one(shards: Path) -> None:
    files = sorted(p.name for p in shards.iterdir())
    assert len(files) == 4
    assert all(name.endswith(".safetensors") for name in files)
    for tensors in (read_full(shards), read_like(shards, work.SHAPES)):
        assert tensors.keys() == work.SHAPES.keys()
        for name, x in work.SHAPES.items():
            assert tensors[name].dtype == x.dtype
            assert torch.equal(tensors[name], x)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({**work.SHAPES, "more": torch.ones(1)}, "'more' is not in the checkpoint"),
        ({n: x for n, x in work.SHAPES.items() if n != "long"}, "'long' is not in the network"),
        ({**work.SHAPES, "long": torch.ones(7, 6)}, r"\[7, 5\]: allowed is torch.float32 \[7, 6\]"),
        ({**work.SHAPES, "half": torch.ones(3, 2, 2)}, "'half' is torch.bfloat16"),
    ],
)
def test_other_tensors_are_refused(
    shards: Path, own: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_like(shards, own)


def rewritten(shards: Path, folder: Path, change: Change) -> Path:
    """A copy of the shards with the content of the first file changed."""
    folder.mkdir()
    for number, file in enumerate(sorted(shards.iterdir())):
        tensors = load_file(file)
        with safe_open(file, framework="pt") as opened:
            places = json.loads(opened.metadata()[PLACES])
        if number == 0:
            change(tensors, places)
        save_file(tensors, folder / file.name, {PLACES: json.dumps(places)})
    return folder


def move(name: str, offsets: list[int]) -> Change:
    def change(_: object, places: dict[str, dict[str, list[int]]]) -> None:
        places[name][OFFSETS] = offsets

    return change


def drop(name: str) -> Change:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        del tensors[name]

    return change


def put(name: str, value: torch.Tensor) -> Change:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        tensors[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (move("long", [1, 0]), "the shards of tensor 'long' do not make up a whole"),
        (move("long", [0, 1]), "is no shard of a checkpoint"),
        (move("long", [-1, 0]), "is no shard of a checkpoint"),
        (move("long", [0]), "is no shard of a checkpoint"),
        (drop("long"), "the shards of tensor 'long' do not make up a whole"),
        (put("long", torch.ones(1, 5)), "the shards of tensor 'long' do not make up a whole"),
        (put("long", torch.ones(3, 5)), "the shards of tensor 'long' do not make up a whole"),
        (put("long", torch.ones(2, 6)), "the shards of tensor 'long' do not make up a whole"),
        (put("long", torch.ones(2, 5).long()), "the shards of tensor 'long' do not make up"),
        (put("odd", torch.ones(2, 5)), "is no shard of a checkpoint"),
    ],
)
def test_shards_that_make_no_whole_are_refused(
    shards: Path, tmp_path: Path, change: Change, message: str
) -> None:
    folder = rewritten(shards, tmp_path / "part", change)
    with pytest.raises(InputError, match=message):
        read_full(folder)


def test_files_that_are_no_shards_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no shard"):
        read_full(tmp_path)
    folder = rewritten(shards, tmp_path / "part", lambda *_: None)
    (folder / "other.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match=r"other.safetensors: is no shard"):
        read_full(folder)
    save_file({"long": torch.ones(1)}, folder / "other.safetensors")
    with pytest.raises(InputError, match=r"other.safetensors: is no shard"):
        read_full(folder)


def test_a_folder_that_cannot_be_written_is_named_on_every_rank(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("a file is in the way")
    outcomes = outcomes_of(2, work.write_shards, tmp_path / "part")
    assert outcomes[0][1].startswith(f"AgreedError: {tmp_path / 'part'}: cannot be written by rank")
    assert outcomes[1] == ("exit", "2")
