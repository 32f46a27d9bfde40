"""Orders of convergence of every sampler on mixtures, without drawing a number but for paths."""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.sampler_orders import affine, corrections
from benchmarks.sampler_orders.axes import Array, Axis, denoiser, follow, rows_above_level_1
from benchmarks.sampler_orders.densities import Line
from benchmarks.sampler_orders.distances import Z, of_density, of_points
from benchmarks.sampler_orders.page import markdown
from benchmarks.sampler_orders.paths import STRONG, Flow, exact_flow, scattered_flow, strong_errors
from benchmarks.sampler_orders.subjects import (
    LINE,
    PLANE,
    SCHEDULE,
    SUBJECTS,
    axis_error,
    choices,
    order_of,
    slope,
    table_for,
)
from ddpm.analytic import GaussianMixture
from ddpm.samplers.equations import Equation
from ddpm.samplers.tables import StepTable

DOCS = Path(__file__).parents[2] / "docs"
STEPS = [32, 64, 128]
BAND, LAST = 0.2, 0.1
CHOICES = choices()
# These tend to the law in which their corrections rest, see `corrections`.
RESTING = "predictor-corrector"
CONVERGING = [name for name in CHOICES if not name.startswith(RESTING)]
NOISY = [name for name in CHOICES if table_for(CHOICES[name], 8).noisy]
PLAIN = [name for name in CHOICES if name not in NOISY]
NORMAL = Axis((1.0,), (0.4,), (0.3,))


@pytest.mark.parametrize("dimensions", SUBJECTS)
@pytest.mark.parametrize("name", CONVERGING)
def test_laws_converge_at_the_stated_order(name: str, dimensions: int) -> None:
    sampler, subject = CHOICES[name], SUBJECTS[dimensions]
    errors = [subject.error(table_for(sampler, steps)) for steps in STEPS]
    order = order_of(sampler)
    assert abs(slope(STEPS, errors) - order) < BAND
    # An error of one percent in a noise bends the last doubling long before it stops the others.
    assert abs(slope(STEPS[1:], errors[1:]) - order) < LAST
    # The largest are those of euler-maruyama ve and of stochastic-heun.
    assert errors[-1] < {1: 0.02, 2: 7e-4}[order] * dimensions**0.5


@pytest.mark.parametrize("name", CONVERGING)
def test_one_wrong_coefficient_spoils_the_order(name: str) -> None:
    """A first-order term in the weight of x0_hat, which a converging sampler must have right."""
    sampler, errors = CHOICES[name], []
    for steps in STEPS:
        table, wrong = table_for(sampler, steps), 0.05
        if order_of(sampler) == 2:
            wrong = 3 / steps
        rows = table.exact.clone()
        rows[:, 2] *= 1 + wrong
        errors.append(axis_error(replace(table, exact=rows), LINE))
    assert slope(STEPS, errors) < order_of(sampler) - 2 * BAND


def test_every_name_of_the_catalogue_is_measured() -> None:
    kinds = {(CHOICES[name].name, CHOICES[name].sde) for name in CHOICES}
    for sde in get_args(Equation):
        assert {("euler", sde), ("euler-maruyama", sde), (RESTING, sde)} <= kinds
    assert {name for name in CHOICES if order_of(CHOICES[name]) == 2} == {
        "dpm-solver-2m", "dpm-solver-sde", "heun", "stochastic-heun",
    }  # fmt: skip


@pytest.mark.parametrize("name", NOISY)
def test_quadrature_of_densities_against_the_closed_form(name: str) -> None:
    table = table_for(CHOICES[name], 16)
    found = Line(table, NORMAL, SCHEDULE).final()
    mean, deviation = affine.final(table, SCHEDULE, np.array([0.4]), np.array([0.3]))
    want = stats.norm(mean, deviation).pdf(found.x)
    np.testing.assert_allclose(found.p, want, atol=1e-6)
    distance = affine.distances(table, SCHEDULE, np.array([0.4]), np.array([0.3]))
    got = of_density(found, NORMAL.law(SCHEDULE, 1))
    # What lies beyond four deviations is left out.
    assert got == pytest.approx(float(distance[0]), rel=2e-3)


