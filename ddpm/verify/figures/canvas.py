"""One look for all figures."""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def canvas(*titles: str, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each title, side by side."""
    figure = Figure(figsize=(5.2 * len(titles), height), dpi=120, layout="constrained")
    panels = [figure.add_subplot(1, len(titles), i + 1) for i in range(len(titles))]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
    return figure, panels


def png(figure: Figure) -> bytes:
    """A figure as a PNG, without a stamp of the software, so that equal numbers give one file."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
