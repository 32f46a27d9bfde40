"""`ddpm bench`: what it prints, what it writes, what it refuses."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from ddpm.bench import peer_calls, training_loads, workloads
from ddpm.bench.contender import Contender, Workload
from ddpm.bench.inputs import Inputs
from ddpm.bench.workloads import Operation
from tests.cli.command import run_here

# Compilers and peers warn of their own parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

QUICK = ("--rounds", "2", "--no-compile", "--device", "cpu", "--threads", "1")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One operation on tensors of a few kilobytes."""
    noising = Operation("noising", training_loads.noising_given, ((2, 3, 16, 16), (1, 1, 4, 4)))
    monkeypatch.setattr(workloads, "OPERATIONS", (noising,))


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def benched(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run_here("bench", "--json", *QUICK, *arguments)
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return code, found


def test_the_object(capfd: pytest.CaptureFixture[str]) -> None:
    code, found = benched(capfd)
    assert code == 0
    assert found["rounds"] == 2
    assert found["machine"]["device"] == "cpu"
    assert found["machine"]["threads"] == 1
    assert found["machine"]["cuda_graphs"] == "no GPU here"
    assert found["machine"]["torch_compile"] == "left out"
    rows = {(row["contender"], tuple(row["shape"])): row for row in found["rows"]}
    assert len(rows) == 10
    ours = rows["ddpm", (2, 3, 16, 16)]
    assert (ours["ran"], ours["equal"], ours["ratio"]) == (True, True, 1.0)
    assert (ours["launches"], ours["traffic"], ours["waits"]) == (1, 3.0, 0)
    assert rows["torch", (2, 3, 16, 16)]["traffic"] == 7.0
    left_out = rows["torch.compile", (2, 3, 16, 16)]
    assert (left_out["ran"], left_out["remark"]) == (False, "left out")


def test_processor_time(capfd: pytest.CaptureFixture[str]) -> None:
    code, found = benched(capfd, "--processor-time")
    assert (code, found["machine"]["clock"]) == (0, "processor time")


def test_the_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here("bench", *QUICK) == 0
    printed = capfd.readouterr().out
    assert "noising, noise given, 2x3x16x16 float32, cpu" in printed
    for words in (
        "ddpm bench on",
        "NumPy reference",
        "torch.compile: left out",
        "No GPU took part",
    ):
        assert words in printed
    tables, _, _ = printed.partition("No GPU took part")
    assert max(map(len, tables.splitlines())) <= 80


def test_files_are_written_and_earlier_ones_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "bench"
    assert run_here("bench", *QUICK, "--out", folder) == 0
    first = (folder / "bench.json").read_bytes()
    assert "Kept" not in capfd.readouterr().out
    with Image.open(folder / "bench.png") as image:
        assert image.format == "PNG"
    assert run_here("bench", *QUICK, "--out", folder) == 0
    assert "Kept the earlier bench.json as bench-2.json" in capfd.readouterr().out
    assert (folder / "bench-2.json").read_bytes() == first
    names = {path.name for path in folder.iterdir()}
    assert names == {f"bench{n}.{kind}" for n in ("", "-2") for kind in ("json", "md", "png")}


def test_json_alone_is_printed_where_files_are_written_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, found = benched(capfd, "--out", str(tmp_path))
    assert (code, json.loads((tmp_path / "bench.json").read_text())) == (0, found)


def test_missing_peers_are_named_and_how_to_install_them(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_calls, "find_spec", lambda _: None)
    peer_calls.missing.cache_clear()
    assert run_here("bench", *QUICK) == 0
    peer_calls.missing.cache_clear()
    printed = capfd.readouterr().out
    assert "diffusers: not installed" in printed
    assert "(pip install 'ddpm-proven[bench]'" in printed


def test_another_result_than_ours_is_a_failure(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(inputs: Inputs) -> Workload:
        ours = Contender("ddpm", lambda: {"y": inputs.x0})
        other = Contender("other", lambda: {"y": inputs.x0 + 1})
        return Workload("wrong", inputs.shape, inputs.dtype, inputs.device, 1, ours, (other,))

    monkeypatch.setattr(workloads, "OPERATIONS", (Operation("wrong", wrong, ((1, 1, 4, 4),)),))
    assert run_here("bench", *QUICK) == 1
    assert "other: another result than ours" in " ".join(capfd.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "nothing"), ("only = 'nothing'", "part of noising")),
        (("--rounds", "0"), ("rounds = 0", "at least 1")),
        (("--threads", "0"), ("threads = 0", "at least 1")),
        (("--threads", "2", "--processor-time"), ("processor_time = True", "--threads 1")),
        (("--device", "tpu"), ("device = 'tpu'", "auto, cpu or cuda")),
        (("--markdown", "table.md"), ("markdown = 'table.md'", "--static")),
        (("--static", "--out", "folder"), ("out = 'folder'", "--static")),
    ],
)
def test_bad_input(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert run_here("bench", *arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_a_file_is_no_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert run_here("bench", *QUICK, "--out", file) == 2
    assert "allowed is a folder" in capfd.readouterr().err


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_static_is_another_laboratory(
    holds: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def print_static(as_json: bool, markdown: Path | None) -> bool:
        given.update(as_json=as_json, markdown=markdown)
        return holds

    module = SimpleNamespace(print_static=print_static)
    monkeypatch.setitem(sys.modules, "ddpm.bench.static", module)
    monkeypatch.setattr("ddpm.bench.static", module, raising=False)
    file = tmp_path / "static.md"
    assert run_here("bench", "--static", "--json", "--markdown", file) == code
    assert given == {"as_json": True, "markdown": file}
