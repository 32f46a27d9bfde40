"""The areas of the grey levels against 135-digit error functions and quadrature."""

from itertools import pairwise

import mpmath as mp
import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.decoder import (
    decoder_log_likelihood,
    decoder_log_pmf,
    decoder_lower_bound,
    decoder_quadratic,
    grey_levels,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import PRECISION
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array

LEVELS = st.sampled_from([2, 3, 4, 17, 255, 256, 257, 1024])
MEANS = st.floats(-2, 2)
DEVIATIONS = st.floats(-4, 1.5).map(lambda power: float(10.0**power))
GREY = grey_levels(256)
PAIR = GREY[[127, 140]]
"""Two inner levels 13 bins apart."""


def exact(index: int, mean: float, deviation: float, levels: int) -> float:
    """Log area of a bin by error functions, always on the side of the lighter tail."""
    with mp.workprec(PRECISION):
        half = mp.mpf(1) / (levels - 1)
        centre = (2 * index * half - 1 - mp.mpf(mean)) / mp.mpf(deviation)
        width = half / mp.mpf(deviation)
        sign = -1 if centre > 0 else 1
        bounds = sorted([sign * (centre - width), sign * (centre + width)])
        lowest = index == (0 if sign == 1 else levels - 1)
        highest = index == (levels - 1 if sign == 1 else 0)
        areas = [mp.erfc(-bound / mp.sqrt(2)) / 2 for bound in bounds]
        upper = mp.mpf(1) if highest else areas[1]
        return float(mp.log(upper - (0 if lowest else areas[0])))


def exact_levels(x0: Array, mean: float, deviation: float, levels: int = 256) -> Array:
    """`exact` for each of several grey values and one mean."""
    indices = np.rint((x0 + 1) * (levels - 1) / 2).astype(int)
    return np.array([exact(index, mean, deviation, levels) for index in indices])


def rounding(deviation: float, levels: int) -> float:
    """Tolerance: a bin far narrower than the deviation is a difference of nearly equal logs."""
    return 1e-12 + 1e-15 * deviation * levels


@proof(
    "L-2.10",
    of=(decoder_log_likelihood, grey_levels),
    oracle="135-digit error functions",
    given=(st.data(), MEANS, DEVIATIONS, LEVELS),
)
def areas(
    evidence: Evidence, data: st.DataObject, mean: float, deviation: float, levels: int
) -> None:
    """Each bin reaches half a spacing to both sides of its value, the outer ones to infinity."""
    index = data.draw(st.integers(0, levels - 1))
    got = decoder_log_likelihood(grey_levels(levels)[index], mean, deviation, levels)
    tolerance = rounding(deviation, levels)
    evidence.close(got, exact(index, mean, deviation, levels), rtol=tolerance, atol=tolerance)


@proof(
    "L-2.10",
    of=(decoder_log_pmf, grey_levels),
    oracle="total probability",
    given=(MEANS, DEVIATIONS, LEVELS),
)
def total(evidence: Evidence, mean: float, deviation: float, levels: int) -> None:
    """The levels run from -1 to 1 in equal steps, and their probabilities sum to one."""
    grey = grey_levels(levels)
    evidence.equal([grey[0], grey[-1], grey.size], [-1, 1, levels])
    evidence.close(np.diff(grey), 2 / (levels - 1), atol=1e-15, what="spacing")
    log_pmf = decoder_log_pmf([mean, -mean], [deviation, deviation], levels)
    evidence.holds(np.isfinite(log_pmf), "no level has probability zero")
    # A sum of `levels` rounded areas.
    evidence.close(np.exp(log_pmf).sum(axis=-1), np.ones(2), rtol=1e-11)


@proof(
    "L-2.10",
    of=decoder_log_pmf,
    oracle="quadrature of scipy's density over each bin",
    given=(st.sampled_from([0.05, 0.4, 3.0]), st.floats(-1.5, 1.5)),
    examples=12,
)
def bins(evidence: Evidence, deviation: float, mean: float) -> None:
    """The bins meet half way between neighbouring levels."""
    grey = grey_levels(9)
    law, reach = stats.norm(mean, deviation), mean + deviation * np.array([-30, 30])
    edges = np.clip([-np.inf, *((grey[1:] + grey[:-1]) / 2), np.inf], *reach)
    nodes = [np.linspace(low, high, 9) for low, high in pairwise(edges)]
    want = [
        sum(integrate.fixed_quad(law.pdf, a, b, n=60)[0] for a, b in pairwise(node))
        for node in nodes
    ]
    evidence.close(np.exp(decoder_log_pmf(mean, deviation, 9)), np.array(want), atol=1e-12)


@proof("L-2.10", of=decoder_log_likelihood, oracle="135-digit error functions")
def far_tail(evidence: Evidence) -> None:
    """A hundred deviations away the difference of areas is zero and its logarithm is right."""
    got = decoder_log_likelihood(GREY[127], GREY[127] + 1, 0.01)
    evidence.equal(stats.norm.cdf(-99) - stats.norm.cdf(-101), 0.0)
    evidence.close(got, exact(127, GREY[127] + 1, 0.01, 256), rtol=1e-12)
    evidence.close(got, -4966.381487, atol=1e-6, what="recorded value")
    evidence.close(decoder_log_likelihood(-1.0, 3.0, 1e-6), exact(0, 3.0, 1e-6, 256), rtol=1e-12)


@proof(
    "L-2.10",
    of=decoder_log_pmf,
    oracle="order of the levels by their distance from the mean",
    given=(st.floats(0.01, 1),),
)
def falls_with_the_distance(evidence: Evidence, deviation: float) -> None:
    """Around a mean of zero the inner levels are symmetric and fall on both sides."""
    log_pmf = decoder_log_pmf(0.0, deviation, 257)[1:-1]
    evidence.holds(np.diff(log_pmf)[:127] > 0, "the probability rises up to the mean")
    evidence.close(log_pmf, log_pmf[::-1], rtol=1e-12)


@misprint(
    "L-2.10",
    of=decoder_log_likelihood,
    truth=exact_levels,
    oracle="135-digit error functions",
    counterexample=Counterexample((GREY, 0.1, 0.5), printed=0.0495, right=1.0),
    search=(
        st.just(grey_levels(17)),
        MEANS,
        st.floats(-3, 1).map(lambda power: float(10.0**power)),
        st.just(17),
    ),
    value=lambda result: np.exp(result).sum(),
)
def lower_edge_above_the_value(
    x0: Array, mean: float, deviation: float, levels: int = 256
) -> Array:
    """Both edges half a spacing above the value: inner bins are empty."""
    half = 1 / (levels - 1)
    lower = np.where(x0 == -1, -np.inf, x0 + half)
    upper = np.where(x0 == 1, np.inf, x0 + half)
    law = stats.norm(mean, deviation)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(law.cdf(upper) - law.cdf(lower)))


