"""`--trajectory`: the way from noise to pictures, which it does not change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.commands.trained import TrainedRun
from ddpm.commands.trajectory import MOST_FRAMES, Recorder, check_size
from ddpm.data.images import to_levels
from ddpm.errors import InputError
from ddpm.evaluation.trajectories import (
    FRAME_MILLISECONDS,
    LAST_MILLISECONDS,
    animate,
    trajectory_grid,
)
from ddpm.keys import Key
from ddpm.runs.run_folder import RunFolder
from ddpm.samplers.sampler import Sampler
from tests.cli.command import everything_below, run_here
from tests.cli.test_samplers import EVERY, SHAPE, alone, model_of
from tests.ddpm.small import small_config

ENDINGS = [".npz", ".png", "-trajectory.gif", "-trajectory.npz", "-trajectory.png"]


def sample(run: Path, out: Path, *options: str | Path) -> int:
    return run_here("sample", "--run", run, "--out", out, "--device", "cpu", *options)


@pytest.mark.parametrize("sampler", ["ancestral", "heun"])
def test_it_changes_no_picture_and_shows_what_happened(
    trained: Path, tmp_path: Path, sampler: str
) -> None:
    options = ["--num", "5", "--sampler", sampler, "--steps", "4", "--seed", "3"]
    plain, told = tmp_path / "plain.png", tmp_path / "told.png"
    assert sample(trained, plain, *options) == 0
    assert sample(trained, told, *options, "--trajectory") == 0
    assert plain.read_bytes() == told.read_bytes()
    assert plain.with_suffix(".npz").read_bytes() == told.with_suffix(".npz").read_bytes()
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == sorted(["plain.npz", "plain.png", *(f"told{end}" for end in ENDINGS)])
    with np.load(told.with_suffix(".npz")) as arrays:
        images = arrays["images"]
    with np.load(tmp_path / "told-trajectory.npz") as arrays:
        states, levels = arrays["states"], arrays["levels"]
    assert states.dtype == np.float32
    assert states.shape == (5, 5, 1, 8, 8)
    assert levels.tolist() == [10, 8, 5, 3, 0]
    assert np.array_equal(to_levels(states[-1], 17).numpy(), images)
    with Image.open(tmp_path / "told-trajectory.gif") as animation, Image.open(told) as grid:
        # Frames that are alike are one; those of noise are not.
        assert animation.n_frames == 5  # type: ignore[attr-defined]
        assert animation.info["loop"] == 0
        times = []
        for frame in range(5):
            animation.seek(frame)
            times.append(animation.info["duration"])
        assert times == [FRAME_MILLISECONDS] * 4 + [LAST_MILLISECONDS]
        assert np.array_equal(np.asarray(animation.convert("RGB")), np.asarray(grid))
        animation.seek(0)
        assert not np.array_equal(np.asarray(animation.convert("RGB")), np.asarray(grid))


@pytest.mark.parametrize("sampler", EVERY, ids=lambda s: f"{s.name}-{s.sde}-{s.spacing}")
def test_what_is_kept_are_the_states_of_the_sampler(sampler: Sampler, tmp_path: Path) -> None:
    num, model = 130, model_of(alone)
    run = TrainedRun(
        RunFolder(tmp_path), small_config(), model, torch.nn.Identity(), torch.device("cpu"),
        0, 0.999,
    )  # fmt: skip
    recorder = Recorder(run.steps(sampler))
    drawn = run.pictures(range(num), num, 7, sampler, watch=recorder.watch)
    found = recorder.trajectory()
    assert torch.equal(drawn, run.pictures(range(num), num, 7, sampler))
    key, shape = Key.of(7, range(num)), (num, *SHAPE)
    # The last state of every level, whatever rows a step has.
    states = {state.t: state.x for state in model.sample(shape, key, sampler)}
    first = found.levels[0]
    assert found.levels == [first, *states]
    assert len(found.levels) == run.steps(sampler) + 1
    assert sorted(found.levels, reverse=True) == found.levels
    assert torch.equal(found.states[0], model.diffusion.initial_noise(shape, key))
    for t, kept in zip(found.levels[1:], found.states[1:], strict=True):
        assert torch.equal(kept, states[t])


def test_of_many_steps_some_are_kept_and_both_ends(tmp_path: Path) -> None:
    run = TrainedRun(
        RunFolder(tmp_path), small_config(), model_of(alone), torch.nn.Identity(),
        torch.device("cpu"), 0, 0.999,
    )  # fmt: skip
    assert run.steps(Sampler()) == 10
    for steps in (1, 2, 58, 59, 60, 61, 1000):
        recorder = Recorder(steps)
        assert len(recorder._chosen) == min(MOST_FRAMES, steps + 1)
        assert {0, steps} <= recorder._chosen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num", "257"], ["num = 257", "1 to 256", "memory"]),
        (["--num", "4", "--shard-size", "3"], ["trajectory with shards", "shard_size = 3"]),
        (["--num", "4", "--format", "png"], ["trajectory with shards"]),
    ],
)
def test_what_does_not_go_with_it(
    trained: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    before = everything_below(trained)
    given = ["sample", "--run", str(trained), "--device", "cpu", "--trajectory"]
    assert run_here(*given, *options) == 2
    printed = " ".join(capfd.readouterr().err.split())
    for word in words:
        assert word in printed
    assert everything_below(trained) == before


def test_memory_is_bounded_for_large_pictures() -> None:
    check_size(256, 1000, (3, 32, 32))
    with pytest.raises(InputError, match="num = 100: allowed is 1 to 22 with a trajectory"):
        check_size(100, 1000, (3, 256, 256))


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_file_is_overwritten(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str
) -> None:
    (tmp_path / f"grid{ending}").write_text("kept")
    before = everything_below(tmp_path)
    assert sample(trained, tmp_path / "grid.png", "--num", "2", "--trajectory") == 2
    assert f"grid{ending} exists; allowed is a new name" in capfd.readouterr().err
    assert everything_below(tmp_path) == before


def test_names_in_the_run_are_free_of_all_files(trained: Path) -> None:
    samples = trained / "samples"
    stem = "ddim-2-uniform-seed-0-num-2"
    samples.mkdir(exist_ok=True)
    (samples / f"{stem}-trajectory.gif").write_text("kept")
    (samples / f"{stem}-2.npz").write_text("kept")
    few = ["--sampler", "ddim", "--steps", "2", "--spacing", "uniform", "--num", "2"]
    given = ["sample", "--run", str(trained), "--device", "cpu", *few]
    assert run_here(*given, "--trajectory") == 0
    assert (samples / f"{stem}-3-trajectory.gif").exists()
    assert not (samples / f"{stem}.png").exists()
    assert (samples / f"{stem}-2.npz").read_text() == "kept"


def test_colour_and_other_shapes(tmp_path: Path) -> None:
    frames = [torch.full((2, 3, 8, 8), 80 * i, dtype=torch.uint8) for i in range(3)]
    animate(tmp_path / "a.gif", frames, 256)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3  # type: ignore[attr-defined]
        animation.seek(2)
        assert set(np.asarray(animation.convert("RGB")).flatten().tolist()) == {96, 160}
    trajectory_grid(tmp_path / "a.png", frames, [9, 4, 0], 256)
    with Image.open(tmp_path / "a.png") as grid:
        assert grid.size == (3 * (48 + 8), 18 + 2 * 52 + 4)
    with pytest.raises(ValueError, match="0 of them: allowed is 1 or more"):
        animate(tmp_path / "b.gif", [], 256)
    with pytest.raises(ValueError, match="3 frames, 2 levels"):
        trajectory_grid(tmp_path / "b.png", frames, [1, 0], 256)
