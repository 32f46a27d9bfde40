"""A gap between the ledger, the reference and the proofs is found and named."""

from dataclasses import replace

import pytest

from ddpm.reference.posterior import posterior_coefficients
from ddpm.verify.audit import find, problems
from ddpm.verify.identifiers import PAPERS
from ddpm.verify.ledger import Statement, by_id, parse, statements
from ddpm.verify.registry import PROOFS, Proof, load

load()
LEDGER = list(statements())
POSTERIOR = by_id()["T-eq2"]
MISPRINT = by_id()["K-60"]


def gaps(statement: Statement, proofs: dict[str, Proof] = PROOFS) -> list[str]:
    """What is said about the ids of one statement in place of the one the ledger has."""
    others = [s for s in LEDGER if not set(s.ids) & set(statement.ids)]
    found = problems([*others, statement], proofs)
    return [f"{p.id}: {p.text}" for p in found if p.id in statement.ids or not p.id]


def test_the_project_has_no_gap() -> None:
    assert list(problems(LEDGER, PROOFS)) == []


def test_a_deleted_proof() -> None:
    without = {name: proof for name, proof in PROOFS.items() if name != POSTERIOR.proofs[0]}
    assert f"T-eq2: there is no proof {POSTERIOR.proofs[0]}" in gaps(POSTERIOR, without)


def test_a_renamed_function() -> None:
    renamed = replace(POSTERIOR, functions=["posterior.posterior_weights"])
    assert "T-eq2: there is no function posterior.posterior_weights" in gaps(renamed)
    assert find("nowhere.function") is None
    assert find("chain.Chain.nothing") is None
    assert find("chain.Chain.alpha_bar") is not None


def test_a_statement_without_function_or_proof() -> None:
    assert "K-60: it has no proof" in gaps(replace(MISPRINT, proofs=[]))
    assert "K-60: no docstring of a function cites it" in gaps(replace(MISPRINT, functions=[]))


def test_a_function_that_does_not_cite_the_id() -> None:
    found = gaps(replace(POSTERIOR, functions=["philox.philox4x32"]))
    assert "T-eq2: no docstring of philox.philox4x32 cites it" in found


def test_a_misprint_needs_its_refutation_and_its_printed_form() -> None:
    ordinary = [name for name in MISPRINT.proofs if PROOFS[name].misprint is None]
    assert "K-60: its misprint is not refuted" in gaps(replace(MISPRINT, proofs=ordinary))
    silent = replace(MISPRINT, printed="")
    assert "K-60: the ledger does not say what is printed" in gaps(silent)


def test_a_proof_with_an_unknown_id() -> None:
    stray = Proof("x.y", ("K-999",), (posterior_coefficients,), "", lambda: None, (), 1)
    found = [(p.id, p.text) for p in problems(LEDGER, {**PROOFS, "x.y": stray})]
    assert ("K-999", "proof x.y names an id that the ledger does not have") in found
    assert ("K-999", "proof x.y stands in no statement of the ledger") in found


def test_a_proof_of_a_function_that_lacks_the_id() -> None:
    other = replace(PROOFS[POSTERIOR.proofs[0]], of=(parse,))
    found = gaps(POSTERIOR, {**PROOFS, other.name: other})
    assert any(line.startswith("T-eq2: proof") and "lacks the id" in line for line in found)


def test_a_docstring_with_an_unknown_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_coefficients, "__doc__", "Wrong.  K-998.")
    found = [p.text for p in problems(LEDGER, PROOFS) if p.id == "K-998"]
    (text,) = found
    assert text.startswith("the docstring of posterior.posterior_coefficients cites an id")


def test_every_id_belongs_to_a_paper() -> None:
    assert {name[0] for name in by_id()} == set(PAPERS)


@pytest.mark.parametrize(
    "text",
    [
        "[[statement]]\nname = 1",
        "[[statement]]\nname = 'x'\nstatus = 'wrong'\nstatement = ''\nfunctions = []\n"
        "proofs = []\nplaces = {}",
        "[[statement]\n",
        "[[statement]]\nname = 'x'\nstatus = 'right'\nstatement = ''\nfunctions = []\n"
        "proofs = []\nplaces = {}\ncolour = 'red'",
    ],
)
def test_a_file_that_is_no_ledger(text: str) -> None:
    with pytest.raises(ValueError, match="the ledger of subject 'example' cannot be read"):
        parse(text, "example")
