"""The machine-readable ledger: what each paper states, where, whether it is right, who proves it.

One TOML file a subject holds its statements. A statement has one id for each place that prints it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Status = Literal["right", "misprint", "loose", "derived"]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of the papers and what the project holds about it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """What it is, in a few words."""
    status: Status
    """Whether it is right as printed, a misprint, loose, or derived because nobody prints it."""
    statement: str
    """The right form, in LaTeX."""
    places: dict[str, str]
    """Where it stands, by id: "equation (2)"."""
    functions: list[str]
    """Functions of the reference that compute it: "posterior.posterior_coefficients"."""
    proofs: list[str]
    """Proofs of it, and refutations of its misprint: "posterior.conditioning"."""
    printed: str = ""
    """What the paper prints, in LaTeX; for a misprint."""
    note: str = ""
    """Conditions, edge cases and what is loose about it."""
    subject: str = field(default="")
    """The file that holds it; filled in by the loader."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the statement."""
        return tuple(self.places)


def statements() -> Iterator[Statement]:
    """Every statement of the ledger, subject by subject.

    Raises:
        ValueError: a file does not follow the form above; the message names the file.
    """
    folder = files("ddpm.verify") / "entries"
    for file in sorted(folder.iterdir(), key=lambda found: found.name):
        if file.name.endswith(".toml"):
            yield from parse(file.read_text(encoding="utf-8"), file.name.removesuffix(".toml"))


def parse(text: str, subject: str) -> list[Statement]:
    """Read the statements of one subject.

    Raises:
        ValueError: the text does not follow the form of a statement.
    """
    try:
        tables: list[dict[str, Any]] = tomllib.loads(text).get("statement", [])
        adapter = TypeAdapter(Statement)
        return [adapter.validate_python({**table, "subject": subject}) for table in tables]
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ValueError(f"the ledger of subject {subject!r} cannot be read: {error}") from error


@cache
def by_id() -> dict[str, Statement]:
    """The statement of each id.

    Raises:
        ValueError: two statements claim one id.
    """
    found: dict[str, Statement] = {}
    for statement in statements():
        for name in statement.ids:
            if name in found:
                raise ValueError(f"the ledger states {name} twice")
            found[name] = statement
    return found
