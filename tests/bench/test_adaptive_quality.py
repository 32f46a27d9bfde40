"""Distances of the samplers that choose their steps: their pictures, and calls that are counted."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.adaptive_quality import draw, main
from ddpm.commands.trained import open_run
from ddpm.errors import InputError
from ddpm.samplers import adaptive
from ddpm.samplers.adaptive_catalogue import ADAPTIVE
from ddpm.samplers.sampler import Sampler
from tests.cli.command import SMALL, run_here

NUM = 130
"""More than are drawn at a time, and no multiple of it."""
SOLVERS = {"ode-adaptive": "ode_progressive", "sde-adaptive": "sde_progressive"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    assert run_here("train", "--run", run, "--steps", "30", "--device", "cpu", *SMALL) == 0
    return run


@pytest.mark.parametrize("name", ADAPTIVE)
def test_draws_what_the_sampler_draws_with_this_tolerance(
    name: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(trained, "cpu")
    pictures, _ = draw(run, name, 0.25, NUM, 3)
    usual = getattr(adaptive, SOLVERS[name]).__wrapped__.__kwdefaults__
    chosen = Sampler(name=name, levels=(run.trained.levels, 1, 0))
    assert not torch.equal(pictures, run.draw(NUM, 3, chosen))
    for tolerance in ("rtol", "atol"):
        monkeypatch.setitem(usual, tolerance, 0.25)
    assert torch.equal(pictures, run.draw(NUM, 3, chosen))


@pytest.mark.parametrize("name", ADAPTIVE)
def test_calls_are_those_that_reach_the_network(name: str, trained: Path) -> None:
    run, seen = open_run(trained, "cpu"), 0

    def count(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += len(arguments[0])

    run.model.register_forward_pre_hook(count)
    found = []
    for tolerance in (0.25, 0.002):
        before = seen
        found.append(draw(run, name, tolerance, NUM, 0)[1])
        assert found[-1] == pytest.approx((seen - before) / NUM, rel=1e-12)
    assert found[0] < found[1]


def test_a_row_for_each_tolerance(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(trained, num=6, sampler=["ode-adaptive"], tolerance=[0.25, 0.1])
    rows = capsys.readouterr().out.splitlines()
    assert [row.count("|") for row in rows] == [5, 5, 5, 5]
    assert rows[2].startswith("| ode-adaptive | 0.25 | ")
    assert rows[3].startswith("| ode-adaptive | 0.1 | ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("num", 1), ("seed", 2**63), ("sampler", ["heun"]), ("tolerance", [0.0])],
)
def test_refuses_what_it_cannot_measure(name: str, value: Any, trained: Path) -> None:
    argument = "rtol" if name == "tolerance" else name
    with pytest.raises(InputError, match=f"{argument} = "):
        main(trained, **{"num": 6, name: value})


@pytest.mark.parametrize("options", [("--process", "discrete"), ("--conditional",)])
def test_refuses_a_run_that_it_would_draw_otherwise(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    run = tmp_path / "other"
    assert run_here("train", "--run", run, "--steps", "2", "--device", "cpu", *options, *SMALL) == 0
    with pytest.raises(InputError, match=r"run = .*Gaussian diffusion without classes"):
        main(run, num=6)