@pytest.mark.parametrize("name", ["ancestral", "dpm-solver-sde", "stochastic-heun"])
def test_quadrature_of_a_mixture_has_converged(name: str) -> None:
    table, end = table_for(CHOICES[name], 32), LINE.law(SCHEDULE, 1)
    usual, finer = (
        of_density(Line(table, LINE, SCHEDULE, spacing).final(), end) for spacing in (0.55, 0.35)
    )
    assert usual == pytest.approx(finer, rel=1e-5)


@pytest.mark.parametrize("name", ["ancestral", "dpm-solver-sde", "stochastic-heun"])
def test_quadrature_of_a_mixture_against_draws(name: str) -> None:
    table, draw, count = table_for(CHOICES[name], 8), np.random.default_rng(4), 40_000
    start = LINE.law(SCHEDULE, SCHEDULE.steps).quantiles(draw.standard_normal(count))
    noises = draw.standard_normal((len(table.path), count))
    drawn = follow(table, start, LINE.denoise(SCHEDULE), noises)
    found = Line(table, LINE, SCHEDULE).final()
    below = np.cumsum(found.p) * found.width
    test = stats.kstest(drawn, lambda x: np.interp(x, found.x + found.width / 2, below))
    # Its law is far from the exact one with so few steps, which this many draws would tell.
    assert test.pvalue > 1e-4
    exact = LINE.law(SCHEDULE, 1)
    shares = stats.norm.cdf((drawn[:, None] - exact.means) / exact.deviations) @ exact.weights
    assert stats.kstest(shares, "uniform").pvalue < 1e-4


@pytest.mark.parametrize("axis", PLANE)
@pytest.mark.parametrize("t", [1, 129, 257])
def test_quantiles_against_integrals_of_the_density(axis: Axis, t: int) -> None:
    signal, sigma = SCHEDULE.alpha_bar[t].sqrt(), SCHEDULE.one_minus_alpha_bar[t].sqrt()
    z = np.array([-4.0, -1.2, 0.0, 0.7, 3.0])

    nodes, masses = np.polynomial.legendre.leggauss(400)
    for rank, x in zip(z, axis.law(SCHEDULE, t).quantiles(z), strict=True):
        points = torch.tensor(-9 + (x + 9) / 2 * (1 + nodes))[:, None]
        density = axis.mixture.log_density(points, signal, sigma).exp().numpy()
        below = float((x + 9) / 2 * (masses @ density))
        assert below == pytest.approx(stats.norm.cdf(rank), rel=1e-9)


@pytest.mark.parametrize("dimensions", [2, 64])
@pytest.mark.parametrize("name", CHOICES)
def test_samplers_turn_with_the_data(name: str, dimensions: int) -> None:
    """The loop in all dimensions, with full covariances, is that of the axes one by one."""
    subject, table = SUBJECTS[dimensions], table_for(CHOICES[name], 8)
    draw, turn = np.random.default_rng(dimensions), subject.turn
    assert abs(turn @ turn.T - np.eye(dimensions)).max() < 1e-12
    assert abs(turn - np.diag(np.diag(turn))).max() > 0.01
    start = draw.standard_normal((5, dimensions))
    noises = draw.standard_normal((len(table.path), 5, dimensions))
    got = follow(table, start @ turn.T, denoiser(subject.mixture, SCHEDULE), noises @ turn.T)
    normal = [
        Axis((1.0,), (float(m),), (float(v),))
        for m, v in zip(subject.means, subject.variances, strict=True)
    ]
    for k, axis in enumerate([*subject.mixed, *normal]):
        want = follow(table, start[:, k], axis.denoise(SCHEDULE), noises[:, :, k])
        np.testing.assert_allclose((got @ turn)[:, k], want, atol=1e-9)


@cache
def flow() -> Flow:
    return scattered_flow()


def test_the_solver_of_equations_keeps_ranks() -> None:
    """On the line the flow maps quantiles to quantiles."""
    z = np.linspace(-4, 4, 33)
    start, want = (LINE.law(SCHEDULE, t).quantiles(z) for t in (SCHEDULE.steps, 1))
    got = exact_flow(LINE.mixture, SCHEDULE, start[:, None])[:, 0]
    np.testing.assert_allclose(got, want, atol=1e-9)


