import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.models.embedding import fourier_features, sinusoidal_embedding

DIMS = st.integers(1, 64).map(lambda half: 2 * half)
LEVELS = st.integers(0, 1000)
# The angle t w is a float32 product of a float32 frequency: 1000 times 2^-23, twice.
ANGLE = 3e-4


@given(st.lists(LEVELS, max_size=5), DIMS)
def test_norm(levels: list[int], dim: int) -> None:
    code = sinusoidal_embedding(torch.tensor(levels, dtype=torch.int64), dim)
    assert code.shape == (len(levels), dim)
    assert code.dtype == torch.float32
    np.testing.assert_allclose(code.double().square().sum(dim=1), dim / 2, rtol=1e-6)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), DIMS)
def test_inner_product_depends_on_the_offset_only(
    first: int, second: int, shift: int, dim: int
) -> None:
    t = torch.tensor([first, second, first + shift, second + shift])
    a, b, c, d = sinusoidal_embedding(t, dim).double()
    assert float(a @ b) == pytest.approx(float(c @ d), abs=ANGLE * dim)


@given(LEVELS, DIMS, st.sampled_from([100.0, 10_000.0]))
def test_values_against_fifty_digits(t: int, dim: int, period: float) -> None:
    code = sinusoidal_embedding(torch.tensor([t]), dim, period)[0].tolist()
    half = dim // 2
    with mp.workdps(50):
        angles = [t * mp.mpf(period) ** (-mp.mpf(i) / half) for i in range(half)]
        want = [float(f(angle)) for f in (mp.sin, mp.cos) for angle in angles]
    np.testing.assert_allclose(code, want, atol=ANGLE)


@pytest.mark.parametrize("dim", [8, 32, 128])
def test_every_level_has_its_own_code(dim: int) -> None:
    code = sinusoidal_embedding(torch.arange(1, 1001), dim).double()
    distance = torch.cdist(code, code).fill_diagonal_(torch.inf)
    # A step of one level turns the fastest wave by one radian: 2 sin(1/2) = 0.96.
    assert float(distance.min()) > 0.1


def test_fractional_levels() -> None:
    whole, half = sinusoidal_embedding(torch.tensor([1.0, 0.5]), 4)
    assert float(half[0]) == pytest.approx(np.sin(0.5), abs=1e-6)
    assert torch.equal(whole, sinusoidal_embedding(torch.tensor([1]), 4)[0])


@pytest.mark.parametrize("dim", [0, 1, 7, -2])
def test_odd_or_empty_dim(dim: int) -> None:
    with pytest.raises(ValueError, match=rf"dim = {dim}: allowed is an even positive integer"):
        sinusoidal_embedding(torch.tensor([1]), dim)


def test_waves_beside_an_image() -> None:
    x = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2)
    waves = fourier_features(x, (1, 4))
    assert waves.shape == (2, 15, 2, 2)
    assert torch.equal(waves[:, :3], x)
    wide = x.double()
    for i, n in enumerate((1, 4)):
        first = 3 + 6 * i
        sine, cosine = (
            waves[:, first : first + 3].double(),
            waves[:, first + 3 : first + 6].double(),
        )
        torch.testing.assert_close(sine, (2**n * torch.pi * wide).sin(), rtol=0, atol=1e-5)
        torch.testing.assert_close(cosine, (2**n * torch.pi * wide).cos(), rtol=0, atol=1e-5)
    assert fourier_features(x, ()) is x


def test_the_wave_of_17_grey_levels_is_the_same_at_each() -> None:
    levels = torch.arange(17).reshape(1, 1, 1, 17) / 8 - 1
    sine, cosine = fourier_features(levels, (4,))[:, 1:].unbind(1)
    torch.testing.assert_close(sine, torch.zeros_like(sine), rtol=0, atol=1e-5)
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-5)
