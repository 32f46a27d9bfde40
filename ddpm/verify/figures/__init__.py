"""Figures of the papers that can be computed, drawn with the reference's formulas."""

from collections.abc import Callable

from matplotlib.figure import Figure

from ddpm.verify.figures.bounds import two_bounds, weighted_augmentation
from ddpm.verify.figures.levels import augmentation_tension, signal_levels
from ddpm.verify.figures.limit import continuous_limit
from ddpm.verify.figures.variances import reverse_variance, with_and_without_x0

FIGURES: tuple[Callable[[], Figure], ...] = (
    signal_levels,
    augmentation_tension,
    with_and_without_x0,
    reverse_variance,
    two_bounds,
    weighted_augmentation,
    continuous_limit,
)
"""What `ddpm figures` draws, one function a figure, named after its file."""
