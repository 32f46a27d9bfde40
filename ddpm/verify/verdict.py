"""What the proofs say about each statement of the ledger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ddpm.verify.audit import Problem
from ddpm.verify.identifiers import PAPERS, expand
from ddpm.verify.ledger import Statement
from ddpm.verify.runner import Result


@dataclass(frozen=True)
class Verdict:
    """A statement, the results of its proofs and what is missing or failed, by id."""

    statement: Statement
    results: tuple[Result, ...]
    missing: dict[str, str]
    failed: dict[str, str]

    @property
    def refutations(self) -> tuple[Result, ...]:
        """Results of the refutations of its misprint."""
        return tuple(result for result in self.results if result.refutes)

    @property
    def proofs(self) -> tuple[Result, ...]:
        """Results of the proofs of its right form."""
        return tuple(result for result in self.results if not result.refutes)

    @property
    def tightest(self) -> Result | None:
        """The result whose worst error came closest to its tolerance, exact ones last."""
        return max(self.results, key=_closeness, default=None)

    def proven(self) -> tuple[str, ...]:
        """Ids that are neither missing nor failed."""
        return tuple(i for i in self.statement.ids if i not in self.missing | self.failed)


@dataclass(frozen=True)
class Summary:
    """Counts over the ids of a run, and the ids that lack something or failed."""

    ids: int
    proven: int
    misprints: int
    refuted: int
    missing: list[str]
    failed: list[str]

    @property
    def holds(self) -> bool:
        """Whether every id is proven and every misprint refuted."""
        return not self.missing and not self.failed


def verdicts(
    statements: Iterable[Statement], results: Iterable[Result], problems: Iterable[Problem]
) -> list[Verdict]:
    """Join statements with the results of their proofs and the gaps that the audit found."""
    found = {result.name: result for result in results}
    gaps: dict[str, list[str]] = {}
    for problem in problems:
        gaps.setdefault(problem.id, []).append(problem.text)
    return [_verdict(statement, found, gaps) for statement in statements]


def summarise(judged: Sequence[Verdict]) -> Summary:
    """Count ids, proofs and refutations."""
    misprints = [v for v in judged if v.statement.status == "misprint"]
    return Summary(
        ids=sum(len(v.statement.ids) for v in judged),
        proven=sum(len(v.proven()) for v in judged),
        misprints=sum(len(v.statement.ids) for v in misprints),
        refuted=sum(len(v.proven()) for v in misprints),
        missing=sorted(name for v in judged for name in v.missing),
        failed=sorted(name for v in judged for name in v.failed),
    )


def select(
    statements: Sequence[Statement], wanted: Sequence[str]
) -> tuple[list[Statement], list[str]]:
    """Statements cut down to the ids that are asked for, all of them if nothing is.

    Args:
        statements: the ledger.
        wanted: ids, ranges of ids, subjects, or letters of papers.

    Returns:
        The statements in their order, and the words that ask for nothing the ledger has.
    """
    words = set(expand(wanted))
    chosen, covered = [], set()
    for statement in statements:
        asked = {i: {i, i[0], statement.subject} & words for i in statement.ids}
        covered |= set().union(*asked.values())
        places = {i: p for i, p in statement.places.items() if asked[i] or not words}
        chosen += [replace(statement, places=places)] if places else []
    return chosen, sorted(words - covered)


def in_order_of_papers(statements: Iterable[Statement]) -> list[Statement]:
    """Statements as they follow each other in the papers, by their first id."""
    order = list(PAPERS)
    return sorted(statements, key=lambda s: order.index(s.ids[0][0]))


def _verdict(statement: Statement, found: dict[str, Result], gaps: dict[str, list[str]]) -> Verdict:
    results = tuple(found[name] for name in statement.proofs if name in found)
    missing = {name: "; ".join(gaps[name]) for name in statement.ids if name in gaps}
    failed = {
        name: "; ".join(r.failure for r in results if name in r.ids and r.failure)
        for name in statement.ids
        if any(name in r.ids and r.failure for r in results)
    }
    return Verdict(statement, results, missing, failed)


def _closeness(result: Result) -> float:
    return result.error / result.tolerance if result.tolerance > 0 else -1.0
