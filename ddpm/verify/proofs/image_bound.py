"""The bound of images against whole paths and against the likelihood of the model."""

from typing import cast

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.decoder import decoder_log_pmf, grey_levels
from ddpm.reference.elbo import bits_per_dimension, bound_terms
from ddpm.reference.variances import Variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array

# An image of one pixel with five grey levels and a denoiser that is linear at each level.
PIXEL_CHAIN = Chain([0.1, 0.25, 0.45])
LEVELS, DEVIATION = 5, 0.4
SLOPES, SHIFTS = (0.0, 0.8, 0.6, 0.3), (0.0, 0.05, -0.1, 0.2)


def denoise(x_t: Array, t: int) -> Array:
    """A denoiser that does not fit the data."""
    return SLOPES[t] * x_t + SHIFTS[t]


def image_step(x_t: Array, t: int, variance: Variance) -> tuple[Array, float]:
    """Mean and deviation of the step from t to t - 1, by conditioning the covariance."""
    weights, s2 = condition(joint_covariance(PIXEL_CHAIN.betas), t - 1, [0, t])
    spread = s2 if variance == "posterior" else PIXEL_CHAIN.betas[t - 1]
    mean = np.asarray(weights[0] * denoise(x_t, t) + weights[1] * x_t)
    return mean, float(np.sqrt(spread))


def pixel_log_pmf(x0: float, x1: Array) -> Array:
    """Log probability of the grey level x0 given x_1."""
    log_pmf = decoder_log_pmf(denoise(x1, 1), DEVIATION, LEVELS)
    return np.asarray(log_pmf[..., np.argmin(abs(grey_levels(LEVELS) - x0))])


def image_path_bound(x0: float, variance: Variance) -> float:
    """E log q(x_1, x_2, x_3 | x_0) / p(x_0, .., x_3) over whole paths, nothing rearranged."""
    # The decoder is no polynomial: 40 points in x_1 leave 1e-9; the others only meet squares.
    first, inner = normal_grid(1, 40), normal_grid(2, 3)
    noise = np.stack([np.repeat(first[0][0], 9), *np.tile(inner[0], 40)])
    probability = np.repeat(first[1], 9) * np.tile(inner[1], 40)
    path, log_ratio = [np.full(noise.shape[1], x0)], np.zeros(noise.shape[1])
    for beta, eps in zip(PIXEL_CHAIN.betas, noise, strict=True):
        mean = np.sqrt(1 - beta) * path[-1]
        path.append(mean + np.sqrt(beta) * eps)
        log_ratio += stats.norm.logpdf(path[-1], mean, np.sqrt(beta))
    log_ratio -= stats.norm.logpdf(path[3]) + pixel_log_pmf(x0, path[1])
    for t in (3, 2):
        log_ratio -= stats.norm.logpdf(path[t - 1], *image_step(path[t], t, variance))
    return float(probability @ log_ratio)


def image_log_likelihood(x0: float, variance: Variance) -> float:
    """Log of the model's probability of x0, integrated over the latents from the noise down."""
    noise, probability = normal_grid(3, 20)
    x = noise[0]
    for t, z in ((3, noise[1]), (2, noise[2])):
        mean, deviation = image_step(x, t, variance)
        x = mean + deviation * z
    return float(np.log(probability @ np.exp(pixel_log_pmf(x0, x))))


@proof(
    "L-2.4", "K-57", "V-eq3", "G-20",
    of=bound_terms,
    oracle="Gauss-Hermite over whole paths, and the likelihood integrated from the noise down",
    given=(
        st.sampled_from(grey_levels(LEVELS).tolist()),
        st.sampled_from(("posterior", "beta")).map(lambda name: cast(Variance, name)),
    ),
    examples=10,
)  # fmt: skip
def image_bound(evidence: Evidence, x0: float, variance: Variance) -> None:
    """The drawn terms of an image average to the bound of its grey level's probability."""
    # A term reads one noise each, so the same nodes serve all three levels.
    points, probability = normal_grid(1, 60)
    batch = np.full((points.shape[1], 1), x0)
    noise = np.broadcast_to(points[0][:, None], (3, *batch.shape))
    terms = bound_terms(batch, PIXEL_CHAIN, denoise, noise, DEVIATION, LEVELS, variance)
    bound = float(probability @ terms.total)
    evidence.close(bound, image_path_bound(x0, variance), rtol=1e-8, what="bound")
    evidence.at_most(-image_log_likelihood(x0, variance), bound, "-log p(x_0)")


@proof(
    "L-2.4",
    of=bits_per_dimension,
    oracle="the uniform law of grey levels, which costs their logarithm to base two",
    given=(st.integers(1, 3072), st.integers(2, 1024)),
)
def uniform_grey(evidence: Evidence, elements: int, levels: int) -> None:
    """Nats of a sample become bits of one element."""
    nats = np.full(2, elements * np.log(levels))
    got = bits_per_dimension(nats, elements)
    evidence.close(got, np.log2(levels), rtol=1e-13, what="bits")
