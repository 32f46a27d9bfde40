"""The three training loops: one network, one budget, one evaluator, and nothing read off by one."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.versus import __main__ as command
from benchmarks.versus import bits, common, evaluate, loops, train
from benchmarks.versus.common import Process, Start, configure
from benchmarks.versus.loops import LOOPS
from benchmarks.versus.trained import Levels, open_trained
from ddpm.bench.peer_calls import missing_to_train
from ddpm.commands.trained import open_run
from ddpm.data.images import ImageData
from ddpm.data.load import load_images
from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError
from ddpm.schedule import Schedule
from tests.cli.command import SMALL, run_here

# Compilers and peers warn of their own parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def needs(loop: str) -> Any:
    peer = LOOPS[loop].peer
    reason = missing_to_train(peer) if peer else ""
    return pytest.param(loop, marks=pytest.mark.skipif(bool(reason), reason=f"{peer} {reason}"))


EVERY_LOOP = [needs(loop) for loop in LOOPS]


def start(folder: Path, seed: int = 3, tuned: bool = False) -> Start:
    data = load_images("digits")
    few = replace(data, train=data.train[:128], train_labels=None, test_labels=None)
    folder.mkdir(exist_ok=True)
    return Start(configure(few, "digits", seed, 16), few, 50, folder, tuned)


@pytest.mark.parametrize("loop", EVERY_LOOP)
def test_every_loop_begins_with_the_same_weights_and_moves_them(loop: str, tmp_path: Path) -> None:
    begin = start(tmp_path)
    wanted = begin.network().state_dict()
    made = LOOPS[loop].make(begin)
    before = made.weights()
    assert before.keys() == {"raw", "ema"}
    for kind in before.values():
        assert kind.keys() == wanted.keys()
        assert all(torch.equal(kind[name], wanted[name]) for name in wanted)
    made.update()
    made.update()
    after = made.weights()["raw"]
    assert any(not torch.equal(after[name], wanted[name]) for name in wanted)
    assert all(torch.equal(before["raw"][name], wanted[name]) for name in wanted)


class Constant(nn.Module):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: Any) -> Tensor:
        return self.output


def of_ours(process: Process) -> GaussianDiffusion:
    return GaussianDiffusion(Schedule.from_log_alpha_bar(process.log_alpha_bar), process.prediction)


@pytest.mark.parametrize("t", [1, 2, 500, 1000])
@pytest.mark.parametrize("loop", [needs("diffusers"), needs("lucidrains")])
def test_the_peers_own_functions_mean_the_same(loop: str, t: int, tmp_path: Path) -> None:
    made: Any = LOOPS[loop].make(start(tmp_path))
    generator = torch.Generator().manual_seed(t)
    x0, noise, output = (torch.randn((4, 1, 8, 8), generator=generator) for _ in range(3))
    x0, level, index = x0.clamp(-1, 1), torch.full((4,), t), torch.full((4,), t - 1)
    ours = of_ours(made.process)
    x_t = ours.q_sample(x0, level, noise)
    if loop == "diffusers":
        theirs = made.scheduler.add_noise(x0, noise, index)
        step = made.scheduler.step(output, t - 1, x_t, return_dict=True)
        clean = step.pred_original_sample
    else:
        theirs = made.diffusion.q_sample(x0, index, noise)
        clean = made.diffusion.predict_start_from_v(x_t, index, output).clamp(-1, 1)
    torch.testing.assert_close(theirs, x_t, rtol=1e-5, atol=1e-5)
    estimate = ours.predict_xstart(output, x_t, level).clamp(-1, 1)
    torch.testing.assert_close(clean, estimate, rtol=1e-3, atol=1e-4)
    assert made.process.first_level + t - 1 == t - 1


def test_our_own_process_survives_being_written(tmp_path: Path) -> None:
    begin = start(tmp_path)
    made = LOOPS["ours"].make(begin)
    again, own = of_ours(made.process).schedule, begin.config.schedule.build()
    torch.testing.assert_close(again.log_snr[1:], own.log_snr[1:], rtol=1e-12, atol=1e-10)
    assert made.process.first_level == 1


@pytest.mark.parametrize(("first", "told"), [(0, [0, 6]), (1, [1, 7])])
def test_a_network_is_told_its_levels_as_it_learnt_them(first: int, told: list[int]) -> None:
    heard: list[int] = []

    class Listener(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            heard.extend(t.tolist())
            return x

    Levels(Listener(), first)(torch.zeros(2, 1, 2, 2), torch.tensor([1, 7]))
    assert heard == told


class Nothing(nn.Module):
    """Takes every clean image to be grey."""

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return torch.zeros_like(x)


def squares(images: Tensor, levels: int) -> ImageData:
    return ImageData("squares", images, images, None, None, levels)


def test_the_estimate_is_the_bound_where_it_is_known() -> None:
    # Black and white alone: every clean value is -1 or 1, and a decoder around 0 needs one bit.
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 2, (40, 1, 4, 4), generator=generator).byte()
    schedule = Schedule.log_snr_linear(9, 1.0, -6.0)
    found = bits.estimate(
        GaussianDiffusion(schedule, "x0"), Nothing(), squares(images, 2), images=16, seed=1
    )
    snr = schedule.snr
    assert found.levels == pytest.approx(float(snr[1] - snr[-1]) / 2 / math.log(2), rel=1e-6)
    assert found.decoder == pytest.approx(1.0, abs=1e-6)
    noise = float(schedule.one_minus_alpha_bar[-1])
    assert found.prior == pytest.approx(-math.log(noise) / 2 / math.log(2), rel=1e-6)
    assert found.total == pytest.approx(found.prior + found.levels + found.decoder)
    assert found.error < 1e-6
    assert found.images == 16


def test_every_image_has_its_turn_and_the_error_is_the_spread() -> None:
    # Half of the images are grey, where the estimate of grey costs nothing.
    images = torch.ones((64, 1, 2, 2), dtype=torch.uint8)
    images[::2] = 2
    schedule = Schedule.log_snr_linear(40, 1.0, -6.0)
    diffusion, data = GaussianDiffusion(schedule, "x0"), squares(images, 3)
    exact = float(schedule.snr[1] - schedule.snr[-1]) / 4 / math.log(2)
    whole = bits.estimate(diffusion, Nothing(), data, images=64, seed=1)
    assert whole.levels == pytest.approx(exact, rel=1e-6)
    some = [bits.estimate(diffusion, Nothing(), data, images=8, seed=seed) for seed in range(12)]
    said, missed = (
        math.sqrt(sum(value**2 for value in values) / len(values))
        for values in ([f.error for f in some], [f.total - whole.total for f in some])
    )
    # Drawn without replacement, images differ a little more between groups than the means do.
    assert 0.8 < said / missed < 2.2


class Ear(nn.Module):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[int, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.heard += [(int(level), image) for level, image in zip(t, x, strict=True)]
        return torch.zeros_like(x)


def test_levels_look_at_other_images_and_groups_at_other_noise() -> None:
    # So little noise that an image can be told from its noisy version.
    images = torch.arange(16, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    diffusion, ear = GaussianDiffusion(Schedule.log_snr_linear(4, 20.0, 14.0), "x0"), Ear()
    bits.estimate(diffusion, ear, squares(images.contiguous(), 16), images=8, seed=1)
    seen = [(t, round(7.5 * (1 + float(x.mean())))) for t, x in ear.heard if t > 1]
    assert {t for t, _ in seen} == {2, 3, 4}
    for t in (2, 3):
        this, following = ({i for level, i in seen if level == at} for at in (t, t + 1))
        assert len(this) == len(following) == 8
        assert not this & following
    noises = {tuple((x - x.mean()).flatten().tolist()) for t, x in ear.heard if t == 2}
    assert len(noises) == 8


class Counted:
    """A loop whose updates take a hundred seconds each."""

    process = Process(torch.tensor([-0.1, -2.0], dtype=torch.float64), "eps", 0)
    settings: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.updates = clock, 0

    def update(self) -> None:
        self.updates += 1
        self.clock[0] += 100.0

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"raw": {"x": torch.full((1,), float(self.updates))}, "ema": {"x": torch.ones(1)}}


@pytest.mark.parametrize(("planned", "updates"), [(loops.NEVER, 6), (4, 4)])
def test_the_budget_is_processor_time(
    planned: int, updates: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [0.0], list[int]()
    monkeypatch.setattr(train, "process_time", lambda: clock[0])
    loop, request = Counted(clock), train.Request(loop="ours", minutes=10, out=tmp_path / "new")
    write = train._write

    def noted(*arguments: Any) -> None:
        written.append(loop.updates)
        write(*arguments)

    monkeypatch.setattr(train, "_write", noted)
    train._run(loop, request, start(tmp_path), planned, 600.0, 0.0)
    record = json.loads((tmp_path / "new" / "run.json").read_text())
    assert (record["updates"], record["cpu_seconds"]) == (updates, 100.0 * updates)
    assert record["finished"]
    assert written == list(range(2, updates + 1, 2))


def test_a_plan_is_what_fits_into_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(train, "process_time", lambda: clock[0])
    planned, spent = train._planned(lambda _: Counted(clock), start(tmp_path), 2000.0)
    assert (planned, spent) == (17, 300.0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that are evaluated in seconds."""
    monkeypatch.setattr(common, "LEVELS", 20)


