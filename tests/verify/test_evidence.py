"""The assertions of a proof: each can fail, and each remembers how close it came."""

import mpmath as mp
import numpy as np
import pytest

from ddpm.verify.evidence import Evidence


def test_the_worst_comparison_is_remembered() -> None:
    evidence = Evidence()
    evidence.close([1.0, 2.0], [1.0, 2.0 + 2e-9], rtol=1e-8)
    evidence.close(5.0, 5.0 + 1e-9, atol=1e-6)
    assert evidence.error == pytest.approx(2e-9)
    assert evidence.tolerance == pytest.approx(2e-8)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (1.0, 1.1),
        ([1.0, 2.0], [1.0, 2.1]),
        (np.nan, 1.0),
        (1.0, np.nan),
        (np.nan, np.nan),
        (np.inf, 1.0),
        (1.0, np.inf),
        (np.inf, -np.inf),
        ([1.0, 1.0], [1.0]),
        (1.0, [1.0, 1.0]),
    ],
)
def test_what_is_not_close(got: object, want: object) -> None:
    with pytest.raises(AssertionError):
        Evidence().close(got, want, rtol=1e-3, atol=1e-3)  # type: ignore[arg-type]


def test_infinities_and_empty_arrays_are_close() -> None:
    evidence = Evidence()
    evidence.close([np.inf, -np.inf, 0.0], [np.inf, -np.inf, 0.0])
    evidence.close(np.zeros((2, 0)), np.zeros((2, 0)))
    evidence.close([3.0, 3.0], 3.0)
    assert (evidence.error, evidence.tolerance) == (0.0, 0.0)


def test_the_message_names_place_and_numbers() -> None:
    with pytest.raises(AssertionError, match=r"weights\[1\]: got .*2\.5.*want .*2\.0"):
        Evidence().close([1.0, 2.5], [1.0, 2.0], atol=0.1, what="weights")


def test_bounds() -> None:
    Evidence().at_most([1.0, 2.0], [1.0, 2.5])
    with pytest.raises(AssertionError, match="gap"):
        Evidence().at_most([1.0, 3.0], [1.0, 2.5], "gap")
    with pytest.raises(AssertionError):
        Evidence().at_most(np.nan, 1.0)
    Evidence().holds([True, True], "both")
    with pytest.raises(AssertionError, match="the levels fall"):
        Evidence().holds([True, False], "the levels fall")
    Evidence().equal([0.1], [0.1])
    with pytest.raises(AssertionError):
        Evidence().equal(0.1, np.nextafter(0.1, 1))


def test_means() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 2))
    evidence = Evidence()
    evidence.mean(draws, 0.0)
    assert evidence.tolerance == 5.0
    assert 0 < evidence.error < 4
    with pytest.raises(AssertionError, match="standard errors of the mean"):
        Evidence().mean(draws, [0.0, 0.2], "the mean")


def test_units_in_the_last_place() -> None:
    third = np.array([1 / 3])
    Evidence().ulps(third, [mp.mpf(1) / 3], 1.0, "third")
    with pytest.raises(AssertionError, match="third"):
        Evidence().ulps(np.nextafter(np.nextafter(third, 1), 1), [mp.mpf(1) / 3], 1.0, "third")
