"""`ddpm verify` and `ddpm figures`: what they print, what they write, what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest

from ddpm import extras
from ddpm.commands import accuracy
from ddpm.reference.posterior import posterior_coefficients
from ddpm.verify.injection import injected
from ddpm.verify.proofs.posterior import denominator_of_the_last_level
from ddpm.verify.registry import PROOFS
from tests.cli.command import everything_below, run_here


def verified(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and printed object of `ddpm verify --json` with some arguments."""
    code = run_here("verify", "--json", "--jobs", "1", *arguments)
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return code, found


def test_one_misprint(capfd: pytest.CaptureFixture[str]) -> None:
    code, found = verified(capfd, "K-60")
    assert code == 0
    counts = {name: found[name] for name in ("ids", "proven", "misprints", "refuted")}
    assert counts == {"ids": 1, "proven": 1, "misprints": 1, "refuted": 1}
    assert found["missing"] == found["failed"] == []
    assert found["seconds"] > 0


def test_ranges_and_papers(capfd: pytest.CaptureFixture[str]) -> None:
    assert verified(capfd, "K-58..60", "--examples", "2")[1]["ids"] == 3
    note = verified(capfd, "--paper", "V", "--examples", "1")[1]
    assert 15 <= note["ids"] <= 40


def test_the_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here("verify", "K-59", "K-60") == 0
    printed = capfd.readouterr().out
    for word in ("K-59", "K-60", "proven", "refuted", "misprint", "covariance", "2 of 2 ids"):
        assert word in printed


def test_several_processes(capfd: pytest.CaptureFixture[str]) -> None:
    code = run_here("verify", "--json", "--jobs", "2", "posterior", "--examples", "2")
    found = json.loads(capfd.readouterr().out)
    assert (code, found["failed"]) == (0, [])


def test_a_misprint_put_back_fails_and_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with injected(posterior_coefficients, denominator_of_the_last_level):
        code, found = verified(capfd, "T-eq2", "K-60")
    assert code == 1
    assert found["failed"] == ["K-60", "T-eq2"]
    assert "s2" in found["reasons"]["T-eq2"]


def test_a_deleted_proof_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(PROOFS, "posterior.conditioning")
    code, found = verified(capfd, "T-eq2")
    assert (code, found["missing"]) == (1, ["T-eq2"])
    assert "there is no proof posterior.conditioning" in found["reasons"]["T-eq2"]
    assert run_here("verify", "T-eq2") == 1
    assert "there is no proof posterior.conditioning" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["K-999"], ["ids", "K-999", "T-eq2"]),
        (["K-1..900"], ["ids", "K-900"]),
        (["--paper", "Z"], ["ids", "Z", "T, K, V"]),
        (["--jobs", "0"], ["jobs", "0", "at least 1"]),
        (["--examples", "0", "K-60"], ["examples", "0", "at least 1"]),
        (["--html", "."], ["html", "the name of a file"]),
    ],
)
def test_refused(
    arguments: list[str], names: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_here("verify", *arguments) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert all(name in line for name in ["error:", *names])
    assert everything_below(tmp_path) == {}


def test_without_the_extra(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "mpmath" else name)
    for command in ("verify", "figures"):
        assert run_here(command) == 2
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert f"ddpm {command} needs mpmath" in line
        assert "pip install 'ddpm-proven[verify]'" in line


def test_the_page_keeps_an_earlier_one(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("precious")
    assert run_here("verify", "K-60", "--html", str(path)) == 0
    assert "page-2.html" in capfd.readouterr().out
    assert (tmp_path / "page-2.html").read_text() == "precious"
    assert "<math" in path.read_text()


def test_accuracy(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "LENGTHS", (1, 10))
    assert run_here("verify", "--accuracy") == 0
    assert "posterior variance" in capfd.readouterr().out
    assert run_here("verify", "--accuracy", "--json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert {"quantity", "reference_ulp", "production_ulp"} <= set(rows[0])
    monkeypatch.setattr(accuracy, "REFERENCE_ULP", 0.01)
    assert run_here("verify", "--accuracy") == 1


def test_figures_are_written_once(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "figures"
    assert run_here("figures", "--out", str(out)) == 0
    first = everything_below(out)
    assert {"signal_levels.png", "with_and_without_x0.png"} <= {Path(name).name for name in first}
    assert run_here("figures", "--out", str(out)) == 0
    assert everything_below(out) == first
    (out / "signal_levels.png").write_bytes(b"mine")
    assert run_here("figures", "--out", str(out)) == 0
    assert (out / "signal_levels-2.png").read_bytes() == b"mine"
    assert "Kept the earlier signal_levels.png" in capfd.readouterr().out


def test_figures_into_a_file_are_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.write_text("mine")
    assert run_here("figures", "--out", str(path)) == 2
    assert "the name of a folder" in capfd.readouterr().err
    assert path.read_text() == "mine"
