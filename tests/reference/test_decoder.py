from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.decoder import (
    decoder_log_likelihood,
    decoder_log_pmf,
    decoder_lower_bound,
    grey_levels,
)
from ddpm.verify.oracles import PRECISION

LEVELS = st.sampled_from([2, 3, 4, 17, 255, 256, 257, 1024])
MEANS = st.floats(-2, 2)
DEVIATIONS = st.floats(-4, 1.5).map(lambda power: float(10.0**power))


def exact(index: int, mean: float, deviation: float, levels: int) -> float:
    """Log area of a bin by 135-digit error functions, always on the side of the lighter tail."""
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


@given(st.data(), MEANS, DEVIATIONS, LEVELS)
def test_against_135_digits(
    data: st.DataObject, mean: float, deviation: float, levels: int
) -> None:
    index = data.draw(st.integers(0, levels - 1))
    got = decoder_log_likelihood(grey_levels(levels)[index], mean, deviation, levels)
    # A bin far narrower than the deviation is a difference of logarithms that agree to its width.
    rtol = 1e-12 + 1e-15 * deviation * levels
    np.testing.assert_allclose(got, exact(index, mean, deviation, levels), rtol=rtol, atol=rtol)


@given(MEANS, DEVIATIONS, LEVELS)
def test_probabilities_sum_to_one(mean: float, deviation: float, levels: int) -> None:
    log_pmf = decoder_log_pmf([mean, -mean], [deviation, deviation], levels)
    assert log_pmf.shape == (2, levels)
    assert np.all(np.isfinite(log_pmf))
    np.testing.assert_allclose(np.exp(log_pmf).sum(axis=-1), 1, rtol=1e-11)


@pytest.mark.parametrize("deviation", [0.05, 0.4, 3.0])
def test_bins_by_quadrature(deviation: float) -> None:
    grey = grey_levels(9)
    edges = [-np.inf, *((grey[1:] + grey[:-1]) / 2), np.inf]
    law = stats.norm(0.2, deviation)
    reach = 0.2 + deviation * np.array([-30, 30])
    want = [
        integrate.quad(law.pdf, max(low, reach[0]), min(high, reach[1]), points=[0.2], epsabs=0)[0]
        if low < reach[1] and high > reach[0]
        else 0.0
        for low, high in pairwise(edges)
    ]
    got = np.exp(decoder_log_pmf(0.2, deviation, 9))
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-100)


def test_grey_levels() -> None:
    for levels in (2, 3, 17, 256):
        grey = grey_levels(levels)
        assert (grey[0], grey[-1], grey.size) == (-1, 1, levels)
        np.testing.assert_allclose(np.diff(grey), 2 / (levels - 1), rtol=1e-12)


def test_far_tail() -> None:
    # An interior bin one unit away from a mean of deviation 0.01: the difference of two areas
    # underflows, its logarithm does not.
    got = decoder_log_likelihood(grey_levels(256)[127], grey_levels(256)[127] + 1, 0.01)
    assert stats.norm.cdf(-99) - stats.norm.cdf(-101) == 0
    np.testing.assert_allclose(got, -4966.381487, rtol=1e-9)
    assert np.isfinite(decoder_log_likelihood(-1.0, 3.0, 1e-6))


def test_falls_with_the_distance() -> None:
    log_pmf = decoder_log_pmf(0.0, 0.05, 257)[1:-1]
    assert np.all(np.diff(log_pmf)[:127] > 0)
    assert np.all(np.diff(log_pmf)[127:] < 0)
    np.testing.assert_allclose(log_pmf, log_pmf[::-1], rtol=1e-13)


def test_stored_values_are_snapped_to_the_grid() -> None:
    stored = np.float32(grey_levels(256)).astype(np.float64)
    np.testing.assert_array_equal(
        decoder_log_likelihood(stored, 0.1, 0.2), decoder_log_pmf(0.1, 0.2)
    )
    assert decoder_log_likelihood(np.nextafter(1.0, 0), 3.0, 0.01) == pytest.approx(0, abs=1e-12)


def test_refuted_lower_edge() -> None:
    # L-2.10 prints x + 1/255 for both edges: 254 empty bins, total mass 0.0495.
    law, grey = stats.norm(0.1, 0.5), grey_levels(256)
    lower = np.where(grey == -1, -np.inf, grey + 1 / 255)
    upper = np.where(grey == 1, np.inf, grey + 1 / 255)
    printed = law.cdf(upper) - law.cdf(lower)
    assert (printed == 0).sum() == 254
    assert np.isclose(printed.sum(), 0.0495, atol=1e-4)
    assert np.isclose(np.exp(decoder_log_pmf(0.1, 0.5)).sum(), 1)


@given(st.integers(1, 254), MEANS, st.floats(-3, 0).map(lambda power: 10.0**power))
def test_quadratic_lower_bound(index: int, mean: float, deviation: float) -> None:
    x0 = grey_levels(256)[index]
    log_p = decoder_log_likelihood(x0, mean, deviation)
    bound = decoder_lower_bound(x0, mean, deviation)
    # Jensen: the average over the bin of the log density, by quadrature.
    nodes, weights = np.polynomial.legendre.leggauss(4)
    density = stats.norm.logpdf(x0 + nodes / 255, mean, deviation)
    want = np.log(2 / 255) + weights @ density / 2
    np.testing.assert_allclose(bound, want, rtol=1e-10, atol=1e-10)
    assert bound <= log_p + 1e-9 * abs(log_p)


def test_refuted_quadratic_slope() -> None:
    # L-2.11 multiplies the square by the width of the bin: slope -1.57 where it is near -200.
    x = grey_levels(256)[[127, 140]]
    near, far = decoder_log_likelihood(x, x[0], 0.05)
    slope = (far - near) / (x[1] - x[0]) ** 2
    assert np.isclose(slope, -200, rtol=0.01)
    assert np.isclose(2 / 255 / (2 * 0.05**2), 1.57, atol=0.01)


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match="256 grey levels"):
        decoder_log_likelihood(0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="17 grey levels"):
        decoder_log_likelihood(1.125, 0.0, 1.0, 17)
    with pytest.raises(ValueError, match="deviation must be positive"):
        decoder_log_likelihood(1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="levels must be at least 2"):
        decoder_log_likelihood(1.0, 0.0, 1.0, 1)
    with pytest.raises(ValueError, match="levels must be at least 2"):
        grey_levels(1)
    with pytest.raises(ValueError, match="outer bin"):
        decoder_lower_bound([-1.0], 0.0, 1.0)
    with pytest.raises(ValueError, match="deviation must be positive"):
        decoder_lower_bound([grey_levels(3)[1]], 0.0, -1.0, 3)
