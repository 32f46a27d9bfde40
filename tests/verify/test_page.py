"""The page: complete, self-contained, and well formed where a browser is strict."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from ddpm.verify.ledger import Statement, statements
from ddpm.verify.page import page, rendered
from ddpm.verify.registry import PROOFS, load
from ddpm.verify.runner import run
from ddpm.verify.verdict import select, summarise, verdicts

load()
LEDGER = list(statements())
VOID = {"meta", "input", "br", "link", "img"}


def drawn(*ids: str) -> str:
    chosen, _ = select(LEDGER, ids)
    names = {name for statement in chosen for name in statement.proofs}
    results = [run(PROOFS[name], examples=2) for name in sorted(names)]
    judged = verdicts(chosen, results, [])
    return page(judged, summarise(judged), 1.0)


class Outline(HTMLParser):
    """Tags in their nesting, attributes that would fetch something, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag."""
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "srcset", "action") and not (value or "").startswith("#"):
                self.fetched.append(f"{tag} {value}")

    def handle_endtag(self, tag: str) -> None:
        """Forget a tag."""
        assert self.open.pop() == tag


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    parser.close()
    return parser


@pytest.mark.parametrize("statement", LEDGER, ids=lambda statement: statement.ids[0])
def test_every_formula_is_rendered(statement: Statement) -> None:
    for latex in filter(None, (statement.statement, statement.printed)):
        text = rendered(latex, statement.ids)
        tree = ElementTree.fromstring(text)
        words = [e.text or "" for e in tree.iter()]
        # A command that the library does not know would stand there as it was written.
        assert not [word for word in words if "\\" in word]


def test_script_letters_and_words() -> None:
    text = rendered(r"\mathcal N(\mathbb E x)=\operatorname{KL}", ("K-1",))
    assert "&#x1D4A9;" in text
    assert "&#x1D53C;" in text
    assert '<mi mathvariant="normal">K</mi>' in text


def test_a_formula_that_cannot_be_rendered() -> None:
    with pytest.raises(ValueError, match=r"the LaTeX of K-1, K-2 cannot be rendered"):
        rendered(r"\left(x", ("K-1", "K-2"))


def test_the_page_needs_nothing_else() -> None:
    text = drawn("K-60", "T-eq2")
    found = outline(text)
    assert found.open == []
    assert found.fetched == []
    assert "http" not in text.replace("http://www.w3.org/1998/Math/MathML", "")
    assert "@import" not in text
    assert "url(" not in text


def test_what_a_card_shows() -> None:
    text = drawn("K-60", "T-eq2")
    assert {"K-60", "T-eq2"} <= set(outline(text).ids)
    for word in ("printed", "right", "0.0403226", "0.0714286", "random cases refute", "def",
                 "posterior_coefficients", "conditioning", "equation (60)"):  # fmt: skip
        assert word in text


def test_ids_of_the_page_are_unique() -> None:
    found = outline(drawn("posterior")).ids
    assert len(found) == len(set(found))


def test_a_failure_is_shown() -> None:
    chosen, _ = select(LEDGER, ["K-60"])
    judged = verdicts(chosen, [], [])
    missing = page(judged, summarise(judged), 0.0)
    assert "Proofs: 0" in missing
