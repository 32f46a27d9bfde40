"""Every sampler, from the command line: listed, reproducible, followed by pictures, kept apart."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from ddpm.commands.reference import open_reference
from ddpm.commands.shards import ShardFolder
from ddpm.commands.trained import TrainedRun
from ddpm.config import RunConfig, ScheduleConfig
from ddpm.data.images import to_float
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.keys import Key
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.runs.run_folder import RunFolder
from ddpm.samplers.adaptive_catalogue import ADAPTIVE, AdaptiveEntry
from ddpm.samplers.catalogue import CATALOGUE, Entry
from ddpm.samplers.ilvr import Ilvr
from ddpm.samplers.sampler import Sampler
from ddpm.schedule import Schedule
from tests.cli.command import everything_below, run_here
from tests.ddpm.small import small_config

SHAPE = (1, 4, 4)
EVERY = [
    *(Sampler(name=name, steps=5, eta=0.5 if name == "ddim" else 0.0) for name in CATALOGUE),
    *(Sampler(name=name, steps=5, sde=sde) for sde in ("ve", "sub-vp")
      for name, entry in CATALOGUE.items() if "sde" in entry.options),
    Sampler(steps=5, variance="beta", spacing="quadratic"),
    Sampler(name="heun", levels=(9, 4, 1, 0),
            ilvr=Ilvr(torch.linspace(-1, 1, 48).reshape(3, *SHAPE), 2)),
]  # fmt: skip


def alone(x: Tensor, t: Tensor) -> Tensor:
    """A network that rounds one picture as it does in any batch."""
    return torch.tanh(x * 1.5) * (0.5 + t.reshape(-1, 1, 1, 1) / 20)


def together(x: Tensor, t: Tensor) -> Tensor:
    """A network whose output for one picture depends on all others of the batch."""
    return 0.5 * x + x.mean(dim=0) + 0 * t[:, None, None, None]


def model_of(network: Callable[[Tensor, Tensor], Tensor]) -> TrainedGaussian:
    schedule = Schedule.log_snr_linear(10, log_snr_max=5.0, log_snr_min=-5.0)
    return TrainedGaussian(GaussianDiffusion(schedule), network, 17, 0)


def last(model: TrainedGaussian, sampler: Sampler, samples: list[int]) -> Tensor:
    *_, state = model.sample((len(samples), *SHAPE), Key.of(7, samples), sampler)
    return state.x


@pytest.mark.parametrize("sampler", EVERY, ids=lambda s: f"{s.name}-{s.sde}-{s.spacing}")
def test_a_picture_is_the_same_alone_and_in_any_batch(sampler: Sampler) -> None:
    model = model_of(alone)
    model.check(sampler)
    many = last(model, sampler, [*range(20)])
    assert torch.equal(last(model, sampler, [17]), many[17:18])
    assert torch.equal(last(model, sampler, [3, 19, 0]), many[[3, 19, 0]])
    assert not torch.equal(many[0], many[3])


@pytest.mark.parametrize("sampler", EVERY, ids=lambda s: f"{s.name}-{s.sde}-{s.spacing}")
def test_shards_change_no_bit_of_any_sampler(sampler: Sampler, tmp_path: Path) -> None:
    config: RunConfig = small_config()
    run = TrainedRun(
        RunFolder(tmp_path), config, model_of(together), torch.nn.Identity(), torch.device("cpu"),
        0, 0.999,
    )  # fmt: skip
    num = 130
    every = run.pictures(range(num), num, 0, sampler)
    parts = [range(first, min(num, first + 60)) for first in range(0, num, 60)]
    assert torch.equal(torch.cat([run.pictures(p, num, 0, sampler) for p in parts]), every)
    # What is drawn alone after an interruption is drawn beside the same others.
    assert torch.equal(run.pictures(range(126, 128), num, 0, sampler), every[126:128])


def pictures(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("samples-*.npz"))
    return np.concatenate([np.load(file)["images"] for file in files])


def write_reference(path: Path, count: int = 2, grey: int = 17, side: int = 8) -> np.ndarray:
    images = (np.arange(count * side * side, dtype=np.uint8) * 7 % grey).reshape(
        count, 1, side, side
    )
    np.savez(path, images=images, levels=np.array(grey))
    return images


def test_an_interrupted_sampling_keeps_all_its_choices(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reference(tmp_path / "ref.npz")
    options: list[str | Path] = [
        "sample", "--run", trained, "--num", "9", "--sampler", "predictor-corrector", "--sde", "ve",
        "--levels", "8,5,2,0", "--ilvr", tmp_path / "ref.npz", "--ilvr-factor", "2",
        "--device", "cpu",
    ]  # fmt: skip
    whole, out, write = tmp_path / "whole", tmp_path / "parts", ShardFolder.write
    assert run_here(*options, "--out", whole) == 0

    def stopped(self: ShardFolder, number: int, images: Tensor) -> None:
        if number == 1:
            raise KeyboardInterrupt
        write(self, number, images)

    with monkeypatch.context() as patch:
        patch.setattr(ShardFolder, "write", stopped)
        assert run_here(*options, "--out", out, "--shard-size", "4") == 130
    assert run_here(*options, "--out", out, "--shard-size", "4") == 0
    assert np.array_equal(pictures(out), pictures(whole))
    kept = json.loads((out / "sampling.json").read_text())
    assert (kept["steps"], kept["levels"], kept["sde"]) == (3, [8, 5, 2, 0], "ve")
    assert kept["ilvr_factor"] == 2


def test_shards_of_heun_are_those_of_one_file(trained: Path, tmp_path: Path) -> None:
    # Three steps of heun are five calls, which once were taken for five steps.
    options: list[str | Path] = [
        "sample", "--run", trained, "--num", "6", "--sampler", "heun", "--steps", "3",
        "--device", "cpu",
    ]  # fmt: skip
    assert run_here(*options, "--out", tmp_path / "one.png") == 0
    assert run_here(*options, "--out", tmp_path / "parts", "--shard-size", "4") == 0
    with np.load(tmp_path / "one.npz") as arrays:
        assert np.array_equal(pictures(tmp_path / "parts"), arrays["images"])


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sampled") / "pictures"
    assert draw_folder(trained, out) == 0
    return out


def draw_folder(run: Path, out: Path, *options: str | Path) -> int:
    few = ["--num", "4", "--sampler", "euler", "--steps", "3", "--device", "cpu"]
    return run_here("sample", "--run", run, "--out", out, *few, *options)


NEW = ("spacing", "levels", "variance", "sde", "ilvr", "ilvr_factor", "ilvr_until")


def test_a_folder_of_before_goes_on_where_nothing_differs(
    trained: Path, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    kept = json.loads((old / "sampling.json").read_text())
    shorter = {name: value for name, value in kept.items() if name not in NEW}
    assert len(shorter) == len(kept) - len(NEW)
    (old / "sampling.json").write_text(json.dumps(shorter))
    next(old.glob("samples-*")).unlink()
    assert draw_folder(trained, old) == 0
    assert np.array_equal(pictures(old), pictures(folder))
    assert draw_folder(trained, old, "--spacing", "uniform") == 2
    assert "spacing = 'trailing' in place of 'uniform'" in capfd.readouterr().err


def test_other_choices_are_another_sampling(
    trained: Path, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_reference(tmp_path / "ref.npz")
    before = everything_below(folder)
    cases: list[tuple[list[str | Path], str]] = [
        (["--sde", "sub-vp"], "sde = None in place of 'sub-vp'"),
        (["--spacing", "karras"], "spacing = 'trailing' in place of 'karras'"),
        (["--ilvr", tmp_path / "ref.npz"], "ilvr = None in place of '"),
    ]
    for options, words in cases:
        assert draw_folder(trained, folder, *options) == 2
        assert words in " ".join(capfd.readouterr().err.split())
    assert everything_below(folder) == before


def blocks(images: np.ndarray, side: int) -> np.ndarray:
    """Means over squares of pixels."""
    n, c, h, w = images.shape
    parts = images.reshape(n, c, h // side, side, w // side, side)
    return np.asarray(parts.mean(axis=(3, 5)))


@pytest.mark.parametrize("sampler", ["ancestral", "heun"])
def test_samples_have_the_coarse_part_of_the_reference(
    trained: Path, tmp_path: Path, sampler: str
) -> None:
    images = write_reference(tmp_path / "ref.npz")
    options: list[str | Path] = [
        "--ilvr", tmp_path / "ref.npz", "--ilvr-factor", "4", "--num", "5", "--sampler", sampler,
        "--trajectory", "--out", tmp_path / "grid.png", "--device", "cpu",
    ]  # fmt: skip
    assert run_here("sample", "--run", trained, *options) == 0
    with np.load(tmp_path / "grid-trajectory.npz") as arrays:
        drawn = arrays["states"][-1]
    wanted = 2 * images[[0, 1, 0, 1, 0]].astype(np.float64) / 16 - 1
    assert np.abs(blocks(drawn, 4) - blocks(wanted, 4)).max() < 1e-5
    assert np.abs(drawn - wanted).max() > 0.1


def test_references_of_every_kind_are_read(trained: Path, tmp_path: Path) -> None:
    images = write_reference(tmp_path / "ref.npz", count=3)
    found = open_reference(tmp_path / "ref.npz", None)
    assert found is not None
    assert found.factor == 4
    assert torch.equal(found.reference, to_float(images, 17))
    (tmp_path / "many").mkdir()
    for i, name in enumerate(("b", "a", "c")):
        pixels = np.full((8, 8), 100 * i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "many" / f"{name}.png")
    found = open_reference(tmp_path / "many", 2)
    assert found is not None
    assert found.factor == 2
    assert (found.reference[:, 0, 0, 0] * 127.5 + 127.5).round().tolist() == [100, 0, 200]
    found = open_reference(tmp_path / "many" / "c.png", None)
    assert found is not None
    assert found.reference.shape == (1, 1, 8, 8)
    assert draw_folder(trained, tmp_path / "drawn") == 0
    found = open_reference(tmp_path / "drawn", None)
    assert found is not None
    assert torch.equal(found.reference, to_float(pictures(tmp_path / "drawn"), 17))
    assert open_reference(None, None) is None
    with pytest.raises(InputError, match="ilvr_factor = 2: allowed without --ilvr is none"):
        open_reference(None, 2)


def test_the_list_names_all_of_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddpm.commands.samplers.console", Console(width=220, highlight=False))
    assert run_here("samplers") == 0
    lines = capfd.readouterr().out.splitlines()
    every: dict[str, Entry | AdaptiveEntry] = {**CATALOGUE, **ADAPTIVE}
    for name, entry in every.items():
        start = next(i for i, line in enumerate(lines) if line.split()[:1] == [name])
        # Narrow columns break their text, and the last one does not.
        row = " ".join(lines[start : start + 4])
        assert entry.when in lines[start]
        assert set(f"{entry.calls} {entry.order}".split()) <= set(row.split())
    assert any("--eta" in line and "with --eta" in line for line in lines)
    assert "ddpm-proven[ode]" in " ".join(lines)
    assert list(tmp_path.iterdir()) == []


def test_zero_terminal_snr_stops_those_that_need_signal() -> None:
    config = ScheduleConfig(levels=10, zero_terminal_snr=True)
    model = TrainedGaussian(GaussianDiffusion(config.build(), prediction="v"), alone, 17, 0)
    assert model.check(Sampler()) == 10
    with pytest.raises(InputError, match="with signal"):
        model.check(Sampler(name="euler-maruyama"))
