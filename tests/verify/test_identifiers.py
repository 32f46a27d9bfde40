"""Ids as people write them: alone, in ranges, at the end of a sentence."""

import pytest

from ddpm.verify.identifiers import cited, expand


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["K-58..60"], ("K-58", "K-59", "K-60")),
        (["T-eq2", "G-7..8"], ("T-eq2", "G-7", "G-8")),
        (["K-3.5-bayes"], ("K-3.5-bayes",)),
        (["L-2.5..7"], ("L-2.5", "L-2.6", "L-2.7")),
        (["K-4..4"], ("K-4",)),
        ([], ()),
    ],
)
def test_ranges_are_written_out(written: list[str], ids: tuple[str, ...]) -> None:
    assert expand(written) == ids


def test_what_a_docstring_cites() -> None:
    text = "Posterior (T-eq2, K-58..59), see V-8.4 and G-Alg3/n. Not T - 1, nor X-ray-like a-K-3.\n"
    assert cited(text) == ("T-eq2", "K-58", "K-59", "V-8.4", "G-Alg3/n", "X-ray-like")


def test_a_text_without_ids() -> None:
    assert cited("Shape (T - 1, batch), L2 norm, eps-form.") == ()
