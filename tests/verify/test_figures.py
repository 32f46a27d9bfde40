"""The figures show what the papers say of them, and are drawn the same every time."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import integrate

from ddpm.reference.schedules import cosine_schedule, linear_schedule
from ddpm.verify.figures import FIGURES
from ddpm.verify.figures.bounds import evidence_and_bound
from ddpm.verify.figures.canvas import png
from ddpm.verify.figures.levels import faint_levels, tension
from ddpm.verify.figures.limit import STEPS, relative_errors
from ddpm.verify.figures.variances import reverse_density, reverse_variance, share_of_beta
from ddpm.verify.proofs.continuous import SCHEDULES


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_a_figure_is_drawn(figure: Callable[[], Figure]) -> None:
    picture = np.asarray(Image.open(io.BytesIO(png(figure()))).convert("L"))
    assert 0.005 < np.mean(picture < 128) < 0.5


def test_equal_numbers_give_one_file() -> None:
    assert png(reverse_variance()) == png(reverse_variance())


def test_linear_spends_more_levels_on_noise_than_cosine() -> None:
    counts = [faint_levels(chain) for chain in (linear_schedule(1000), cosine_schedule(1000))]
    assert counts == [327, 65]


def test_the_two_conditions_pull_apart() -> None:
    ends, steps = tension((0.999, 0.99, 0.9, 0.7, 0.5))
    # The last two are zero up to rounding.
    assert np.all(np.diff(ends[:3]) < 0)
    assert np.all(np.abs(ends[3:]) < 1e-12)
    assert np.all(np.diff(steps) > 0)


def test_the_density_without_the_clean_sample() -> None:
    mass = integrate.quad(lambda x: float(reverse_density(np.array(x), 1, 2, 0.1)), -6, 6)[0]
    assert mass == pytest.approx(1, abs=1e-8)


def test_the_variance_meets_its_bounds() -> None:
    for t in (2, 6):
        shares = share_of_beta(np.array([0.0, 0.5, 1.0, 2.0]), t)
        assert shares[[0, 2]] == pytest.approx([0, 1], abs=1e-12)
        assert 0 < shares[1] < 1 < shares[3]


def test_optima_of_the_bounds_lie_apart() -> None:
    slopes = np.linspace(0.1, 1.2, 1101)
    for gain in (0.5, 0.7):
        evidence, bound = evidence_and_bound(slopes, gain)
        assert np.all(bound <= evidence + 1e-12)
        assert slopes[np.argmax(bound)] == pytest.approx(gain, abs=1e-3)
        assert slopes[np.argmax(evidence)] == pytest.approx(np.sqrt(0.8), abs=1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_the_limit(name: str) -> None:
    errors = relative_errors(name)
    assert np.all(np.diff(errors) < 0)
    order = np.log2(errors[-2] / errors[-1]) / np.log2(STEPS[-1] / STEPS[-2])
    assert order == pytest.approx(1, abs=0.12)
