import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.decoder import discretised_log_likelihood
from ddpm.reference.decoder import decoder_log_likelihood, grey_levels
from ddpm.verify.strategies import generators

COUNTS = st.sampled_from([2, 3, 4, 5, 17, 256])
DEVIATIONS = st.floats(-4, 2).map(lambda power: 10.0**power)


def exact(index: int, mean: float, std: float, levels: int) -> mp.mpf:
    """Log-probability of one bin, from tail areas to as many digits as they need."""
    with mp.workdps(40):
        centre = 2 * mp.mpf(index) / (levels - 1) - 1 - mp.mpf(mean)
        sign = -1 if centre < 0 else 1
        near, far = (sign * centre - side * mp.mpf(1) / (levels - 1) for side in (1, -1))
        inner, outer = (0, levels - 1) if sign > 0 else (levels - 1, 0)

        def area(edge: mp.mpf) -> mp.mpf:
            return mp.erfc(edge / std / mp.sqrt(2)) / 2

        upper = mp.mpf(1) if index == inner else area(near)
        return mp.log(upper - (0 if index == outer else area(far)))


@given(st.data(), COUNTS, st.floats(-3, 3), DEVIATIONS)
@example(None, 2, 0.0, 1.0)
def test_every_bin_against_forty_digits(
    data: st.DataObject | None, levels: int, mean: float, std: float
) -> None:
    index = data.draw(st.integers(0, levels - 1)) if data else 1
    x = torch.tensor(grey_levels(levels)[index], dtype=torch.float32)
    centre = torch.tensor(mean, dtype=torch.float64)
    got = discretised_log_likelihood(x, centre, std, levels)
    assert got.dtype == torch.float64
    # The image is float32: its rounding of 3e-8 moves the edge, which tells by z / std.
    slope = 6e-8 * (abs(float(x) - mean) + 1 / (levels - 1) + std) / std**2
    truth = float(exact(index, mean, std, levels))
    assert abs(float(got) - truth) <= 1e-11 + 1e-13 * abs(truth) + slope


@given(COUNTS, generators(), DEVIATIONS)
def test_against_the_reference(levels: int, rng: np.random.Generator, std: float) -> None:
    x = rng.choice(grey_levels(levels), size=(4, 3))
    mean, deviation = rng.normal(size=(4, 3)), std * rng.uniform(0.5, 2, size=(4, 1))
    got = discretised_log_likelihood(
        torch.tensor(x), torch.tensor(mean), torch.tensor(deviation), levels
    )
    want = decoder_log_likelihood(x, mean, deviation, levels)
    # Two float64 evaluations of logarithms of tails: 1e-16 times z squared / 2 each.
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


@given(COUNTS, st.floats(-3, 3), DEVIATIONS)
def test_probabilities_sum_to_one(levels: int, mean: float, std: float) -> None:
    x = torch.tensor(grey_levels(levels))
    got = discretised_log_likelihood(x, torch.tensor(mean), std, levels)
    assert float(got.max()) <= 0
    assert math.isclose(float(got.exp().sum()), 1, rel_tol=1e-9)


def test_bins_by_quadrature() -> None:
    x = grey_levels(5)
    got = discretised_log_likelihood(torch.tensor(x), torch.tensor(0.1), 0.4, 5).exp()
    edges = [-math.inf, -0.75, -0.25, 0.25, 0.75, math.inf]
    density = stats.norm(0.1, 0.4).pdf
    want = [integrate.quad(density, low, high)[0] for low, high in pairwise(edges)]
    np.testing.assert_allclose(got, want, atol=1e-7)


@pytest.mark.parametrize("mean", [-1e3, -2.0, 0.0, 2.0, 1e3])
@pytest.mark.parametrize("std", [1e-6, 1e-3, 1.0])
def test_far_tails_are_finite(mean: float, std: float) -> None:
    x = torch.tensor(grey_levels(256), dtype=torch.float32)
    got = discretised_log_likelihood(x, torch.tensor(mean), std, 256)
    assert bool(got.isfinite().all())
    assert bool((got <= 0).all())


@pytest.mark.parametrize("levels", [1, 0, -5])
def test_too_few_levels(levels: int) -> None:
    with pytest.raises(ValueError, match=rf"levels = {levels}: allowed is .*at least 2"):
        discretised_log_likelihood(torch.zeros(1), torch.zeros(1), 1.0, levels)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
def test_deviation_that_is_not_positive(std: float) -> None:
    with pytest.raises(ValueError, match=rf"std = {std}: allowed is a positive number"):
        discretised_log_likelihood(torch.zeros(1), torch.zeros(1), std, 5)
