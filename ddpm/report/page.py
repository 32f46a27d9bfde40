"""The page: one HTML file that asks nothing of anybody, with everything inside it."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ddpm.report import chart
from ddpm.report.contents import Contents

TEMPLATES = "ddpm.report"


def page(contents: Contents) -> str:
    """Render a run; the same contents give the same text."""
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.globals |= {
        "width": chart.WIDTH, "height": chart.HEIGHT, "left": chart.LEFT, "right": chart.RIGHT,
        "top": chart.TOP, "bottom": chart.BOTTOM,
    }  # fmt: skip
    template = environment.from_string(_asset("report.html"))
    return template.render(run=contents, style=Markup(_asset("report.css")))


@cache
def _asset(name: str) -> str:
    return (files(TEMPLATES) / "templates" / name).read_text(encoding="utf-8")