@st.composite
def inner_bins(draw: st.DrawFn) -> tuple[int, int, float, float]:
    """Levels, an inner bin, half its width and its distance from the mean, both in deviations."""
    levels = draw(st.sampled_from([3, 4, 17, 256]))
    index = draw(st.integers(1, levels - 2))
    return levels, index, draw(st.floats(0.01, 0.3)), draw(st.floats(-3, 3))


@proof(
    "L-2.11",
    of=decoder_quadratic,
    oracle="135-digit error functions, second order of the error",
    given=(inner_bins(),),
)
def midpoint(evidence: Evidence, case: tuple[int, int, float, float]) -> None:
    """The exact value exceeds the quadratic form by k^2 (u^2 - 1) / 6, to fourth order in k."""
    levels, index, k, u = case
    deviation = 1 / (levels - 1) / k
    x0 = grey_levels(levels)[index]
    mean = float(x0 - u * deviation)
    excess = exact(index, mean, deviation, levels) - decoder_quadratic(x0, mean, deviation, levels)
    # The next term is k^4 times a polynomial with coefficients 1/90, 1/45 and 1/180.
    fourth_order = k**4 * (1 + u**2) ** 2 / 40
    evidence.close(excess, k**2 * (u**2 - 1) / 6, atol=fourth_order + 1e-12)
    if abs(u) + k <= 1:
        evidence.holds(excess <= 0, "it lies above the exact value near the mean")
    if abs(u) - k >= 1:
        evidence.holds(excess >= 0, "it lies below the exact value in the tails")


@proof("L-2.11", of=decoder_quadratic, oracle="135-digit error functions")
def recorded_errors(evidence: Evidence) -> None:
    """How far the quadratic form is off within six deviations, and in an outer bin."""
    recorded = {0.01: 0.757, 0.05: 0.0356, 0.2: 0.00224}
    for deviation, error in recorded.items():
        means = GREY[127] - deviation * np.linspace(-6, 6, 41)
        truth = np.array([exact(127, mean, deviation, 256) for mean in means])
        worst = np.abs(decoder_quadratic(GREY[127], means, deviation) - truth).max()
        evidence.close(worst, error, rtol=5e-3, what=f"largest error at deviation {deviation}")
    evidence.close(exact(255, 1.3, 0.05, 256), -6e-10, atol=1e-10, what="outer bin")
    quadratic = np.log(2 / 255) + stats.norm.logpdf(1.0, 1.3, 0.05)
    evidence.close(quadratic, -20.8, atol=0.1, what="quadratic form in an outer bin")


@proof(
    "L-2.11-jensen",
    of=decoder_lower_bound,
    oracle="quadrature of scipy's log density; 135-digit error functions",
    given=(st.integers(1, 254), MEANS, st.floats(-3, 0).map(lambda power: float(10.0**power))),
)
def jensen(evidence: Evidence, index: int, mean: float, deviation: float) -> None:
    """The average of the log density over the bin lies below the log of the average."""
    bound = decoder_lower_bound(GREY[index], mean, deviation)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    density = stats.norm.logpdf(GREY[index] + nodes / 255, mean, deviation)
    evidence.close(bound, np.log(2 / 255) + weights @ density / 2, rtol=1e-10, atol=1e-10)
    log_p = exact(index, mean, deviation, 256)
    evidence.at_most(bound, log_p + 1e-12 * abs(log_p), "bound")


@misprint(
    "L-2.11",
    of=decoder_quadratic,
    truth=exact_levels,
    oracle="135-digit error functions",
    counterexample=Counterexample((PAIR, PAIR[0], 0.05), printed=-1.57, right=-199.6, within=0.05),
    search=(st.just(PAIR), st.just(PAIR[0]), st.floats(0.05, 0.5)),
    value=lambda result: (result[1] - result[0]) / (PAIR[1] - PAIR[0]) ** 2,
    # The quadratic form itself is an approximation: its slope is off by (h / s)^2 / 3.
    rtol=0.0025,
)
def width_times_the_square(x0: Array, mean: float, deviation: float, levels: int = 256) -> Array:
    """The width of the bin multiplies the square instead of the density."""
    at_centre = decoder_quadratic(x0, x0, deviation, levels)
    return at_centre - 2 / (levels - 1) * ((x0 - mean) / deviation) ** 2 / 2
