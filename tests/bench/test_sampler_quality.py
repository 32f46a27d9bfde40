"""The comparison of samplers by their pictures: equal calls, resumed anywhere, nothing mixed up."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import sampler_quality
from benchmarks.sampler_quality import choices, for_calls, main, table
from ddpm.commands.trained import TrainedRun, open_run
from ddpm.errors import InputError
from ddpm.samplers.catalogue import CATALOGUE
from ddpm.samplers.sampler import Sampler
from tests.cli.command import SMALL, run_here

LEVELS = 10


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    assert run_here("train", "--run", run, "--steps", "30", "--device", "cpu", *SMALL) == 0
    return run


@pytest.mark.parametrize("calls", [1, 2, 5, 9, 10, 19])
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_sampler_takes_as_many_steps_as_its_calls_allow(
    name: str, calls: int, trained: Path
) -> None:
    run = open_run(trained, "cpu")
    made = {steps: run.trained.check(Sampler(name=name, steps=steps)) for steps in range(1, 11)}
    allowed = [steps for steps, needed in made.items() if needed <= calls]
    chosen = for_calls(run, Sampler(name=name), calls)
    if made[allowed[-1]] < calls - 1:
        assert chosen is None
    else:
        assert chosen is not None
        assert chosen.steps == allowed[-1]


def measured(trained: Path, out: Path, num: int = 6) -> dict[str, Any]:
    main(trained, out, num=num, most=5)
    content: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return content


def test_goes_on_where_it_was_stopped(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(trained, tmp_path / "whole")
    assert set(whole["distances"]) == set(choices(tuple(CATALOGUE)))
    assert (tmp_path / "whole.png").stat().st_size > 10_000
    usual, calls = sampler_quality.distance, 0

    def stopping(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return usual(*arguments)

    monkeypatch.setattr(sampler_quality, "distance", stopping)
    with pytest.raises(KeyboardInterrupt):
        measured(trained, tmp_path / "parts")
    kept = json.loads((tmp_path / "parts.json").read_text())["distances"]
    assert list(kept) == ["ancestral", "ddim", "dpm-solver-1", "dpm-solver-2m"]
    assert kept == dict(list(whole["distances"].items())[:4])
    calls = 4
    assert measured(trained, tmp_path / "parts") == whole
    asked_again, real_images, same_steps = 1, 1, 2
    assert calls == len(whole["distances"]) + asked_again + real_images - same_steps


def test_some_rows_alone_and_the_others_later(trained: Path, tmp_path: Path) -> None:
    whole, out = measured(trained, tmp_path / "whole"), tmp_path / "q"
    for only in (["heun", "ddim, karras"], ["ddim"], None):
        main(trained, out, num=6, most=5, only=only)
        found = json.loads(out.with_suffix(".json").read_text())["distances"]
        if only:
            assert set(only) <= set(found) < set(whole["distances"])
    assert found == whole["distances"]
    with pytest.raises(InputError, match="only = 'magic'"):
        main(trained, out, num=6, most=5, only=["magic"])


def test_figures_of_another_number_are_not_mixed_in(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps({"run": "small", "num": 7, "distances": {}}))
    with pytest.raises(InputError, match="out = "):
        measured(trained, tmp_path / "q")


def test_another_seed_draws_others(trained: Path, tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        main(trained, tmp_path / f"{seed}", num=6, most=5, seed=seed, only=["ddim"])
        found.append(json.loads((tmp_path / f"{seed}.json").read_text())["distances"]["ddim"])
    assert found[0] != found[1]
    with pytest.raises(InputError, match="out = "):
        main(trained, tmp_path / "0", num=6, most=5, seed=1)


def pictures_measured(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What is measured from here on; the distance is how many there are by then."""
    seen: list[torch.Tensor] = []

    def kept(pictures: torch.Tensor, _: Any) -> float:
        seen.append(pictures)
        return float(len(seen))

    monkeypatch.setattr(sampler_quality, "distance", kept)
    return seen


def test_the_distance_is_of_the_pictures_that_the_sampler_draws(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = pictures_measured(monkeypatch)
    found = measured(trained, tmp_path / "q")["distances"]
    run = open_run(trained, "cpu")
    for name, number in (
        ("ancestral", found["ancestral"]),
        ("ddim, karras", found["ddim, karras"]),
    ):
        bare, _, spacing = name.partition(", ")
        sampler = Sampler(name=bare, spacing=spacing or "trailing", steps=5)
        assert torch.equal(seen[int(number["5"]) - 1], run.draw(6, 0, sampler))


def test_the_same_steps_are_drawn_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures_measured(monkeypatch)
    monkeypatch.setattr(sampler_quality, "CALLS", (5, 10))
    main(trained, tmp_path / "q", num=6, most=10)
    found = json.loads((tmp_path / "q.json").read_text())["distances"]
    run = open_run(trained, "cpu")
    for calls in ("5", "10"):
        groups: dict[float, list[str]] = {}
        for name, row in found.items():
            groups.setdefault(row[calls], []).append(name)
        spaced = ["ddim, log_snr", "ddim, karras"] if calls == "10" else []
        assert ["ddim", "dpm-solver-1", "euler", *spaced] in groups.values()
        for names in groups.values():
            pictures = [draw(run, name, int(calls)) for name in names]
            assert all(torch.equal(pictures[0], others) for others in pictures)


def draw(run: TrainedRun, name: str, calls: int) -> torch.Tensor:
    sampler = for_calls(run, choices(tuple(CATALOGUE))[name], calls)
    assert sampler is not None
    return run.draw(6, 0, sampler)


def test_the_closest_of_each_column_is_bold() -> None:
    rows = table({"a": {"5": 3.0, "10": 1.0}, "b": {"5": 2.0}}, (5, 10), 0.5).splitlines()
    assert rows[0].startswith("| Fréchet distance, real images 0.5 | 5 | 10 |")
    assert rows[2:] == ["| a | 3.0 | **1.0** |", "| b | **2.0** |  |"]
    assert table({"a": {"5": 3.0}}, (5, 500), 0.5).splitlines()[2:] == ["| a | **3.0** |"]
