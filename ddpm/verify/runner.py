"""Run proofs and refutations, one at a time or over several processes."""

import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddpm.verify.evidence import Evidence, distance
from ddpm.verify.registry import Misprint, Proof, plain

# A busy machine is no reason to refuse an example.
CALM = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


@dataclass(frozen=True)
class Result:
    """What running one proof gave; `failure` is empty where it holds."""

    name: str
    ids: tuple[str, ...]
    oracle: str
    refutes: bool
    examples: int
    error: float
    tolerance: float
    seconds: float
    failure: str
    printed: tuple[float, ...] = ()
    right: tuple[float, ...] = ()
    refuting: int = 0


def run(proof: Proof, *, seed: int = 0, examples: int | None = None, shrink: bool = True) -> Result:
    """Run one proof.

    Args:
        proof: what to run.
        seed: other examples for another seed.
        examples: number of examples, the proof's own if None.
        shrink: look for the simplest failing example, which takes time.
    """
    evidence, started, failure = Evidence(), time.perf_counter(), ""
    try:
        with warnings.catch_warnings(), np.errstate(all="warn", under="ignore"):
            warnings.simplefilter("error")
            _run(proof, evidence, seed, examples or proof.examples, shrink)
    except Exception as error:
        failure = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return Result(
        name=proof.name,
        ids=proof.ids,
        oracle=proof.oracle,
        refutes=proof.misprint is not None,
        examples=evidence.examples,
        error=evidence.error,
        tolerance=evidence.tolerance,
        seconds=time.perf_counter() - started,
        failure=failure,
        printed=tuple(evidence.printed),
        right=tuple(evidence.right),
        refuting=evidence.refuting,
    )


def _run(proof: Proof, evidence: Evidence, seed: int, examples: int, shrink: bool) -> None:
    if proof.misprint is not None:
        _refute(proof, proof.misprint, evidence, seed, examples, shrink)
    elif proof.given:
        _search(proof, proof.body, evidence, seed, examples, shrink)
    else:
        evidence.examples = 1
        proof.body(evidence)


def _search(
    proof: Proof,
    body: Callable[..., None],
    evidence: Evidence,
    seed: int,
    examples: int,
    shrink: bool,
) -> None:
    """Call `body` with the evidence and drawn arguments until one fails or all were tried."""

    def case(arguments: tuple[Any, ...]) -> None:
        evidence.examples += 1
        body(evidence, *arguments)

    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    settings = hypothesis.settings(
        max_examples=examples,
        phases=phases,
        deadline=None,
        database=None,
        suppress_health_check=CALM,
        report_multiple_bugs=False,
    )
    test = hypothesis.given(st.tuples(*proof.given))(case)
    settings(hypothesis.seed(zlib.crc32(proof.name.encode()) + seed)(test))()


def _refute(
    proof: Proof, wrong: Misprint, evidence: Evidence, seed: int, examples: int, shrink: bool
) -> None:
    _counterexample(proof, wrong, evidence)

    def case(evidence: Evidence, *arguments: Any) -> None:
        truth = np.asarray(wrong.value(wrong.truth(*arguments)), dtype=np.float64)
        evidence.close(
            wrong.value(plain(proof.of[0])(*arguments)),
            truth,
            rtol=wrong.rtol,
            atol=wrong.atol,
            what="corrected form",
        )
        evidence.refuting += _differs(_printed(wrong, arguments), truth, wrong)

    _search(proof, case, evidence, seed, examples, shrink)
    enough = wrong.share * (evidence.examples)
    assert evidence.refuting >= max(1, enough), (
        f"only {evidence.refuting} of {evidence.examples} random cases refute the printed form"
    )


def _counterexample(proof: Proof, wrong: Misprint, evidence: Evidence) -> None:
    """Hold the printed form, the corrected one and the truth against the ledger's numbers."""
    known = wrong.counterexample
    printed = _printed(wrong, known.arguments)
    right = np.asarray(wrong.value(plain(proof.of[0])(*known.arguments)), dtype=np.float64)
    truth = np.asarray(wrong.value(wrong.truth(*known.arguments)), dtype=np.float64)
    evidence.printed = np.ravel(printed).tolist()
    evidence.right = np.ravel(right).tolist()
    # The ledger's numbers have a few digits; only the comparison with the truth counts as evidence.
    recorded = Evidence()
    recorded.close(printed, known.printed, atol=known.within, what="printed form as recorded")
    recorded.close(truth, known.right, atol=known.within, what="truth as recorded")
    evidence.close(right, truth, rtol=wrong.rtol, atol=wrong.atol, what="corrected form")
    assert _differs(printed, truth, wrong), "the counterexample does not refute the printed form"


def _printed(wrong: Misprint, arguments: tuple[Any, ...]) -> NDArray[np.float64]:
    """Value of the printed form; NaN where its arithmetic breaks down."""
    with np.errstate(all="ignore"):
        try:
            return np.asarray(wrong.value(wrong.printed(*arguments)), dtype=np.float64)
        except (ZeroDivisionError, OverflowError):
            return np.asarray(np.nan)


def _differs(printed: NDArray[np.float64], truth: NDArray[np.float64], wrong: Misprint) -> bool:
    """Whether the printed form misses the truth by far more than the corrected one may."""
    allowed = 100 * (wrong.atol + wrong.rtol * np.where(np.isfinite(truth), np.abs(truth), 0))
    return bool(np.any(~(distance(*np.broadcast_arrays(printed, truth)) <= allowed)))
