"""Every public name of the reference has its sources in its docstring and a proof or test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "reference"
REFERENCE = ROOT / "reference"
PROOFS = ROOT / "ddpm" / "verify" / "proofs"
SOURCE_ID = re.compile(r"\b[TKVLGX]-[\w.]+")

# What follows the design and no formula of a paper: array shapes, exact arithmetic, randomness.
DESIGN_ONLY = {"arrays", "double_double", "philox"}

Definition = ast.FunctionDef | ast.ClassDef


def public_definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def names() -> list[tuple[str, Definition]]:
    return [
        (path.stem, node)
        for path in sorted(REFERENCE.glob("*.py"))
        for node in public_definitions(ast.parse(path.read_text(encoding="utf-8")).body)
    ]


def label(value: object) -> str:
    return value.name if isinstance(value, Definition) else str(value)


def test_the_reference_was_found() -> None:
    found = {node.name for _, node in names()}
    assert {"Chain", "alpha_bar", "q_sample", "posterior_coefficients", "philox4x32"} <= found


@pytest.mark.parametrize(("module", "node"), names(), ids=label)
def test_docstring_cites_its_sources(module: str, node: Definition) -> None:
    docstring = ast.get_docstring(node) or ""
    assert docstring
    assert module in DESIGN_ONLY or SOURCE_ID.search(docstring)


@pytest.mark.parametrize(("module", "node"), names(), ids=label)
def test_some_test_names_it(module: str, node: Definition) -> None:
    if module in DESIGN_ONLY:
        files = [TESTS / f"test_{module}.py"]
    else:
        files = [*TESTS.glob("test_*.py"), *PROOFS.glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert re.search(rf"\b{node.name}\b", text)


def test_every_module_has_its_proofs_or_tests() -> None:
    modules = {path.stem for path in REFERENCE.glob("*.py")}
    tested = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    assert modules <= tested | {path.stem for path in PROOFS.glob("*.py")}


def test_no_module_is_too_long() -> None:
    lengths = {p.name: len(p.read_text().splitlines()) for p in REFERENCE.glob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}
