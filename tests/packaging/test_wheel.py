"""An installed wheel holds the ledger, the proofs and the page, and proves from anywhere."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    # Building leaves folders beside the sources, so it happens in a copy.
    for name in ("ddpm", "reference", "kernels"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "copy" / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "copy")
    command = [
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "--wheel-dir", str(folder), str(folder / "copy"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(site: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_proves_and_draws_the_page(installed: Path, tmp_path: Path) -> None:
    where = python(installed, tmp_path, "-c", "import ddpm; print(ddpm.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    page = tmp_path / "page.html"
    printed = python(
        installed, tmp_path, "-m", "ddpm", "verify", "K-58..60", "--json", "--html", str(page)
    )
    found = json.loads(printed)
    assert (found["ids"], found["proven"], found["missing"]) == (3, 3, [])
    assert "<math" in page.read_text()


def test_every_module_of_the_checkout_is_in_the_wheel(installed: Path) -> None:
    kinds = {".py", ".toml", ".html", ".css", ".js"}
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ddpm").rglob("*")
        if path.suffix in kinds
    }
    packed = {path.relative_to(installed).as_posix() for path in installed.rglob("*")}
    assert ours <= packed
    for linked in ("reference", "kernels"):
        inside = {path.relative_to(ROOT / linked) for path in (ROOT / linked).rglob("*.py")}
        assert all((installed / "ddpm" / linked / path).is_file() for path in inside)
