"""Running proofs: what fails is reported, what is printed wrongly must be refuted."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import PROOFS, Counterexample, Misprint, Proof
from ddpm.verify.runner import run


def square(x: float) -> float:
    return x * x


def proof_of(body: Callable[..., None], *given: st.SearchStrategy[Any]) -> Proof:
    return Proof("subject.name", ("X-1",), (square,), "counting", body, given, 20)


def misprint_of(printed: Callable[[float], float], **changes: Any) -> Proof:
    settings: dict[str, Any] = {
        "printed": printed,
        "truth": lambda x: x**2,
        "counterexample": Counterexample((3.0,), printed=6.0, right=9.0),
        "search": (st.floats(3, 10),),
        "value": lambda result: result,
        "rtol": 1e-12,
        "atol": 0.0,
        "share": 0.5,
    } | changes
    search = settings["search"]
    wrong = Misprint(**settings)
    return Proof("subject.name", ("X-1",), (square,), "powers", printed, search, 20, wrong)


def test_a_proof_that_holds() -> None:
    def body(evidence: Evidence, x: float) -> None:
        evidence.close(square(x), x**2, rtol=1e-12)

    result = run(proof_of(body, st.floats(0, 1)))
    assert result.failure == ""
    assert result.examples >= 20
    assert result.tolerance > 0
    assert not result.refutes


def test_a_single_case() -> None:
    result = run(proof_of(lambda evidence: evidence.equal(square(3), 9)))
    assert (result.failure, result.examples) == ("", 1)


def test_a_proof_that_fails_shows_its_example() -> None:
    def body(evidence: Evidence, x: int) -> None:
        evidence.at_most(square(x), 10, "square")

    result = run(proof_of(body, st.integers(0, 100)))
    assert "square" in result.failure
    assert "(4,)" in result.failure


def test_a_warning_is_a_failure() -> None:
    def warn(evidence: Evidence) -> None:
        warnings.warn("careless", stacklevel=1)
        evidence.holds(True, "it ends")

    assert "careless" in run(proof_of(warn)).failure
    divide = run(proof_of(lambda evidence: evidence.equal(np.log(np.zeros(1)), -np.inf)))
    assert "divide by zero" in divide.failure


def test_examples_and_seed() -> None:
    seen: list[float] = []

    def body(evidence: Evidence, x: float) -> None:
        seen.append(x)
        evidence.holds(True, "")

    proof = proof_of(body, st.floats(0, 1))
    run(proof, seed=1)
    first = seen.copy()
    seen.clear()
    run(proof, seed=1)
    assert seen == first
    seen.clear()
    run(proof, seed=2, examples=50)
    assert seen[: len(first)] != first
    assert len(seen) >= 50


def test_a_misprint_is_refuted() -> None:
    result = run(misprint_of(lambda x: 2 * x))
    assert result.failure == ""
    assert result.refutes
    assert (result.printed, result.right) == ((6.0,), (9.0,))
    assert result.refuting == result.examples


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (misprint_of(lambda x: x * x), "printed form as recorded"),
        (misprint_of(lambda x: 2 * x, truth=lambda x: x**3), "truth as recorded"),
        (
            misprint_of(lambda x: 2 * x, counterexample=Counterexample((3.0,), 7.0, 9.0)),
            "printed form as recorded",
        ),
        (
            misprint_of(lambda x: x * x, counterexample=Counterexample((3.0,), 9.0, 9.0)),
            "does not refute",
        ),
        (misprint_of(lambda x: x * x + 6 * (x == 3) - 9 * (x == 3)), "random cases refute"),
    ],
)
def test_a_misprint_that_is_not_refuted(proof: Proof, reason: str) -> None:
    assert reason in run(proof).failure


def test_a_wrong_correction_is_noticed() -> None:
    wrong = misprint_of(lambda x: 2 * x)
    worse = Proof("subject.name", ("X-1",), (abs,), "powers", wrong.body, wrong.given, 20,
                  wrong.misprint)  # fmt: skip
    assert "corrected form" in run(worse).failure


@pytest.mark.parametrize("broken", [lambda x: 1 / (x - x), lambda x: np.log(-np.float64(x))])
def test_arithmetic_that_breaks_down_counts_as_refuted(broken: Callable[[float], float]) -> None:
    result = run(misprint_of(lambda x: 6.0 if x == 3 else broken(x)))
    assert result.failure == ""
    assert result.refuting == result.examples


def test_running_registers_nothing() -> None:
    before = len(PROOFS)
    run(misprint_of(lambda x: 2 * x))
    assert len(PROOFS) == before
