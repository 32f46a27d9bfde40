"""Every command and every snippet of the README runs."""

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from ddpm.bench import static
from ddpm.commands import accuracy
from ddpm.verify.ledger import by_id
from tests.cli.command import SMALL, run_here

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def quick(command: str) -> list[str]:
    """A command of the README with sizes that finish in a second, and nothing else changed."""
    arguments = shlex.split(command)[1:]
    if arguments[0] == "train" and "--resume" not in arguments:
        for long in ("--minutes", "--steps"):
            if long in arguments:
                at = arguments.index(long)
                del arguments[at : at + 2]
        arguments += ["--steps", "8", *SMALL]
    if "--steps" in arguments and arguments[0] == "sample":
        arguments[arguments.index("--steps") + 1] = "5"
    if arguments[0] == "eval":
        arguments += ["--num", "10", "--max-images", "20"]
    if arguments[0] == "verify":
        few = "--accuracy" in arguments or any(word[0].isupper() for word in arguments)
        return [*arguments, "--examples", "2", *([] if few else ["K-60"])]
    if arguments[0] in ("figures", "report", "samplers"):
        return arguments
    if arguments[0] == "bench":
        little = ["--only", "normals", "--rounds", "1", "--no-compile"]
        return [*arguments, *([] if "--static" in arguments else little)]
    return [*arguments, "--device", "cpu"]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures of one's own, as the README supposes."""
    import numpy as np
    from PIL import Image

    (tmp_path / "my-images").mkdir()
    for i in range(6):
        Image.fromarray(np.full((20, 20, 3), 40 * i, np.uint8)).save(
            tmp_path / "my-images" / f"{i}.png"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accuracy, "LENGTHS", (1, 2))
    # tests/bench compiles all kernels, once for all its tests.
    monkeypatch.setattr(static, "print_static", lambda **_: True)
    return tmp_path


def test_the_readme_shows_commands_and_snippets() -> None:
    assert any(c.startswith("make train") for c in commands())
    assert any(c.startswith("ddpm train") for c in commands())
    assert blocks("python")


def test_the_readme_counts_the_ledger() -> None:
    statements = by_id()
    wrong = [name for name, s in statements.items() if s.status == "misprint"]
    assert f"**{len(statements)} formulas, claims and algorithms**" in README
    assert f"**{len(wrong)} of the places are\nwrong as printed**" in README


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/design.md",
        "docs/bench.md",
        "docs/kernels.md",
        "docs/training.md",
        "docs/objectives.md",
        "docs/versus.md",
        "docs/sampling.md",
        "docs/sampler-orders.md",
    ],
)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_command_is_of_a_kind_that_is_run() -> None:
    known = ("make ", "ddpm ", "git clone ", "cd ", "pip install ")
    assert [c for c in commands() if not c.startswith(known)] == []


def test_ddpm_commands_run_in_their_order(workplace: Path) -> None:
    for command in commands():
        if command.startswith("ddpm "):
            assert run_here(*quick(command)) == 0, command
    assert list(workplace.rglob("*.png"))


def test_make_targets_exist_and_call_commands_that_exist(tmp_path: Path) -> None:
    for command in commands():
        if not command.startswith("make "):
            continue
        done = subprocess.run(
            [*shlex.split(command), "--dry-run", f"RUN={tmp_path / 'run'}"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for line in done.stdout.replace("\\\n", " ").splitlines():
            if "/ddpm " in line:
                arguments = quick(line.strip())
                assert run_here(*arguments) == 0, line


@pytest.mark.parametrize("snippet", blocks("python"))
def test_snippets_run(snippet: str, workplace: Path) -> None:
    file = workplace / "snippet.py"
    file.write_text(snippet)
    runpy.run_path(str(file))
