"""Figures of the papers that can be computed, drawn with the reference's formulas."""

from collections.abc import Callable

from matplotlib.figure import Figure

from ddpm.verify.figures.levels import augmentation_tension, signal_levels
from ddpm.verify.figures.variances import reverse_variance, with_and_without_x0

FIGURES: tuple[Callable[[], Figure], ...] = (
    signal_levels,
    augmentation_tension,
    with_and_without_x0,
    reverse_variance,
)
"""What `ddpm figures` draws, one function a figure, named after its file."""
