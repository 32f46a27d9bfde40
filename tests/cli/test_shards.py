"""Many pictures: the same whoever draws them, in whatever pieces, however often interrupted."""

import json
import os
import shutil
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ddpm.commands import trained as trained_module
from ddpm.commands.shards import GRID, ShardFolder
from ddpm.commands.trained import TrainedRun, open_run
from ddpm.errors import InputError
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.runs.run_folder import RunFolder
from ddpm.samplers.sampler import Sampler
from tests.cli.command import SMALL, everything_below, run_here
from tests.distributed.together import CONTEXT, environment, free_port

NUM = 140
"""More than a batch, so that the second one is not full."""
FAST = ["--sampler", "ddim", "--steps", "3", "--eta", "0.5", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two averages."""
    path = tmp_path_factory.mktemp("runs") / "averages"
    options = ["--steps", "12", "--ema", "0.999", "--ema", "0.5", "--device", "cpu", *SMALL]
    assert run_here("train", "--run", path, *options) == 0
    return path


def sample(run: Path, out: Path, *options: str) -> int:
    return run_here("sample", "--run", run, "--out", out, "--num", str(NUM), *FAST, *options)


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pictures in one shard."""
    out = tmp_path_factory.mktemp("whole") / "pictures"
    assert sample(run, out) == 0
    return out


def pictures(folder: Path) -> np.ndarray:
    """What is there, read by nothing of ours."""
    files = sorted(folder.glob("samples-*.npz"))
    return np.concatenate([np.load(file)["images"] for file in files])


@pytest.mark.parametrize("size", [33, 60, 125])
def test_the_size_of_a_shard_changes_no_bit(
    run: Path, whole: Path, tmp_path: Path, size: int
) -> None:
    out = tmp_path / "pictures"
    assert sample(run, out, "--shard-size", str(size)) == 0
    count = -(-NUM // size)
    names = [f"samples-{i:05d}-of-{count:05d}.npz" for i in range(count)]
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "sampling.json", GRID])
    assert np.array_equal(pictures(out), pictures(whole))
    assert (out / GRID).read_bytes() == (whole / GRID).read_bytes()
    with np.load(out / names[-1]) as arrays:
        assert int(arrays["first"]) == size * (count - 1)


class Mixing(torch.nn.Module):
    """A network whose output for one picture depends on all others of the batch."""

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.5 * x + x.mean(dim=0) + 0 * t[:, None, None, None]


def test_a_picture_is_always_drawn_beside_the_same_others(run: Path) -> None:
    opened = open_run(run, "cpu")
    assert isinstance(opened.trained, TrainedGaussian)
    mixing = replace(opened, trained=replace(opened.trained, model=Mixing()))
    sampler = Sampler(name="ddim", steps=3, eta=0.5)
    every = mixing.pictures(range(NUM), NUM, 0, sampler)
    for size in (33, 125):
        parts = [range(first, min(NUM, first + size)) for first in range(0, NUM, size)]
        drawn = torch.cat([mixing.pictures(part, NUM, 0, sampler) for part in parts])
        assert torch.equal(drawn, every)


def test_they_are_the_pictures_of_another_batch_but_for_rounding(
    run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_module, "BATCH", 50)
    assert sample(run, tmp_path / "pictures") == 0
    difference = np.abs(pictures(tmp_path / "pictures").astype(int) - pictures(whole))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01


def test_png_files_hold_the_same_pictures(run: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    assert sample(run, out, "--shard-size", "60", "--format", "png") == 0
    files = sorted(out.glob("samples-*-of-00003/*.png"))
    assert [file.stem for file in files] == [f"{i:08d}" for i in range(NUM)]
    for file, grey in zip(files, pictures(whole), strict=True):
        with Image.open(file) as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.asarray(picture), np.round(grey[0] * (255 / 16)))
    assert np.array_equal(ShardFolder.open(out).read().numpy(), pictures(whole))