@pytest.mark.parametrize("name", PLAIN)
def test_paths_of_the_flow_converge_at_the_stated_order(name: str) -> None:
    """On data that is no product, against DOP853."""
    errors = [flow().error(table_for(CHOICES[name], steps)) for steps in STEPS]
    assert abs(slope(STEPS, errors) - order_of(CHOICES[name])) < BAND
    assert errors[-1] < {1: 0.01, 2: 2e-4}[order_of(CHOICES[name])]


@pytest.mark.parametrize("name", STRONG)
def test_strong_order(name: str) -> None:
    """Noise that does not depend on x has strong order 1 with Euler and Maruyama's method."""
    steps = [16, 32, 64]
    found = strong_errors(name, CHOICES[name], steps, paths=6000)
    # An error of the mean distance by its share moves the slope of a doubling by this.
    uncertain = sum((point.error / point.mean) ** 2 for point in (found[0], found[-1])) ** 0.5
    measured = math.log2(found[0].mean / found[-1].mean) / 2
    assert abs(measured - 1) < 0.15 + 4.5 * uncertain / (2 * math.log(2))
    assert uncertain < 0.1


@pytest.mark.parametrize("sde", get_args(Equation))
def test_corrections_pull_towards_their_law_at_rest(sde: str) -> None:
    steps = (2048, 4096)
    found = [corrections.measure(sde, count) for count in steps]
    assert abs(slope(steps, [rest.to_rest for rest in found]) - 1) < BAND
    # The law at rest is as far away as the correction is long: delta / 2 in the variance,
    # delta = 2 ratio^2 sigma^2, with half of the signal and half of the noise at this level.
    variance = 0.5 * 0.5 + 0.5
    want = math.sqrt(variance + 0.16**2 * 0.5) - math.sqrt(variance)
    assert found[-1].apart == pytest.approx(want, rel=0.02)
    assert found[-1].to_exact == pytest.approx(want, rel=0.02)


def test_rows_that_share_their_noise_or_end_elsewhere_are_refused() -> None:
    table = table_for(CHOICES["ancestral"], 8)
    with pytest.raises(ValueError, match="draws: allowed are rows that do not share"):
        rows_above_level_1(replace(table, draws=torch.zeros_like(table.draws)))
    with pytest.raises(ValueError, match=r"path = ...\(33, 0\): allowed is one that ends at"):
        rows_above_level_1(replace(table, path=(*table.path[:-2], 0)))


def test_noise_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed is one that adds up"):
        strong_errors("ancestral", CHOICES["euler-maruyama vp"], [8], paths=2)


def test_a_density_that_left_its_grid_is_refused() -> None:
    table: StepTable = table_for(CHOICES["ancestral"], 8)
    rows = table.exact.clone()
    rows[:, 2] += 9.0
    found = Line(replace(table, exact=rows), LINE, SCHEDULE).final()
    with pytest.raises(ValueError, match=r"mass = .*: allowed is 1 within"):
        of_density(found, LINE.law(SCHEDULE, 1))


def test_distance_of_shifted_and_scaled_laws() -> None:
    shifted: Array = 1.5 * Z + 0.3
    assert of_points(shifted, Z) == pytest.approx(math.hypot(0.3, 0.5), rel=1e-6)


def test_the_page_is_that_of_its_numbers_and_its_slopes_are_the_stated_orders() -> None:
    results = json.loads((DOCS / "sampler-orders.json").read_text())
    page = (DOCS / "sampler-orders.md").read_text()
    assert page == markdown(results, "sampler-orders.png")
    names = set()
    for rows in (*results["laws"].values(), results["flow"], results["strong"]):
        for row in rows:
            if not row["name"].startswith(RESTING):
                assert abs(row["slope"] - row["order"]) < BAND, row["name"]
            names.add(row["name"])
    assert names == set(CHOICES)


def test_the_product_of_axes_is_the_mixture_of_all_choices() -> None:
    """Its density, turned back, is the product of those of the axes."""
    subject = SUBJECTS[2]
    points = torch.tensor([[0.1, -0.4], [1.0, 0.8]], dtype=torch.float64)
    turned = points @ torch.tensor(subject.turn).T
    one, none = torch.tensor(1.0), torch.tensor(0.0)
    mixture: GaussianMixture = subject.mixture
    parts = [axis.mixture.log_density(points[:, [k]], one, none) for k, axis in enumerate(PLANE)]
    got = mixture.log_density(turned, one, none)
    np.testing.assert_allclose(got, (parts[0] + parts[1]).numpy(), atol=1e-12)
