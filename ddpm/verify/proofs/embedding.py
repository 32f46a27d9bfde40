"""The sinusoidal code against exact waves, and the three properties it is chosen for."""

import mpmath as mp
import numpy as np
from hypothesis import strategies as st

from ddpm.reference.embedding import frequencies, shift_matrix, sinusoidal_embedding
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import PRECISION
from ddpm.verify.registry import proof

DIMS = st.sampled_from([2, 4, 6, 32])
PERIODS = st.floats(1.5, 1e5)
LEVELS = st.integers(0, 1000)

# An angle of up to 1000 rounds to 1e-13, and so do its sine and cosine.
ROUNDED = 1e-12


@proof(
    "V-5.2",
    of=(frequencies, sinusoidal_embedding),
    oracle="waves to 135 digits",
    given=(LEVELS, DIMS, PERIODS),
)
def exact_waves(evidence: Evidence, t: int, dim: int, period: float) -> None:
    """The k-th sine and cosine turn 1 / period^(k / half) a level, the first one a radian."""
    half = dim // 2
    with mp.workprec(PRECISION):
        speeds = [mp.power(mp.mpf(period), -mp.mpf(k) / half) for k in range(half)]
        sines = [float(mp.sin(speed * t)) for speed in speeds]
        cosines = [float(mp.cos(speed * t)) for speed in speeds]
        want = np.array([float(speed) for speed in speeds])
    evidence.close(frequencies(dim, period), want, rtol=1e-14, what="frequencies")
    got = sinusoidal_embedding(t, dim, period)
    evidence.close(got, [*sines, *cosines], atol=ROUNDED, what="code")


@proof(
    "V-5.2",
    of=(sinusoidal_embedding, frequencies),
    oracle="sums of cosines of the offset",
    given=(LEVELS, LEVELS, DIMS),
)
def products_depend_on_the_offset(evidence: Evidence, s: int, t: int, dim: int) -> None:
    """The inner product of two codes depends on their distance; a squared norm is d / 2."""
    codes = sinusoidal_embedding([s, t], dim)
    speeds = 10_000.0 ** -(np.arange(dim // 2) / (dim // 2))
    want = sum(np.cos(speed * (t - s)) for speed in speeds)
    evidence.close(codes[0] @ codes[1], want, atol=20 * ROUNDED, what="inner product")
    evidence.close(codes[0] @ codes[0], dim / 2, rtol=ROUNDED, what="squared norm")


@proof(
    "V-5.2",
    of=(shift_matrix, sinusoidal_embedding),
    oracle="complex exponentials",
    given=(LEVELS, st.floats(-300, 300), DIMS, PERIODS),
)
def shift_is_a_rotation(evidence: Evidence, t: int, offset: float, dim: int, period: float) -> None:
    """One orthogonal matrix takes the code of every level to that of the level further on."""
    rotation = shift_matrix(offset, dim, period)
    evidence.close(rotation @ rotation.T, np.eye(dim), atol=1e-14, what="rotation")
    moved = rotation @ sinusoidal_embedding(t, dim, period)
    waves = np.exp(1j * frequencies(dim, period) * (t + offset))
    want = np.concatenate([waves.imag, waves.real])
    evidence.close(moved, want, atol=ROUNDED, what="code of t + offset")
    plain = shift_matrix(offset, dim) @ sinusoidal_embedding(t, dim)
    want = sinusoidal_embedding(t + offset, dim)
    evidence.close(plain, want, atol=ROUNDED, what="code of t + offset, default period")


@proof("V-5.2", of=sinusoidal_embedding, oracle="distances of all pairs of a thousand codes")
def levels_are_told_apart(evidence: Evidence) -> None:
    """No two of the levels 1..1000 share a code."""
    codes = sinusoidal_embedding(np.arange(1, 1001), 32)
    products = codes @ codes.T
    np.fill_diagonal(products, 0.0)
    evidence.at_most(products.max(), 16 * 0.99, "largest inner product of two codes")
