"""What a service is sent, seen by a stand-in that is imported under the service's name."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm.errors import InputError
from ddpm.runs.metrics import Metrics
from ddpm.runs.run_folder import RunFolder
from ddpm.runs.trackers import NAMES, Tracker, check_tracker
from tests.ddpm.runs.test_metrics import update
from tests.ddpm.small import IMAGES, small_config

STAND_IN = """
import json, pathlib

calls = pathlib.Path(__file__).with_name("calls.jsonl")
fail = pathlib.Path(__file__).with_name("fail")

class Image:
    def __init__(self, pixels):
        self.shape = list(pixels.shape)

def note(name, /, *arguments, **options):
    if fail.exists() and fail.read_text() == name:
        raise RuntimeError(name + " cannot be\\nreached")
    with calls.open("a") as file:
        file.write(json.dumps([name, arguments, options], default=lambda x: x.shape) + "\\n")

def init(**options):
    note("init", **options)

def log(values, step=None):
    note("log", values, step)

def finish():
    note("finish")
"""


@pytest.fixture(params=NAMES)
def service(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    (tmp_path / f"{name}.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "my run")
    run.create(small_config())
    return run


def calls(tmp_path: Path) -> list[Any]:
    return [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]


def test_a_run_sends_its_curves_and_pictures(
    service: str, folder: RunFolder, tmp_path: Path
) -> None:
    with Metrics(folder, 0, service) as metrics:
        one = update(20, [(1, 0.5), (20, 1.5)])
        metrics.observe(one)
        metrics.write(one, 2.0, 2, 0.9)
        metrics.pictures(20, IMAGES)
    begun, logged, pictured, ended = calls(tmp_path)
    assert begun[0] == "init"
    assert begun[2]["project"] == "ddpm"
    assert begun[2]["resume"] == "allow"
    assert begun[2]["name"].startswith("my run")
    assert begun[2]["config"]["schedule"]["levels"] == 20
    values, step = logged[1]
    assert step == 20
    assert values["loss"] == 1.0
    assert values["ema_decay"] == 0.9
    assert values["loss_by_level/t_1-3"] == 0.5
    samples, step = pictured[1]
    assert (step, samples["samples"][2]) == (20, 3)
    assert ended[0] == "finish"


def test_a_resumed_run_goes_on_under_its_name(
    service: str, folder: RunFolder, tmp_path: Path
) -> None:
    for _ in range(2):
        Tracker(service, folder).close()
    first, _, second, _ = calls(tmp_path)
    assert first == second
    other = RunFolder(tmp_path / "other" / "my run")
    other.create(small_config())
    Tracker(service, other).close()
    third = calls(tmp_path)[4]
    key = "id" if service == "wandb" else "name"
    assert third[2][key] != first[2][key]


def test_the_environment_may_name_the_project(
    service: str, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{service.upper()}_PROJECT", "mine")
    Tracker(service, folder)
    assert calls(tmp_path)[0][2]["project"] == "mine"


def test_a_service_that_does_not_begin_is_one_line(
    service: str, folder: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "fail").write_text("init")
    with pytest.raises(InputError, match="it does not begin: init cannot be reached"):
        Metrics(folder, 0, service)


def test_a_service_that_fails_later_costs_one_warning(
    service: str, folder: RunFolder, tmp_path: Path
) -> None:
    tracker = Tracker(service, folder)
    tracker.log(1, {"loss": 1.0})
    (tmp_path / "fail").write_text("log")
    with pytest.warns(RuntimeWarning, match="gets nothing more of this run: log cannot be") as told:
        tracker.log(2, {"loss": 1.0})
    assert len(told) == 1
    tracker.picture(2, np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "fail").unlink()
    tracker.log(3, {"loss": 1.0})
    assert [call[0] for call in calls(tmp_path)] == ["init", "log"]


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_is_not_installed_says_how_to_get_it(
    name: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"needs {name}: install it with .*ddpm-proven\[{name}\]"):
        Metrics(folder, 0, name)


def test_an_unknown_service_is_refused() -> None:
    with pytest.raises(InputError, match="tracker = 'mlflow': allowed is wandb, trackio"):
        check_tracker("mlflow")


@pytest.mark.parametrize("content", ["", "{}", '{"id": 3}', '{"id": "../x"}', "[]"])
def test_a_damaged_identity_names_its_file(service: str, folder: RunFolder, content: str) -> None:
    (folder.path / "tracker.json").write_text(content)
    with pytest.raises(InputError, match=r"tracker.json: holds no id"):
        Tracker(service, folder)


def test_without_a_tracker_nothing_of_it_is_written(folder: RunFolder) -> None:
    with Metrics(folder, 0) as metrics:
        metrics.write(update(1, [(1, 1.0)]), 1.0, 1)
    assert not (folder.path / "tracker.json").exists()
