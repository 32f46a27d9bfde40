"""Bad input: one line that names argument, value and what is allowed; exit code 2; no writes."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.models.unet import UNet
from tests.cli.command import SMALL, everything_below, run_here

TRAIN = ["train", "--steps", "2", "--device", "cpu", *SMALL]


def refused(
    capfd: pytest.CaptureFixture[str], folder: Path, *arguments: str | Path, names: list[str]
) -> None:
    """Run a command that must fail cleanly and leave a folder as it is."""
    before = everything_below(folder)
    assert run_here(*arguments) == 2
    captured = capfd.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    for name in ["error:", *names]:
        assert name in lines[0]
    assert everything_below(folder) == before


def png(path: Path, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), 7, np.uint8)).save(path)


def test_unknown_data_path(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "nowhere"
    names = ["data", str(where), "allowed", "digits"]
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path / "r", "--data", where, names=names)


def test_empty_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    data = tmp_path / "empty"
    names = [str(data), "holds no image", ".png"]
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path / "r", "--data", data, names=names)


def test_broken_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        png(tmp_path / "data" / f"{i}.png")
    broken = tmp_path / "data" / "3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    data = tmp_path / "data"
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path / "r", "--data", data, names=["3.png"])


def test_images_of_different_sizes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    png(tmp_path / "data" / "a.png", 8)
    png(tmp_path / "data" / "b.png", 9)
    data, names = tmp_path / "data", ["a.png", "b.png", "8", "9"]
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path / "r", "--data", data, names=names)


def test_wrong_dtype(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "images.npz"
    np.savez(file, images=np.zeros((9, 8, 8), np.float64))
    names = ["images.npz", "float64", "uint8"]
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path / "r", "--data", file, names=names)


def test_truncated_idx(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(b"\x00\x00\x08\x03" + b"\x00\x00\x00\x09" * 3 + b"\x01"))
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path / "r", "--data", file, names=[file.name])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--levels", "0"], ["levels = 0", "1 to 1000000"]),
        (["--schedule", "linear", "--beta-start", "0"], ["beta_start = 0.0", "(0, 1)"]),
        (["--schedule", "linear", "--beta-end", "1.5"], ["beta_end = 1.5", "(0, 1)"]),
        (["--steps", "0"], ["steps = 0", "1 to"]),
        (["--minutes", "1"], ["steps and minutes", "one of the two"]),
        (["--batch-size", "0"], ["batch_size = 0", "1 to"]),
        (["--channels", "3"], ["channels = 3", "even"]),
        (["--dropout", "1.5"], ["dropout = 1.5", "[0, 1)"]),
        (["--learning-rate", "-1"], ["learning_rate = -1", "positive"]),
        (["--prediction", "noise"], ["prediction = 'noise'", "eps"]),
        (["--prediction", "mean"], ["prediction = 'mean'", "eps"]),
        (["--schedule", "sigmoid"], ["schedule = 'sigmoid'", "cosine"]),
        (["--threads", "0"], ["threads = 0", "1 to"]),
        (["--checkpoint-every", "0"], ["checkpoint_every = 0", "at least 1"]),
        (["--seed", str(2**63)], ["seed = ", "64-bit"]),
        (["--device", "tpu"], ["device = 'tpu'", "auto, cpu or cuda"]),
    ],
)
def test_options_of_train(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], names: list[str]
) -> None:
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path / "r", *options, names=names)


def test_cuda_without_a_gpu(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    names = ["device = 'cuda'", "no GPU", "auto or cpu"]
    run = tmp_path / "r"
    refused(capfd, tmp_path, *TRAIN, "--run", run, "--device", "cuda", names=names)


def test_a_folder_that_holds_a_run(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = [str(trained), "already holds a run", "--resume", "allowed"]
    refused(capfd, trained, *TRAIN, "--run", trained, names=names)


def test_a_folder_that_holds_something_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    names = [str(tmp_path), "is not a run", "allowed"]
    refused(capfd, tmp_path, *TRAIN, "--run", tmp_path, names=names)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--steps", "40"], ["steps = 40", "30"]),
        (["--seed", "9"], ["seed = 9", "0"]),
        (["--channels", "8"], ["channels = 8", "4"]),
        (["--prediction", "v"], ["prediction = 'v'", "'eps'"]),
        (["--data", "fashion-mnist"], ["data = 'fashion-mnist'", "'digits'"]),
        (["--minutes", "2"], ["minutes = 2.0", "nothing"]),
    ],
)
def test_resuming_with_another_configuration(
    trained: Path, capfd: pytest.CaptureFixture[str], options: list[str], names: list[str]
) -> None:
    refused(
        capfd, trained, "train", "--run", trained, "--resume", "--device", "cpu", *options,
        names=names,
    )  # fmt: skip


@pytest.mark.parametrize("command", [["train", "--resume"], ["sample"], ["eval"]])
def test_no_run_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    names = [str(tmp_path / "r"), "config.json", "allowed"]
    refused(capfd, tmp_path, *command, "--run", tmp_path / "r", names=names)


@pytest.mark.parametrize("command", [["train", "--resume"], ["sample"], ["eval"]])
def test_a_flipped_byte_in_the_checkpoint(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    file = tmp_path / "r" / "checkpoints" / "step-30" / "ema.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    names = ["ema.safetensors", "damaged"]
    refused(capfd, tmp_path, *command, "--run", tmp_path / "r", "--device", "cpu", names=names)


def test_a_broken_configuration(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    file = tmp_path / "r" / "config.json"
    content = json.loads(file.read_text())
    content["schedule"]["levels"] = 0
    file.write_text(json.dumps(content))
    names = [str(file), "schedule", "levels = 0", "1 to 1000000"]
    refused(capfd, tmp_path, "sample", "--run", tmp_path / "r", names=names)


def test_data_that_changed_since(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    for i in range(8):
        png(data / f"{i}.png")
    assert run_here(*TRAIN, "--run", run, "--data", data) == 0
    capfd.readouterr()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(data / "0.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(data / "1.png")
    names = [str(data), "not those that the run began with"]
    refused(capfd, tmp_path, "train", "--run", run, "--resume", names=names)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no network be called: what is wrong is said before."""

    def called(*_: object, **__: object) -> None:
        raise AssertionError("the network was called")

    monkeypatch.setattr(UNet, "forward", called)


