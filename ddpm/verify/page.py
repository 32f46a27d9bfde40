"""The proven formulas as one self-contained page: rendered, searchable, with their evidence."""

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from latex2mathml.converter import convert
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from ddpm.verify.audit import find
from ddpm.verify.identifiers import PAPERS
from ddpm.verify.registry import PROOFS, plain
from ddpm.verify.runner import Result
from ddpm.verify.verdict import Summary, Verdict

STATUSES = {
    "right": "right as printed",
    "misprint": "wrong as printed",
    "loose": "holds under conditions the paper does not state",
    "derived": "not printed, derived here",
}


def page(judged: Sequence[Verdict], summary: Summary, seconds: float) -> str:
    """Render the page.

    Args:
        judged: what the proofs say about each statement.
        summary: the counts.
        seconds: how long the proofs ran.

    Raises:
        ValueError: a statement's LaTeX cannot be rendered; the message names its ids.
    """
    subjects: dict[str, list[Verdict]] = {}
    for verdict in judged:
        subjects.setdefault(verdict.statement.subject, []).append(verdict)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "spaced": lambda name: name.replace("_", " ")}
    environment.globals |= {"math": rendered, "claim": _claim}
    return environment.from_string(_asset("page.html")).render(
        subjects=subjects,
        summary=summary,
        seconds=seconds,
        papers=PAPERS,
        statuses=STATUSES,
        codes=_codes(judged),
        style=Markup(_asset("page.css") + HtmlFormatter().get_style_defs(".code")),
        script=Markup(_asset("page.js")),
    )


@cache
def _asset(name: str) -> str:
    return (files("ddpm.verify") / "templates" / name).read_text(encoding="utf-8")


def rendered(latex: str, ids: Sequence[str]) -> Markup:
    """A formula as MathML.

    Args:
        latex: the formula.
        ids: whose it is, for the message.

    Raises:
        ValueError: it cannot be rendered.
    """
    try:
        return Markup(convert(_spelled(latex), display="block"))
    except Exception as error:
        raise ValueError(f"the LaTeX of {', '.join(ids)} cannot be rendered: {error}") from error


def _spelled(latex: str) -> str:
    r"""Spell a formula as the library renders best.

    Only \mathcal{N}, with braces, becomes the letter that browsers draw as script, and words stand
    upright in \mathrm.
    """
    latex = latex.replace(r"\arg\max", r"\argmax").replace(r"\arg\min", r"\argmin")
    # A size before an escaped bracket would print the escape.
    latex = re.sub(r"\\[bB]ig{1,2}[lrm]?\s*(?=\\[{}|])", "", latex)
    braced = re.sub(r"\\(mathcal|mathbb|mathbf)\s*([A-Za-z])", r"\\\1{\2}", latex)
    return braced.replace(r"\operatorname", r"\mathrm")


def _claim(result: Result) -> str:
    return inspect.getdoc(PROOFS[result.name].body) or ""


def _codes(judged: Sequence[Verdict]) -> dict[str, Markup]:
    """Source of every function and proof of the page, each once; the proofs in plain text."""
    functions = {name for verdict in judged for name in verdict.statement.functions}
    targets = {name: find(name) for name in sorted(functions)}
    codes = {name: _code(plain(found)) for name, found in targets.items() if found is not None}
    proofs = sorted({result.name for verdict in judged for result in verdict.results})
    return codes | {f"proof {name}": escape(_source(PROOFS[name].body)) for name in proofs}


def _code(function: Callable[..., Any]) -> Markup:
    return Markup(highlight(_source(function), PythonLexer(), HtmlFormatter(nowrap=True)))


def _source(function: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(function))


def _number(value: float) -> str:
    return f"{value:.6g}"