def test_an_interrupted_sampling_goes_on(
    run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, write = tmp_path / "pictures", ShardFolder.write

    def stopped(self: ShardFolder, number: int, images: torch.Tensor) -> None:
        if number == 2:
            raise KeyboardInterrupt
        write(self, number, images)

    with monkeypatch.context() as patch:
        patch.setattr(ShardFolder, "write", stopped)
        assert sample(run, out, "--shard-size", "30") == 130
    assert "Go on with the same command" in capfd.readouterr().out
    there = everything_below(out)
    assert sorted(there) == [*(f"samples-0000{i}-of-00005.npz" for i in (0, 1)), "sampling.json"]
    # What a killed process leaves behind is cleared away.
    (out / ".samples-00002-of-00005.npz.0123456789abcdef.partial").write_bytes(b"half")
    drawn: list[range] = []
    draw = TrainedRun.pictures

    def counted(self: TrainedRun, wanted: range, *rest: object) -> torch.Tensor:
        drawn.append(wanted)
        return draw(self, wanted, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainedRun, "pictures", counted)
    assert sample(run, out, "--shard-size", "30") == 0
    assert drawn == [range(60, 90), range(90, 120), range(120, 140)]
    assert np.array_equal(pictures(out), pictures(whole))
    after = everything_below(out)
    assert {name: after[name] for name in there} == there
    assert not list(out.glob(".*"))
    assert sample(run, out, "--shard-size", "30") == 0
    assert everything_below(out) == after


def rank(number: int, port: int, done: Connection, arguments: list[str]) -> None:
    torch.set_num_threads(1)
    with environment(number, 2, port):
        done.send(run_here(*arguments))


def test_ranks_share_the_shards(run: Path, whole: Path, tmp_path: Path) -> None:
    out, port = tmp_path / "pictures", free_port()
    arguments = [
        "sample", "--run", str(run), "--out", str(out), "--num", str(NUM), *FAST,
        "--shard-size", "20",
    ]  # fmt: skip
    ends = [CONTEXT.Pipe(duplex=False) for _ in range(2)]
    ranks = [
        CONTEXT.Process(target=rank, args=(i, port, ends[i][1], arguments), daemon=True)
        for i in range(2)
    ]
    for process in ranks:
        process.start()
    assert all(receiver.poll(100) for receiver, _ in ends)
    assert [receiver.recv() for receiver, _ in ends] == [0, 0]
    for process in ranks:
        process.join(100)
    assert np.array_equal(pictures(out), pictures(whole))
    assert (out / GRID).read_bytes() == (whole / GRID).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "3"], ["seed = 0", "3"]),
        (["--shard-size", "70"], ["shard_size = 1000", "70"]),
        (["--ema", "0.5"], ["ema = 0.999", "0.5"]),
        (["--format", "png"], ["format = 'npz'", "'png'"]),
        (["--num", "141"], ["num = 140", "141"]),
        (["--steps", "4"], ["steps = 3", "4"]),
        (["--eta", "1"], ["eta = 0.5", "1.0"]),
        (["--sampler", "ancestral", "--eta", "0"], ["sampler = 'ddim'", "'ancestral'"]),
    ],
)
def test_a_folder_of_another_sampling_is_refused(
    run: Path, whole: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    before = everything_below(whole)
    assert sample(run, whole, *options) == 2
    printed = capfd.readouterr().err
    for word in [str(whole), "another sampling", "allowed", *words]:
        assert word in " ".join(printed.split())
    assert everything_below(whole) == before


def test_the_pictures_of_other_weights_are_another_sampling(
    run: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "averages"
    options = ["--steps", "12", "--seed", "7", "--device", "cpu", *SMALL]
    assert run_here("train", "--run", other, *options) == 0
    assert sample(other, whole) == 2
    assert "with fingerprint = " in capfd.readouterr().err
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    assert sample(moved, whole) == 0


def test_a_folder_of_something_else_is_refused(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("kept")
    before = everything_below(tmp_path)
    for name in ("thesis", "file"):
        assert sample(run, tmp_path / name) == 2
        assert "something else than a sampling" in " ".join(capfd.readouterr().err.split())
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard-size", "0"], ["shard_size = 0", "at least 1"]),
        (["--format", "gif"], ["format = 'gif'", "npz or png"]),
        (["--ema", "0.7"], ["ema = 0.7", "0.999 or 0.5"]),
        (["--shard-size", "10", "--out", "grid.png"], ["out = 'grid.png'", "a folder"]),
        (["--shard-size", "10", "--out", "/nowhere/pictures"], ["/nowhere/pictures", "existing"]),
    ],
)
def test_options(
    run: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    before = everything_below(run)
    assert run_here("sample", "--run", run, "--num", str(NUM), *FAST, *options) == 2
    printed = capfd.readouterr().err
    for word in words:
        assert word in printed
    assert everything_below(run) == before


def test_each_average_has_its_own_pictures_and_name(run: Path) -> None:
    for options in ([], ["--ema", "0.5"], ["--ema", "0.999"]):
        assert run_here("sample", "--run", run, "--num", "3", *FAST, *options) == 0
    stem, other = "ddim-3-eta-0.5-seed-0-num-3", "ddim-3-eta-0.5-ema-0.5-seed-0-num-3"
    arrays = [np.load(run / "samples" / f"{n}.npz")["images"] for n in (stem, other, f"{stem}-2")]
    assert np.array_equal(arrays[0], arrays[2])
    assert arrays[1].shape == (3, 1, 8, 8)
    checkpoint = RunFolder(run).last_checkpoint()
    for rate, part in ((None, "ema"), (0.999, "ema"), (0.5, "ema-0.5")):
        weights = load_file(checkpoint / f"{part}.safetensors")
        opened = open_run(run, "cpu", rate)
        assert opened.ema == (rate or 0.999)
        state = opened.model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in weights.items())
    assert open_run(run, "cpu", 0.5).fingerprint() != open_run(run, "cpu").fingerprint()


def damaged_json(folder: Path) -> None:
    content = json.loads((folder / "sampling.json").read_text())
    (folder / "sampling.json").write_text(json.dumps({**content, "num": -1}))


def lost_shard(folder: Path) -> None:
    next(folder.glob("samples-00000-*")).unlink()


def truncated_shard(folder: Path) -> None:
    file = next(folder.glob("samples-00000-*"))
    os.truncate(file, file.stat().st_size // 2)


def flipped_byte(folder: Path) -> None:
    file = next(folder.glob("samples-00000-*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 255
    file.write_bytes(content)


def pickled_shard(folder: Path) -> None:
    file = next(folder.glob("samples-00000-*"))
    np.savez(file, images=np.array([{"a": 1}], dtype=object))


def wrong_levels(folder: Path) -> None:
    file = next(folder.glob("samples-00000-*"))
    np.savez(file, images=np.full((NUM, 1, 8, 8), 17, np.uint8))


def huge_shard(folder: Path) -> None:
    file = next(folder.glob("samples-00000-*"))
    np.savez(file, images=np.broadcast_to(np.uint8(0), (NUM, 1, 8, 9)))


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (damaged_json, "sampling.json: .*num = -1"),
        (lost_shard, "1 of 1 shards are missing"),
        (truncated_shard, "not the shard that was written"),
        (flipped_byte, "not the shard that was written"),
        (pickled_shard, "not the shard that was written"),
        (huge_shard, "not the shard that was written"),
        (wrong_levels, "largest grey level = 17"),
    ],
)
def test_a_damaged_folder_is_not_read(whole: Path, tmp_path: Path, harm: object, word: str) -> None:
    copy = tmp_path / "pictures"
    shutil.copytree(whole, copy)
    assert callable(harm)
    harm(copy)
    with pytest.raises(InputError, match=word) as caught:
        ShardFolder.open(copy).read()
    assert str(copy) in str(caught.value)