ANCESTRAL = ["--sampler", "ancestral"]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["sample", "--num", "0"], ["num = 0", "at least 1"]),
        (["sample", "--steps", "0"], ["steps = 0", "1 to T = 10"]),
        (["sample", "--steps", "11"], ["steps = 11", "1 to T = 10"]),
        (["sample", "--sampler", "magic"], ["sampler = 'magic'", "ancestral, ddim", "heun"]),
        (["sample", "--sampler", "ddim", "--eta", "2"], ["eta = 2.0", "[0, 1]"]),
        (["sample", "--sampler", "ddim", "--eta", "nan"], ["eta = nan", "[0, 1]"]),
        (["sample", "--eta", "0.5"], ["eta = 0.5", "'dpm-solver-2m', only with ddim"]),
        (["sample", "--sampler", "heun", "--variance", "beta"], ["variance = 'beta'", "none with"]),
        (["sample", "--variance", "beta"], ["variance = 'beta'", "only with ancestral"]),
        (["sample", *ANCESTRAL, "--variance", "learned"], ["variance = 'learned'", "'posterior'"]),
        (["sample", *ANCESTRAL, "--variance", "wide"], ["variance = 'wide'", "posterior, beta"]),
        (["sample", *ANCESTRAL, "--sde", "ve"], ["sde = 've'", "'ancestral', only with euler"]),
        (["sample", "--sampler", "euler", "--sde", "vx"], ["sde = 'vx'", "vp, ve, sub-vp"]),
        (["sample", "--spacing", "even"], ["spacing = 'even'", "trailing, leading"]),
        (["sample", "--levels", "5,5,0"], ["levels = [5, 5, 0]", "strictly decreasing"]),
        (["sample", "--levels", "2,5,0"], ["levels = [2, 5, 0]", "strictly decreasing"]),
        (["sample", "--levels", "11,5,0"], ["levels = [11, 5, 0]", "T = 10 or below"]),
        (["sample", "--levels", "10,5"], ["levels = [10, 5]", "ends at 0"]),
        (["sample", "--levels", "ten"], ["levels = 'ten'", "integers"]),
        (["sample", "--levels", "9,0", "--steps", "1"], ["steps = 1", "levels of your own"]),
        (["sample", "--levels", "9,0", "--spacing", "karras"], ["spacing = 'karras'", "none"]),
        (["sample", "--guidance", "2"], ["guidance = 2.0", "1 for a model without classes"]),
        (["sample", "--guidance", "nan"], ["guidance = nan", "without classes"]),
        (["sample", "--label", "3"], ["label = 3", "none for a model without classes"]),
        (["sample", "--ilvr-factor", "2"], ["ilvr_factor = 2", "without --ilvr"]),
        (["sample", "--ilvr", "/nowhere/a.png"], ["ilvr = /nowhere/a.png", "allowed is a PNG"]),
        (["sample", "--out", "/nowhere/a.png"], ["out = /nowhere/a.png", "existing folder"]),
        (["sample", "--out", "grid.jpg"], ["out = 'grid.jpg'", ".png"]),
        (["eval", "--num", "1"], ["num = 1", "at least 2"]),
        (["eval", "--max-images", "0"], ["max_images = 0", "at least 1"]),
        (["eval", "--likelihood", "exact"], ["likelihood = 'exact'", "vlb or ode"]),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_options_of_sample_and_eval(
    trained: Path, capfd: pytest.CaptureFixture[str], command: list[str], names: list[str]
) -> None:
    refused(capfd, trained, *command, "--run", trained, "--device", "cpu", names=names)


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.usefixtures("no_network")
def test_references_that_do_not_fit(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], shards: bool
) -> None:
    png(tmp_path / "large.png", 16)
    png(tmp_path / "right.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "right.png").read_bytes()[:40])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    for name, size in (("a", 8), ("b", 9)):
        png(tmp_path / "mixed" / f"{name}.png", size)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "colour.png")
    np.savez(tmp_path / "float.npz", images=np.zeros((2, 1, 8, 8)))
    np.savez(tmp_path / "none.npz", other=np.zeros(1))
    np.savez(tmp_path / "bright.npz", images=np.full((1, 8, 8), 17, np.uint8), levels=np.array(17))
    cases: list[tuple[str, list[str], list[str]]] = [
        ("large.png", [], ["ilvr", "(1, 16, 16)", "allowed", "(1, 8, 8)"]),
        ("colour.png", [], ["ilvr", "(3, 8, 8)", "allowed", "(1, 8, 8)"]),
        ("right.png", ["--ilvr-factor", "3"], ["right.png", "factor = 3", "divisor"]),
        ("right.png", ["--ilvr-factor", "0"], ["right.png", "factor = 0", "above 1"]),
        ("broken.png", [], ["broken.png", "cannot be read", "allowed"]),
        ("notes.txt", [], ["notes.txt", "cannot be read", "allowed"]),
        ("empty", [], ["empty", "holds no image"]),
        ("mixed", [], ["b.png", "(1, 9, 9)", "(1, 8, 8)"]),
        ("float.npz", [], ["float.npz", "float64", "uint8"]),
        ("none.npz", [], ["none.npz", "images"]),
        ("bright.npz", [], ["bright.npz", "17", "0 to 16"]),
    ]
    given: list[str | Path] = ["sample", "--run", trained, "--device", "cpu", "--num", "4"]
    out = tmp_path / ("many" if shards else "grid.png")
    for name, options, words in cases:
        where = (*given, "--ilvr", tmp_path / name, "--out", out)
        refused(capfd, tmp_path, *where, *options, names=words)


@pytest.mark.usefixtures("no_network")
def test_a_prediction_that_zero_snr_does_not_allow(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    file = tmp_path / "r" / "config.json"
    content = json.loads(file.read_text())
    content["schedule"]["zero_terminal_snr"] = True
    file.write_text(json.dumps(content))
    names = ["prediction = 'eps'", "zero terminal"]
    refused(capfd, tmp_path, "sample", "--run", tmp_path / "r", "--device", "cpu", names=names)


def test_out_that_exists(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid.png"
    out.write_text("kept")
    names = ["out", "exists", "allowed is a new name"]
    refused(capfd, tmp_path, "sample", "--run", trained, "--out", out, names=names)
