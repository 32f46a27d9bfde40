"""Pictures do not depend on how many are drawn; an evaluation holds what it promises."""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.commands.likelihoods import likelihood
from ddpm.commands.trained import open_run
from ddpm.data.load import load_images
from ddpm.diffusion import GaussianDiffusion
from ddpm.evaluation.library import metrics_installed
from ddpm.keys import Key
from ddpm.processes.gaussian import TrainedGaussian
from ddpm.samplers.sampler import Sampler
from ddpm.schedule import Schedule
from tests.cli.command import SMALL, everything_below, run_here


def silent(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x) * t[0]


def draw(run: Path, out: Path, *options: str) -> np.ndarray:
    assert run_here("sample", "--run", run, "--out", out, "--device", "cpu", *options) == 0
    with np.load(out.with_suffix(".npz")) as arrays:
        images: np.ndarray = arrays["images"]
    return images


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_four_pictures_are_the_first_of_sixty_four(
    trained: Path, tmp_path: Path, sampler: str
) -> None:
    options = ["--seed", "1", "--sampler", sampler]
    few = draw(trained, tmp_path / "few.png", "--num", "4", *options)
    many = draw(trained, tmp_path / "many.png", "--num", "64", *options)
    other = draw(trained, tmp_path / "other.png", "--num", "4", "--sampler", sampler)
    assert many.shape == (64, 1, 8, 8)
    # A matrix product may add in another order in another batch, and a value then round to the
    # next grey level: at most one level, in at most one pixel of a hundred.
    difference = np.abs(few.astype(int) - many[:4].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01
    assert not np.array_equal(few, other)


def test_states_agree_before_rounding_and_the_noise_bit_for_bit(trained: Path) -> None:
    run = open_run(trained, "cpu")
    model = run.trained
    assert isinstance(model, TrainedGaussian)
    table = model.table(Sampler())
    few, many = Key.of(1, range(4)), Key.of(1, range(64))
    shape = run.config.image_shape
    x_few = model.diffusion.initial_noise((4, *shape), few)
    x_many = model.diffusion.initial_noise((64, *shape), many)
    assert torch.equal(x_few, x_many[:4])
    steps_few = model.diffusion.sample_progressive(silent, x_few, few, table)
    steps_many = model.diffusion.sample_progressive(silent, x_many, many, table)
    for one, two in zip(steps_few, steps_many, strict=True):
        assert torch.equal(one.x, two.x[:4])
    steps_few = model.diffusion.sample_progressive(run.model, x_few, few, table)
    steps_many = model.diffusion.sample_progressive(run.model, x_many, many, table)
    for one, two in zip(steps_few, steps_many, strict=True):
        torch.testing.assert_close(one.x, two.x[:4], rtol=1e-4, atol=1e-4)


def test_without_a_name_the_usual_sampler_draws(trained: Path, tmp_path: Path) -> None:
    unsaid = draw(trained, tmp_path / "unsaid.png", "--num", "4")
    said = draw(
        trained, tmp_path / "said.png", "--num", "4", "--sampler", "dpm-solver-2m", "--steps", "10"
    )
    assert np.array_equal(unsaid, said)
    few = draw(trained, tmp_path / "few.png", "--num", "4", "--steps", "3")
    levels = draw(trained, tmp_path / "levels.png", "--num", "4", "--levels", "10,7,4,0")
    assert np.array_equal(few, levels)
    assert not np.array_equal(few, said)
    shards = tmp_path / "shards"
    assert run_here("sample", "--run", trained, "--out", shards, "--num", "4") == 0
    kept = json.loads((shards / "sampling.json").read_text())
    assert (kept["sampler"], kept["steps"]) == ("dpm-solver-2m", 10)


@pytest.mark.parametrize(("levels", "steps"), [(10, 10), (50, 50), (500, 50)])
def test_the_usual_steps_are_no_more_than_there_are_levels(levels: int, steps: int) -> None:
    schedule = Schedule.log_snr_linear(levels, log_snr_max=5.0, log_snr_min=-5.0)
    for each in (schedule, schedule.with_zero_terminal_snr()):
        trained = TrainedGaussian(GaussianDiffusion(each, "v"), silent, 17, 0)
        assert trained.usual == Sampler(name="dpm-solver-2m", steps=steps)
        assert trained.check(trained.usual) == steps


def test_nothing_is_overwritten(trained: Path) -> None:
    for _ in range(2):
        assert run_here("sample", "--run", trained, "--num", "2", "--device", "cpu") == 0
    names = sorted(p.name for p in (trained / "samples").iterdir())
    stem = "dpm-solver-2m-10-seed-0-num-2"
    assert names == [f"{stem}-2.npz", f"{stem}-2.png", f"{stem}.npz", f"{stem}.png"]


def test_eval_writes_what_it_promises(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = ["--num", "20", "--max-images", "50", "--features", "none", "--device", "cpu"]
    assert run_here("eval", "--run", trained, *few) == 0
    printed = capfd.readouterr().out
    result = json.loads((trained / "eval.json").read_text())
    terms = result["terms"]
    assert math.isclose(
        result["bits_per_dim"], terms["prior"] + terms["kl"] + terms["decoder"], rel_tol=1e-12
    )
    assert math.isclose(sum(terms["kl_by_level"]), terms["kl"], rel_tol=1e-12)
    assert len(terms["kl_by_level"]) == 11
    assert set(result["baselines"]) == {"histogram", "gaussian", "mixture"}
    assert set(result["frechet"]) == {"samples_test", "train_test"}
    assert set(result["nearest"]) == {"samples_train", "test_train"}
    assert len(result["class_fraction"]) == 10
    assert math.isclose(sum(result["class_fraction"]), 1)
    assert result["train_seconds"] > 0
    for name in ("samples.png", "kl.png"):
        with Image.open(trained / name) as picture:
            assert min(picture.size) > 100
    assert f"{result['bits_per_dim']:.3f}" in printed
    assert "samples.png" in printed


def test_an_earlier_evaluation_is_kept(trained: Path) -> None:
    first: list[str | Path] = ["eval", "--run", trained, "--num", "20", "--device", "cpu"]
    first += ["--features", "none"]
    assert run_here(*first) == 0
    kept = {k: v for k, v in everything_below(trained).items() if k.startswith("eval")}
    assert run_here(*first) == 0
    again = {k: v for k, v in everything_below(trained).items() if k.startswith("eval")}
    assert again == kept
    assert run_here(*first, "--seed", "5") == 0
    after = {k: v for k, v in everything_below(trained).items() if k.startswith("eval")}
    # The figures, and what each image costs.
    assert len(after) == len(kept) + 2
    assert set(kept.values()) <= set(after.values())


def test_the_bits_of_each_image(trained: Path) -> None:
    few: list[str | Path] = ["eval", "--run", trained, "--features", "none", "--device", "cpu"]
    assert run_here(*few, "--num", "4", "--max-images", "9") == 0
    result = json.loads((trained / "eval.json").read_text())
    with np.load(trained / "eval-likelihood.npz") as arrays:
        total, prior, terms = (arrays[f"vlb_{name}"] for name in ("total", "prior", "terms"))
        assert {*arrays} == {"vlb_total", "vlb_prior", "vlb_terms"}
    assert terms.shape == (9, 11)
    assert total.shape == prior.shape == (9,)
    assert total.mean() == pytest.approx(result["bits_per_dim"], rel=1e-12)
    assert prior.mean() == pytest.approx(result["terms"]["prior"], rel=1e-12)
    assert terms[:, 1].mean() == pytest.approx(result["terms"]["decoder"], rel=1e-12)
    assert terms[:, 2:].mean(0) == pytest.approx(result["terms"]["kl_by_level"][2:], rel=1e-12)
    assert total.std() > 0.01
    # An image by itself costs what it costs among others.
    alone = likelihood(open_run(trained, "cpu"), load_images("digits"), 0, 1, "vlb")
    assert alone.flow is None
    assert alone.bound.total == pytest.approx(total[0], rel=1e-4)


@pytest.mark.skipif(find_spec("torchdiffeq") is None, reason="torchdiffeq is not installed")
def test_eval_by_the_flow(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few: list[str | Path] = ["eval", "--run", trained, "--features", "none", "--device", "cpu"]
    assert run_here(*few, "--num", "4", "--max-images", "6", "--likelihood", "ode") == 0
    result = json.loads((trained / "eval.json").read_text())
    flow = result["flow"]
    assert "noise of level 1" in flow["dequantisation"]
    printed = " ".join(capfd.readouterr().out.split())
    assert f"{flow['bits_per_dim']:.3f}" in printed
    assert "probability" in printed
    parts = flow["decoder"] + flow["density"] - flow["noise"]
    assert flow["bits_per_dim"] == pytest.approx(parts, rel=1e-12)
    # The decoder is the bound's own, on the same noise.
    assert flow["decoder"] == pytest.approx(result["terms"]["decoder"], rel=1e-6)
    with np.load(trained / "eval-likelihood.npz") as arrays:
        assert arrays["flow_total"].shape == (6,)
        assert arrays["flow_total"].mean() == pytest.approx(flow["bits_per_dim"], rel=1e-12)
        assert arrays["vlb_total"].shape == (6,)


def test_the_flow_needs_its_extra(
    trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm.extras.find_spec", lambda _: None)
    before = everything_below(trained)
    given: list[str | Path] = ["--run", trained, "--device", "cpu"]
    assert run_here("eval", *given, "--likelihood", "ode", "--features", "none") == 2
    assert "ddpm-proven[ode]" in capfd.readouterr().err
    assert run_here("sample", *given, "--sampler", "ode-adaptive") == 2
    assert "ddpm-proven[ode]" in capfd.readouterr().err
    assert everything_below(trained) == before


def test_eval_of_pictures_drawn_before(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    drawing = ["--num", "40", "--shard-size", "15", "--seed", "2", "--out", str(out)]
    assert run_here("sample", "--run", trained, "--device", "cpu", *drawing) == 0
    few: list[str | Path] = ["eval", "--run", trained, "--max-images", "20", "--device", "cpu"]
    assert run_here(*few, "--seed", "2", "--num", "40", "--features", "none") == 0
    drawn = json.loads((trained / "eval.json").read_text())
    assert run_here(*few, "--seed", "2", "--samples", out, "--features", "none") == 0
    before = json.loads((trained / "eval.json").read_text())
    assert before.pop("samples") == str(out)
    assert drawn.pop("samples") is None
    assert before == drawn
    assert before["num"] == 40
    assert "features" not in before


def test_eval_refuses_pictures_of_other_weights(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "pictures"
    steps = ["--steps", "2", "--seed", "1", "--device", "cpu"]
    assert run_here("train", "--run", other, *steps, *SMALL) == 0
    drawing = ["--num", "4", "--out", str(out), "--device", "cpu"]
    assert run_here("sample", "--run", other, *drawing) == 0
    capfd.readouterr()
    few: list[str | Path] = ["eval", "--run", trained, "--features", "none", "--device", "cpu"]
    cases = [(out, "allowed are pictures of the same weights"), (tmp_path, "holds no sampling")]
    for folder, word in cases:
        before = everything_below(trained)
        assert run_here(*few, "--samples", folder) == 2
        assert word in " ".join(capfd.readouterr().err.split())
        assert everything_below(trained) == before


@pytest.mark.skipif(not metrics_installed(), reason="torchmetrics is not installed")
def test_eval_with_features(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few: list[str | Path] = [
        "eval", "--run", trained, "--num", "30", "--max-images", "20", "--device", "cpu",
    ]  # fmt: skip
    assert run_here(*few) == 0
    found = json.loads((trained / "eval.json").read_text())["features"]
    assert found["extractor"] == "small"
    for name in ("frechet", "kernel", "precision", "recall"):
        assert set(found[name]) == {"samples_test", "train_test"}
    # Thirty updates teach nothing.
    assert found["frechet"]["samples_test"] > 5 * found["frechet"]["train_test"]
    assert found["precision"]["samples_test"] < 0.2 < found["precision"]["train_test"]
    assert "precision" in capfd.readouterr().out
    assert run_here(*few, "--features", "pixels") == 0
    assert json.loads((trained / "eval.json").read_text())["features"]["dimensions"] == 192


def test_eval_looks_for_the_extractor_first(
    trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = everything_below(trained)
    assert run_here("eval", "--run", trained, "--features", "nowhere:net", "--device", "cpu") == 2
    assert "nowhere" in capfd.readouterr().err
    assert everything_below(trained) == before


def test_eval_without_torchmetrics(
    trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm.commands.evaluate.metrics_installed", lambda: False)
    few: list[str | Path] = [
        "eval", "--run", trained, "--num", "10", "--max-images", "20", "--device", "cpu",
    ]  # fmt: skip
    assert run_here(*few) == 0
    assert "ddpm-proven[eval]" in " ".join(capfd.readouterr().out.split())
    assert "features" not in json.loads((trained / "eval.json").read_text())
    monkeypatch.setattr("ddpm.extras.find_spec", lambda _: None)
    assert run_here(*few, "--features", "small") == 2
    assert "ddpm-proven[eval]" in capfd.readouterr().err