@pytest.mark.usefixtures("short")
def test_all_loops_are_trained_and_judged_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = [
        name for name, kind in LOOPS.items() if not (kind.peer and missing_to_train(kind.peer))
    ]
    folders = [tmp_path / name for name in present]
    for name, folder in zip(present, folders, strict=True):
        run(monkeypatch, "train", f"--loop={name}", "--minutes=0.01", f"--out={folder}",
            "--data=digits", "--batch-size=16")  # fmt: skip
    arguments = [*map(str, folders), "--images=2", "--samples=20", "--steps=4", "--weights=ema"]
    out = tmp_path / "out"
    run(monkeypatch, "evaluate", *arguments, f"--out={out}")
    table = (out / "table.md").read_text()
    rows = [json.loads((out / f"{name}-seed0-ema.json").read_text()) for name in present]
    for name, row in zip(present, rows, strict=True):
        assert f"| {name} | ema | 0 | {row['run']['updates']} |" in table
        assert f"{row['bits']['total']:.3f} ±" in table
        assert (out / f"{name}-seed0-ema.png").stat().st_size > 0
        assert 0 < row["run"]["cpu_seconds"] < 10
    assert len({json.dumps(row["run"]["network"]) for row in rows}) == 1

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("evaluated once more")

    monkeypatch.setattr(evaluate, "estimate", again)
    run(monkeypatch, "evaluate", *arguments, f"--out={out}")
    assert (out / "table.md").read_text() == table
    with pytest.raises(AssertionError, match="once more"):
        run(monkeypatch, "evaluate", *arguments, f"--out={out}", "--seed=1")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["versus", *arguments])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert not stop.value.code


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "--loop=none", "--minutes=1", "--out=new"], "loop = 'none': allowed is ours"),
        (["train", "--loop=ours", "--minutes=0", "--out=new"], "minutes = 0.0"),
        (["train", "--loop=ours", "--minutes=1", "--out=."], "out = '.'"),
        (["train", "--loop=ours", "--minutes=1", "--out=new", "--tuned"], "tuned = True"),
        (["train", "--loop=ours", "--minutes=1", "--out=new", "--batch-size=8"], "batch_size = 8"),
        (["evaluate", "absent", "--out=new"], "run.json: cannot be read"),
        (["evaluate", "absent", "--out=new", "--weights=best"], "weights = 'best'"),
        (["evaluate", "absent", "--out=new", "--images=12"], "images = 12"),
        (["evaluate", "absent", "--out=new", "--sampler=none"], "sampler = 'none'"),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["versus", *arguments])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert line in error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(train, "load_images", None)
    with pytest.raises(ValueError, match="cannot be written"):
        train.train(train.Request(loop="ours", minutes=1, out=tmp_path / "file" / "new"))


