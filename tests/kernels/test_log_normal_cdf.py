"""Probabilities of intervals against forty digits, and Triton's against torch's bit for bit."""

# Kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from unittest import mock

import mpmath as mp
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from ddpm.kernels.gpu import log_normal_cdf as gpu
from ddpm.kernels.log_normal_cdf import NARROW, Interval, log_interval, mills_ratio

KINDS = ("closed", "below", "above")


def tail(x: mp.mpf) -> mp.mpf:
    """The area above x."""
    return mp.erfc(x / mp.sqrt(2)) / 2


def exact(centre: float, half: float, kind: str) -> tuple[float, float, float]:
    """Minus the log probability, and its slopes, from areas and densities with many digits."""
    with mp.workdps(60):
        low, high = mp.mpf(centre) - mp.mpf(half), mp.mpf(centre) + mp.mpf(half)
        ends = mp.npdf(low) * (kind != "below"), mp.npdf(high) * (kind != "above")
        if kind == "closed":
            # Above zero, where both tails are small, digits cancel least.
            area = tail(low) - tail(high) if centre > 0 else tail(-high) - tail(-low)
        else:
            area = tail(low) if kind == "above" else tail(-high)
        by_low, by_high = ends[0] / area, -ends[1] / area
        return float(-mp.log(area)), float(by_low + by_high), float(by_high - by_low)


def computed(centre: float, half: float, kind: str) -> Interval:
    both = torch.tensor([[centre], [half]], dtype=torch.float64)
    return of_tensors(both[0], both[1], kind)


def of_tensors(centre: Tensor, half: Tensor, kind: str) -> Interval:
    open_ends = (torch.full(centre.shape, kind == side) for side in ("below", "above"))
    return log_interval(centre, half, *open_ends)


def magnitudes(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda power: 10.0**power)


@given(
    magnitudes(-6, 4), st.sampled_from([-1.0, 0.0, 1.0]), magnitudes(-10, 3), st.sampled_from(KINDS)
)
@example(1e-3, 1.0, NARROW, "closed")
@example(2.0, -1.0, NARROW * (1 - 2**-52), "closed")
@example(1.0, 1.0, 1.0, "closed")
@example(1e150, 1.0, 1.0, "above")
def test_intervals_against_sixty_digits(size: float, sign: float, half: float, kind: str) -> None:
    centre = sign * size
    with mp.workdps(60):
        want = exact(centre, half, kind) if size < 1e100 else (5e299, 1e150, -1e150)
    got = computed(centre, half, kind)
    assert {x.dtype for x in got} == {torch.float64}
    for value, truth in zip(got, want, strict=True):
        # A slope near 0 is a difference of two hazards of size 1 / half at most.
        assert abs(float(value) - truth) <= 1e-7 * (abs(truth) + min(1.0, size + half)), got


@pytest.mark.parametrize("centre", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize("half", [1e-200, 1e-40, 1e-16])
def test_intervals_too_narrow_for_a_difference_of_areas(centre: float, half: float) -> None:
    got = computed(centre, half, "closed")
    density = np.exp(-(centre**2) / 2) / np.sqrt(2 * np.pi)
    assert float(got.nats) == pytest.approx(-np.log(2 * half) - np.log(density), rel=1e-12)
    assert float(got.by_centre) == pytest.approx(centre, rel=1e-7, abs=1e-12)
    assert float(got.by_half * half) == pytest.approx(-1, rel=1e-7)


def test_the_ratio_of_tail_and_density() -> None:
    x = torch.cat([torch.linspace(0, 30, 301), torch.logspace(1.5, 12, 40)]).double()
    with mp.workdps(40):
        want = [
            float(tail(mp.mpf(v)) / mp.npdf(v)) if v < 1e3 else 1 / v - v**-3 for v in x.tolist()
        ]
    np.testing.assert_allclose(mills_ratio(x).numpy(), want, rtol=4e-12, atol=0)


def test_nothing_is_made_of_nothing() -> None:
    bad = torch.tensor([torch.nan, 0.5, torch.nan], dtype=torch.float64)
    half = torch.tensor([0.5, torch.nan, 0.5], dtype=torch.float64)
    for kind in KINDS:
        got = of_tensors(bad, half, kind)
        assert all(bool(x.isnan().all()) for x in got)


@triton.jit
def _kernel(out_ptr, centre_ptr, half_ptr, below_ptr, above_ptr, BLOCK: tl.constexpr):
    lane = tl.arange(0, BLOCK)
    centre, half = tl.load(centre_ptr + lane), tl.load(half_ptr + lane)
    below, above = tl.load(below_ptr + lane) != 0, tl.load(above_ptr + lane) != 0
    nats, by_centre, by_half = gpu.log_interval(centre, half, below, above)
    tl.store(out_ptr + lane, nats)
    tl.store(out_ptr + BLOCK + lane, by_centre)
    tl.store(out_ptr + 2 * BLOCK + lane, by_half)


def test_triton_is_torch() -> None:
    rng = np.random.default_rng(0)
    count = 1024
    centre = torch.from_numpy(rng.standard_normal(count) * 10.0 ** rng.uniform(-9, 3, count))
    centre[:32] = 0.0
    half = torch.from_numpy(10.0 ** rng.uniform(-9, 3, count))
    kind = torch.from_numpy(rng.integers(0, 3, count))
    below, above = kind == 1, kind == 2
    out = torch.full((3, count), torch.nan, dtype=torch.float64)
    _kernel[(1,)](out, centre, half, below.int(), above.int(), BLOCK=count)
    # The interpreter's exp and log are NumPy's.
    with (
        mock.patch("torch.exp", lambda x: torch.from_numpy(np.exp(x.numpy()))),
        mock.patch("torch.log", lambda x: torch.from_numpy(np.log(x.numpy()))),
    ):
        want = log_interval(centre, half, below, above)
    for got, value in zip(out, want, strict=True):
        assert torch.equal(got, value)
