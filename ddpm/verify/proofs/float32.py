"""What the customary float32 arithmetic loses of a schedule, and the chain does not."""

from itertools import pairwise

import mpmath as mp
import numpy as np
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import PRECISION, signal_products
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array


def noise_by_products(steps: Array) -> Array:
    """1 - alpha_bar the customary way: a cumulative product in float32."""
    return np.asarray(np.float32(1) - np.cumprod(np.float32(1) - steps.astype(np.float32)), float)


def noise_by_logarithms(steps: Array) -> Array:
    """1 - alpha_bar by log1p and expm1, in float32 as well."""
    return np.asarray(-np.expm1(np.cumsum(np.log1p(-steps.astype(np.float32)))), float)


@proof(
    "X-float32",
    of=Chain.one_minus_alpha_bar,
    oracle="products of 1 - beta to 135 digits",
    given=(
        st.sampled_from(
            [
                (np.linspace(1e-4, 0.02, 1000), 1.66e-4),
                (np.full(50, 1e-7), 0.192),
                (np.full(50, 1e-9), 1.0),
            ]
        ),
    ),
    examples=3,
)
def products_lose_the_noise(evidence: Evidence, case: tuple[Array, float]) -> None:
    """The chain is exact where a float32 product loses 4 digits, or all; logarithms keep 6."""
    steps, lost = case
    truth = [1 - p for p in signal_products(steps)]
    evidence.ulps(Chain(steps).one_minus_alpha_bar, truth, 1.0, "1 - alpha_bar")
    exact = np.array([float(value) for value in truth[1:]])
    worst = np.abs(noise_by_products(steps) / exact - 1).max()
    evidence.close(worst, lost, rtol=5e-3, what="error of a float32 product")
    kept = np.abs(noise_by_logarithms(steps) / exact - 1).max()
    evidence.at_most(kept, 3e-7, "error of float32 logarithms")


@proof("X-float32", of=Chain.one_minus_alpha_bar, oracle="50-digit cosines")
def cosine_betas(evidence: Evidence) -> None:
    """Betas from a float32 table of alpha_bar are off by 5e-4 at level 1 and 7e-4 at worst."""
    with mp.workprec(PRECISION):
        angles = [(mp.mpf(t) / 1000 + mp.mpf("0.008")) / mp.mpf("1.008") for t in range(1001)]
        curve = [mp.cos(angle * mp.pi / 2) ** 2 for angle in angles[:-1]]
        signal = np.array([float(value / curve[0]) for value in curve])
        truth = np.array([float(1 - b / a) for a, b in pairwise(curve)])
    table = signal.astype(np.float32)
    error = np.abs((np.float32(1) - table[1:] / table[:-1]).astype(float) / truth - 1)
    evidence.close(error[0], 5.3e-4, rtol=1e-2, what="error of beta_1")
    evidence.close(error.max(), 7.4e-4, rtol=1e-2, what="worst error of beta")
    chain = Chain(truth)
    evidence.close(chain.one_minus_alpha_bar[1:], 1 - signal[1:], rtol=1e-11, what="1 - alpha_bar")
