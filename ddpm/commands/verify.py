"""`ddpm verify`: run the proofs of the papers' formulas and say what holds."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ddpm.commands.terminal import console, progress
from ddpm.errors import check
from ddpm.files import keep_old, write_atomically
from ddpm.verify import registry
from ddpm.verify.audit import Problem, problems
from ddpm.verify.identifiers import PAPERS
from ddpm.verify.ledger import Statement, statements
from ddpm.verify.parallel import run_all
from ddpm.verify.runner import Result
from ddpm.verify.verdict import (
    Summary,
    Verdict,
    in_order_of_papers,
    select,
    summarise,
    verdicts,
)

STATUS_COLOUR = {"right": "green", "derived": "green", "loose": "yellow", "misprint": "magenta"}


def verify_ledger(
    wanted: Sequence[str],
    *,
    jobs: int | None,
    seed: int,
    examples: int | None,
    as_json: bool,
    html: Path | None,
) -> bool:
    """Run proofs, print a table or a JSON object, write the page; return whether all holds.

    Raises:
        InputError: an id is unknown, or a number is out of range.
    """
    check(jobs is None or jobs >= 1, "jobs", jobs, "an integer of at least 1")
    check(examples is None or examples >= 1, "examples", examples, "an integer of at least 1")
    check(html is None or not html.is_dir(), "html", str(html), "the name of a file")
    started, broken = time.perf_counter(), registry.load()
    ledger = in_order_of_papers(statements())
    chosen, unknown = select(ledger, wanted)
    check(not unknown, "ids", ", ".join(unknown), f"an id such as T-eq2, or one of {_choices()}")
    gaps = [*problems(ledger, registry.PROOFS), *_broken(ledger, broken)]
    names = _names(chosen)
    results = _run(names, _jobs(jobs, names), seed, examples, quiet=as_json)
    judged = verdicts(chosen, results, gaps)
    summary, seconds = summarise(judged), time.perf_counter() - started
    stray = [] if wanted else _stray(gaps, chosen)
    if html is not None:
        _write_page(html, judged, summary, seconds)
    if as_json:
        print(json.dumps(_object(judged, summary, stray, seconds), indent=2))
    else:
        _print(judged, summary, stray, seconds, html)
    return summary.holds and not stray


def _choices() -> str:
    return ", ".join(PAPERS)


def _names(chosen: Sequence[Statement]) -> list[str]:
    """Names of the proofs of the chosen statements, each once."""
    wanted = dict.fromkeys(name for statement in chosen for name in statement.proofs)
    return [name for name in wanted if name in registry.PROOFS]


def _jobs(jobs: int | None, names: Sequence[str]) -> int:
    # A process takes about two seconds to start, which a handful of proofs does not repay.
    available = len(os.sched_getaffinity(0)) if len(names) > 10 else 1
    return min(jobs or available, max(1, len(names)))


def _run(
    names: Sequence[str], jobs: int, seed: int, examples: int | None, quiet: bool
) -> list[Result]:
    results = []
    output = Console(stderr=True) if quiet else console
    with progress(unit=" proofs", output=output) as bar:
        running = run_all(names, jobs=jobs, seed=seed, examples=examples)
        for result in bar.track(running, total=len(names), description="proving"):
            results.append(result)
    return results


def _broken(ledger: Sequence[Statement], broken: dict[str, str]) -> list[Problem]:
    """A module of proofs that cannot be imported, as a gap of every id that it should prove."""
    return [
        Problem(name, f"proofs of {module} cannot be imported: {reason}")
        for module, reason in broken.items()
        for statement in ledger
        if any(proof.startswith(f"{module}.") for proof in statement.proofs)
        for name in statement.ids
    ]


def _stray(gaps: Sequence[Problem], chosen: Sequence[Statement]) -> list[str]:
    """Gaps of ids that no statement has: an unknown id in a proof."""
    known = {name for statement in chosen for name in statement.ids}
    return [f"{gap.id}: {gap.text}" for gap in gaps if gap.id not in known]


def _object(
    judged: Sequence[Verdict], summary: Summary, stray: list[str], seconds: float
) -> dict[str, object]:
    reasons = {name: text for v in judged for name, text in (v.missing | v.failed).items()}
    return {
        **asdict(summary),
        "seconds": round(seconds, 2),
        "reasons": reasons,
        "unknown": stray,
    }


def _write_page(path: Path, judged: Sequence[Verdict], summary: Summary, seconds: float) -> None:
    from ddpm.verify.page import page

    content = page(judged, summary, seconds).encode()
    if path.exists() and path.read_bytes() != content and (moved := keep_old(path)):
        console.print(f"Kept the earlier {path.name} as {moved.name}", soft_wrap=True)
    write_atomically(path, content)


def _print(
    judged: Sequence[Verdict],
    summary: Summary,
    stray: list[str],
    seconds: float,
    html: Path | None,
) -> None:
    table = Table(Column("ids", min_width=9), "what, and the truth it is held against")
    for heading in ("status", "verdict"):
        table.add_column(heading, no_wrap=True)
    for heading in ("examples", "worst error\nallowed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for verdict in judged:
        table.add_row(*_row(verdict))
    console.print(table)
    for verdict in judged:
        for name, reason in (verdict.missing | verdict.failed).items():
            console.print(f"[red]{name}[/red]: {escape(reason)}", soft_wrap=True)
    for line in stray:
        console.print(f"[red]{escape(line)}[/red]", soft_wrap=True)
    console.print(
        f"{summary.proven} of {summary.ids} ids proven, {summary.refuted} of {summary.misprints} "
        f"misprints refuted, {len(summary.missing)} missing, {len(summary.failed)} failed, "
        f"{seconds:.0f} s"
    )
    if html is not None:
        console.print(f"The page: {html}", soft_wrap=True)


def _row(verdict: Verdict) -> list[str]:
    statement, worst = verdict.statement, verdict.tightest
    colour = STATUS_COLOUR[statement.status]
    truths = "; ".join(dict.fromkeys(result.oracle for result in verdict.results))
    return [
        " ".join(statement.ids),
        f"{escape(statement.name)}\n[dim]{escape(truths)}[/dim]",
        f"[{colour}]{statement.status}[/{colour}]",
        _word(verdict),
        str(sum(result.examples for result in verdict.results)),
        _error(worst),
    ]


def _error(worst: Result | None) -> str:
    if worst is None or worst.tolerance == 0:
        return "" if worst is None else "exact"
    return f"{worst.error:.1e}\n[dim]{worst.tolerance:.1e}[/dim]"


def _word(verdict: Verdict) -> str:
    if verdict.failed:
        return "[red]failed[/red]"
    if verdict.missing:
        return "[red]missing[/red]"
    return "refuted" if verdict.refutations else "proven"
