"""Whether every statement has its function and its proofs, and whether each names the others."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ddpm import reference
from ddpm.verify.identifiers import cited
from ddpm.verify.ledger import Statement
from ddpm.verify.registry import Proof, plain, target_name


@dataclass(frozen=True)
class Problem:
    """A gap between the ledger, the reference and the proofs; `id` may be empty."""

    id: str
    text: str


def problems(statements: Iterable[Statement], proofs: dict[str, Proof]) -> Iterator[Problem]:
    """Every gap: a missing function or proof, a missing or an unknown id."""
    known = list(statements)
    for statement in known:
        yield from _of_statement(statement, proofs)
    ids = {name for statement in known for name in statement.ids}
    claimed = {proof for statement in known for proof in statement.proofs}
    for proof in proofs.values():
        yield from _of_proof(proof, ids, claimed)
    for name, documented in sorted(_documented().items()):
        for id_ in set(cited(documented)) - ids:
            yield Problem(id_, f"the docstring of {name} cites an id that the ledger does not have")


def find(function: str) -> Any | None:
    """The object of the reference that a dotted name means, None if there is none."""
    module, _, path = function.partition(".")
    try:
        found: Any = importlib.import_module(f"ddpm.reference.{module}")
    except ModuleNotFoundError:
        return None
    for name in path.split("."):
        found = vars(found).get(name)
        if found is None:
            return None
    return found


def citations(target: Any) -> set[str]:
    """Ids that the docstring of a function or property cites."""
    return set(cited(getattr(plain(target), "__doc__", None) or ""))


def _documented() -> dict[str, str]:
    """Docstrings of the reference's public functions, classes and their members."""
    found = {}
    for module in pkgutil.iter_modules(reference.__path__):
        loaded = importlib.import_module(f"ddpm.reference.{module.name}")
        public = {name: value for name, value in vars(loaded).items() if name[0] != "_"}
        for name, value in public.items():
            if getattr(value, "__module__", "") == loaded.__name__:
                found[f"{module.name}.{name}"] = plain(value).__doc__ or ""
                members = vars(value) if isinstance(value, type) else {}
                for member, inner in members.items():
                    text = getattr(plain(inner), "__doc__", None) if member[0] != "_" else None
                    found[f"{module.name}.{name}.{member}"] = text or ""
    return found


def _of_statement(statement: Statement, proofs: dict[str, Proof]) -> Iterator[Problem]:
    functions = {name: find(name) for name in statement.functions}
    for name, function in functions.items():
        if function is None:
            yield from _each(statement, f"there is no function {name}")
    for name in statement.proofs:
        if name not in proofs:
            yield from _each(statement, f"there is no proof {name}")
    for id_ in statement.ids:
        if not any(id_ in citations(f) for f in functions.values() if f is not None):
            yield Problem(id_, f"no docstring of {', '.join(functions) or 'a function'} cites it")
        yield from _of_id(id_, statement, proofs)


def _of_id(id_: str, statement: Statement, proofs: dict[str, Proof]) -> Iterator[Problem]:
    found = [proofs[name] for name in statement.proofs if name in proofs]
    named = [proof for proof in found if id_ in proof.ids]
    if not any(proof.misprint is None for proof in named):
        yield Problem(id_, "it has no proof")
    if statement.status != "misprint":
        return
    if not any(proof.misprint for proof in named):
        yield Problem(id_, "its misprint is not refuted")
    if not statement.printed:
        yield Problem(id_, "the ledger does not say what is printed")


def _of_proof(proof: Proof, ids: set[str], claimed: set[str]) -> Iterator[Problem]:
    carried = set().union(*(citations(target) for target in proof.of))
    for id_ in proof.ids:
        if id_ not in ids:
            yield Problem(id_, f"proof {proof.name} names an id that the ledger does not have")
        elif id_ not in carried:
            names = ", ".join(target_name(target) for target in proof.of)
            yield Problem(id_, f"proof {proof.name} is of {names}, whose docstring lacks the id")
    if proof.name not in claimed:
        yield Problem(proof.ids[0], f"proof {proof.name} stands in no statement of the ledger")


def _each(statement: Statement, text: str) -> Iterator[Problem]:
    return (Problem(id_, text) for id_ in statement.ids)