def test_broken_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "train", "--loop=ours", "--minutes=0.002", f"--out={tmp_path / 'a'}",
        "--data=digits", "--batch-size=16")  # fmt: skip
    open_trained(tmp_path / "a", "raw")
    (tmp_path / "a" / "raw.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"raw\.safetensors: cannot be read"):
        open_trained(tmp_path / "a", "raw")


def trained_run(folder: Path, *options: str) -> Path:
    command = ("train", "--run", folder, "--steps", "3", "--seed", "5", "--device", "cpu")
    assert run_here(*command, *SMALL, *options) == 0
    return folder


def test_a_run_of_ours_is_judged_beside_the_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = trained_run(tmp_path / "run"), tmp_path / "out"
    arguments = [str(folder), "--images=2", "--samples=20", "--steps=4", "--weights=ema"]
    run(monkeypatch, "evaluate", *arguments, f"--out={out}")
    row = json.loads((out / "ours-seed5-ema.json").read_text())
    assert (row["run"]["updates"], row["run"]["data"], row["levels"]) == (3, "digits", 10)
    opened, made = open_run(folder, "cpu"), open_trained(folder, "ema")
    assert row["asked"]["weights_and_process"] == opened.fingerprint()
    x, t = torch.ones(2, 1, 8, 8), torch.tensor([1, 7])
    assert torch.equal(made.model(x, t), opened.model(x, t))
    found = bits.estimate(made.diffusion, made.model, load_images("digits"), images=2, seed=0)
    assert row["bits"]["total"] == found.total


@pytest.mark.parametrize(
    ("options", "kind", "line"),
    [
        ((), "raw", "weights = 'raw': allowed is ema for"),
        (("--conditional",), "ema", "without classes"),
        (("--process", "discrete"), "ema", "allowed is Gaussian diffusion"),
        (("--variance", "learned_range"), "ema", "posterior variance"),
    ],
)
def test_a_run_that_no_loop_is_like_is_refused(
    options: tuple[str, ...], kind: str, line: str, tmp_path: Path
) -> None:
    folder = trained_run(tmp_path / "run", *options)
    with pytest.raises(InputError, match=line):
        open_trained(folder, kind)
