"""Points between noises, against rotations by SciPy and by 50 digits, and pictures between two."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial import geometric_slerp
from torch import Tensor

from ddpm.analytic import GaussianMixture
from ddpm.diffusion import GaussianDiffusion
from ddpm.samplers.interpolation import between, interpolate
from ddpm.samplers.levels import trailing
from ddpm.schedule import Schedule

SHARES = st.floats(0, 1, allow_subnormal=False)


def vectors(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(2, 9), SHARES)
def test_directions_are_scipy_s_and_norms_go_evenly(seed: int, size: int, share: float) -> None:
    a, b = vectors(seed, 2, 3, size)
    got = interpolate(a, b, share)
    for x, y, z in zip(a.numpy(), b.numpy(), got.numpy(), strict=True):
        long, other = np.linalg.norm(x), np.linalg.norm(y)
        direction = geometric_slerp(x / long, y / other, [share])[0]
        np.testing.assert_allclose(z / np.linalg.norm(z), direction, rtol=0, atol=1e-12)
        assert np.linalg.norm(z) == pytest.approx((1 - share) * long + share * other, rel=1e-13)


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(2, 6), SHARES)
def test_points_are_rotations_in_the_plane(seed: int, size: int, share: float) -> None:
    """The exponential of w times the generator that turns a to b, which is found by logarithms."""
    a, b = (x / x.norm() for x in vectors(seed, 2, size))
    plane = np.linalg.qr(np.stack([a.numpy(), b.numpy()], axis=1))[0]
    near, far = (np.angle(complex(*(plane.T @ x.numpy()))) for x in (a, b))
    turn = (far - near + np.pi) % (2 * np.pi) - np.pi
    generator = turn * plane @ np.array([[0, -1], [1, 0]]) @ plane.T
    want = expm(share * generator) @ a.numpy()
    got = interpolate(a[None], b[None], share)[0].numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("exponent", [-30, -16, -9, -7.9, -4, -1])
@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_nearly_parallel_and_opposite(exponent: float, opposite: bool, share: float) -> None:
    """From (3, 0, 0) to b at a tiny angle to it, or to its opposite, by 50 digits."""
    with mpmath.workdps(50):
        angle = mpmath.mpf(10) ** exponent
        angle = mpmath.pi - angle if opposite else angle
        end = [3 * mpmath.cos(angle), 3 * mpmath.sin(angle), 0]
        want = [3 * mpmath.cos(share * angle), 3 * mpmath.sin(share * angle), 0]
        a, b, expected = (
            torch.tensor([[float(x) for x in v]], dtype=torch.float64)
            for v in ([3, 0, 0], end, want)
        )
    got = interpolate(a, b, share)
    assert got.norm().item() == pytest.approx(3, rel=1e-14)
    if opposite and exponent <= -16:
        # No digit tells the plane; the angles do not depend on it.
        assert got[0, 0].item() == pytest.approx(expected[0, 0].item(), abs=1e-14)
    else:
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-7 if opposite else 1e-14)


@pytest.mark.parametrize("apart", [0.0, 1e-14, 1e-9, 1e-5])
def test_half_way_to_the_opposite_is_at_right_angles(apart: float) -> None:
    a, other = vectors(5, 2, 6, 5)
    middle = interpolate(a, apart * other - a, 0.5)
    norms = a.norm(dim=1)
    assert ((middle.norm(dim=1) / norms - 1).abs() < 1e-12 + apart).all()
    assert (((a * middle).sum(1) / norms**2).abs() < 1e-12 + 4 * apart).all()


def test_ends_weights_dtypes_and_batches() -> None:
    a, b = vectors(1, 2, 4, 1, 3, 3).float()
    weight = torch.tensor([0.0, 0.25, 1.0, 0.5])
    got = interpolate(a, b, weight)
    assert (got.dtype, got.shape) == (torch.float32, a.shape)
    torch.testing.assert_close(got[0], a[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(got[2], b[2], rtol=0, atol=1e-6)
    assert torch.equal(got[1:2], interpolate(a[1:2], b[1:2], 0.25))
    assert torch.equal(
        interpolate(a, b, 0.3), interpolate(a, b, torch.tensor(0.3, dtype=torch.float64))
    )
    # Back from b to a, float32 rounding apart.
    torch.testing.assert_close(interpolate(b, a, 1 - weight), got, rtol=0, atol=1e-6)
    assert bool(interpolate(torch.zeros(1, 3), a[:1, 0, 0], 0.5).isfinite().all())
    assert torch.equal(interpolate(a, a, 0.4), a)


def test_noise_of_many_dimensions_keeps_its_norm() -> None:
    a, b = vectors(3, 2, 50, 3072)
    norms = interpolate(a, b, 0.5).norm(dim=1) / 3072**0.5
    assert (norms - 1).abs().max() < 0.05
    assert torch.lerp(a, b, 0.5).norm(dim=1).max() / 3072**0.5 < 0.8


def test_pictures_between_two_samples() -> None:
    schedule = Schedule.log_snr_linear(30, 6.0, -6.0)
    data = GaussianMixture([0.5, 0.5], [[-0.5] * 4, [0.5] * 4], [0.1, 0.2])
    diffusion, network = GaussianDiffusion(schedule, "eps"), data.network(schedule, "eps")
    weights = [0.0, 0.1, 0.11, 1.0]
    got = between(
        diffusion, network, (1, 2, 2), seed=4, samples=(7, 3), weights=weights,
        levels=trailing(30, 10),
    )  # fmt: skip
    ends = diffusion.ddim_sample_loop(network, (2, 1, 2, 2), seed=4, steps=10, samples=[7, 3])
    torch.testing.assert_close(got[[0, 3]], ends, rtol=0, atol=1e-5)
    assert (got[2] - got[1]).norm() < 0.1 * (got[3] - got[0]).norm()
    assert not torch.allclose(got[1], torch.lerp(got[0], got[3], 0.1), atol=1e-3)


@pytest.mark.parametrize(
    ("a", "b", "weight", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), 0.5, r"\(2, 3\) and torch.float32 \(2, 4\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3).double(), 0.5, "one floating dtype"),
        (torch.zeros(2, 3).long(), torch.zeros(2, 3).long(), 0.5, "one floating dtype"),
        (torch.zeros(2, 1), torch.zeros(2, 1), 0.5, "two numbers a sample"),
        (torch.zeros(2), torch.zeros(2), 0.5, "two numbers a sample"),
        (torch.ones(2, 3), torch.ones(2, 3), 1.5, r"weight = 1.5: allowed is \[0, 1\]"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0.5, torch.nan]), "weight = "),
        (torch.ones(2, 3), torch.ones(2, 3), torch.zeros(3), r"weight has shape \(3,\)"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 1), "weight has shape"),
    ],
)
def test_bad_input(a: Tensor, b: Tensor, weight: Tensor | float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interpolate(a, b, weight)
