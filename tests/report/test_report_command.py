"""`ddpm report` writes one file, and never over another one."""

from pathlib import Path

import pytest

from ddpm.commands.report import report_run
from ddpm.errors import InputError
from tests.cli.command import everything_below
from tests.report.synthetic import line, make_run


def test_it_lies_in_the_run_unless_told_otherwise(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    before = everything_below(folder.path)
    assert report_run(folder.path, None) == folder.path / "report.html"
    assert everything_below(folder.path).keys() - before.keys() == {"report.html"}
    assert report_run(folder.path, tmp_path / "other.html") == tmp_path / "other.html"
    assert (tmp_path / "other.html").read_bytes() == (folder.path / "report.html").read_bytes()


def test_an_earlier_report_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    first = report_run(folder.path, None).read_bytes()
    report_run(folder.path, None)
    assert not (folder.path / "report-2.html").exists()
    folder.append_metrics(line(4020))
    second = report_run(folder.path, None).read_bytes()
    assert second != first
    assert (folder.path / "report-2.html").read_bytes() == first
    assert "Kept the earlier report.html as report-2.html" in capfd.readouterr().out


def test_what_is_wrong_with_a_run_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    with folder.metrics_file.open("a") as file:
        file.write("torn")
    report_run(folder.path, None)
    assert "Note: 1 line of metrics.jsonl cannot be read" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("report.htm", "allowed is a path that ends in .html"),
        ("nowhere/report.html", "its folder does not exist"),
        ("folder.html", "is a folder; allowed is a file"),
    ],
)
def test_a_wrong_target_is_refused(tmp_path: Path, name: str, message: str) -> None:
    folder = make_run(tmp_path / "run", pictures=False)
    (tmp_path / "folder.html").mkdir()
    before = everything_below(tmp_path)
    with pytest.raises(InputError, match=message):
        report_run(folder.path, tmp_path / name)
    assert everything_below(tmp_path) == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        report_run(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
