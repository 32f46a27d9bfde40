"""What the results of proofs make of a statement, and the counts over many."""

from dataclasses import replace

from ddpm.verify.audit import Problem
from ddpm.verify.ledger import Statement
from ddpm.verify.runner import Result
from ddpm.verify.verdict import in_order_of_papers, select, summarise, verdicts

RESULT = Result("s.one", ("K-1", "T-eq1"), "quadrature", False, 40, 1e-12, 1e-9, 0.1, "")
REFUTATION = replace(RESULT, name="s.two", ids=("K-2",), refutes=True)
RIGHT = Statement(
    name="right", status="right", statement="x", places={"K-1": "", "T-eq1": ""},
    functions=[], proofs=["s.one"], subject="s",
)  # fmt: skip
WRONG = replace(
    RIGHT, name="wrong", status="misprint", places={"K-2": ""}, proofs=["s.one", "s.two"]
)


def test_all_holds() -> None:
    judged = verdicts([RIGHT, WRONG], [RESULT, REFUTATION], [])
    summary = summarise(judged)
    assert (summary.ids, summary.proven, summary.misprints, summary.refuted) == (3, 3, 1, 1)
    assert summary.holds
    assert judged[1].refutations == (REFUTATION,)
    assert judged[1].proofs == (RESULT,)


def test_a_failure_counts_for_the_ids_it_proves() -> None:
    failed = replace(RESULT, ids=("K-1",), failure="AssertionError: no")
    summary = summarise(verdicts([RIGHT, WRONG], [failed, REFUTATION], []))
    assert (summary.failed, summary.proven, summary.holds) == (["K-1"], 2, False)


def test_a_refutation_that_fails() -> None:
    failed = replace(REFUTATION, failure="AssertionError: no")
    summary = summarise(verdicts([RIGHT, WRONG], [RESULT, failed], []))
    assert (summary.failed, summary.refuted, summary.holds) == (["K-2"], 0, False)


def test_a_gap_is_missing() -> None:
    gaps = [Problem("T-eq1", "it has no proof"), Problem("T-eq1", "nor a function")]
    judged = verdicts([RIGHT], [RESULT], gaps)
    assert judged[0].missing == {"T-eq1": "it has no proof; nor a function"}
    assert judged[0].proven() == ("K-1",)
    assert summarise(judged).missing == ["T-eq1"]
    assert not summarise(judged).holds


def test_the_tightest_result() -> None:
    close, exact = replace(RESULT, error=5e-10), replace(RESULT, error=0.0, tolerance=0.0)
    statement = replace(RIGHT, proofs=["a", "b", "c"])
    results = [replace(r, name=n) for n, r in zip("abc", (exact, close, RESULT), strict=True)]
    assert verdicts([statement], results, [])[0].tightest == results[1]
    assert verdicts([statement], results[:1], [])[0].tightest == results[0]
    assert verdicts([statement], [], [])[0].tightest is None


def test_selecting() -> None:
    ledger = [RIGHT, WRONG]
    assert select(ledger, []) == (ledger, [])
    assert select(ledger, ["K-1"]) == ([replace(RIGHT, places={"K-1": ""})], [])
    assert select(ledger, ["K"]) == ([replace(RIGHT, places={"K-1": ""}), WRONG], [])
    assert select(ledger, ["s"]) == (ledger, [])
    assert select(ledger, ["K-1..3"]) == ([replace(RIGHT, places={"K-1": ""}), WRONG], ["K-3"])
    assert select(ledger, ["nothing"]) == ([], ["nothing"])


def test_order_of_the_papers() -> None:
    first = replace(RIGHT, places={"T-eq1": ""})
    assert in_order_of_papers([WRONG, RIGHT, first]) == [first, WRONG, RIGHT]
