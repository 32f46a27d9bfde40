"""The mixture's laws, which other proofs take as truth, against quadrature and differences."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.mixture import Mixture
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array

# Adaptive quadrature is asked for 1e-11 and told where the components lie; a central difference of
# step 1e-5 of a log density whose third derivative is below 1e3 leaves 1e-7 at most.
AMPLITUDES = st.floats(0.1, 1.5)
NOISES = st.floats(0.05, 1.5)
POINTS = st.floats(-3.0, 3.0)
NODES, WEIGHTS = 14 * np.stack(np.polynomial.legendre.leggauss(500))
UNIT_BIMODAL = Mixture(np.array([0.5, 0.5]), np.array([-0.8, 0.8]), np.array([0.36, 0.36]))


@st.composite
def mixtures(draw: st.DrawFn, narrowest: float = 0.05) -> Mixture:
    """One to three components within [-2, 2], variances from `narrowest` to 1."""
    count = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.uniform(0.2, 1.0, count)
    means, variances = rng.uniform(-2, 2, count), rng.uniform(narrowest, 1.0, count)
    return Mixture(weights / weights.sum(), means, variances)


def density(data: Mixture, x: Array | float, c: float = 1.0, noise: float = 0.0) -> Array:
    """Density at a level as a sum of scipy's normal densities."""
    spreads = np.sqrt(c**2 * data.variances + noise)
    parts = zip(data.weights, data.means, spreads, strict=True)
    return np.asarray(sum(w * stats.norm.pdf(x, c * m, s) for w, m, s in parts))


def integral_over_clean(data: Mixture, x: float, c: float, noise: float, power: int) -> float:
    """Integral of x_0^power q(x_0) N(x; c x_0, noise) over x_0."""
    joint = density(data, NODES) * stats.norm.pdf(x, c * NODES, np.sqrt(noise))
    return float(WEIGHTS @ (joint * NODES**power))


@proof(
    "T-fn23",
    of=(Mixture, Mixture.log_density),
    oracle="adaptive quadrature, and sums of scipy's normal densities",
    given=(mixtures(), AMPLITUDES, NOISES, POINTS),
    examples=20,
)
def the_density_integrates_to_one(
    evidence: Evidence, data: Mixture, c: float, noise: float, x: float
) -> None:
    """The density has mass one, and is what scipy says it is, at noise zero too."""
    mass, _ = integrate.quad(
        lambda y: float(np.exp(data.log_density(y, c, noise))), -25, 25, points=c * data.means
    )
    evidence.close(mass, 1.0, atol=1e-9, what="mass")
    for level in (noise, 0.0):
        point = np.array([[x]])
        got = np.exp(data.log_density(point, c, level))
        evidence.close(got, density(data, point, c, level), rtol=1e-11, what="density")


@proof(
    "T-fn23",
    of=Mixture.log_density,
    oracle="one normal law far outside its bulk, where the density underflows",
    given=(AMPLITUDES, NOISES),
)
def the_log_density_reaches_the_tails(evidence: Evidence, c: float, noise: float) -> None:
    """The logarithm stays finite where the density itself is zero in float64."""
    data = Mixture(np.array([0.5, 0.5]), np.zeros(2), np.ones(2))
    want = stats.norm.logpdf(1e4, 0, np.sqrt(c**2 + noise))
    evidence.close(data.log_density(1e4, c, noise), want, rtol=1e-12, what="log density")


@proof(
    "T-fn23",
    of=(Mixture, Mixture.score),
    oracle="central differences of the log of scipy's densities",
    given=(mixtures(), AMPLITUDES, NOISES, POINTS),
)
def the_score_is_a_slope(
    evidence: Evidence, data: Mixture, c: float, noise: float, x: float
) -> None:
    """The score is the derivative of the log density."""
    h = 1e-5
    up, down = (np.log(density(data, x + step, c, noise)) for step in (h, -h))
    evidence.close(data.score(x, c, noise), (up - down) / (2 * h), rtol=1e-6, atol=1e-6)


@proof(
    "T-fn23",
    of=(Mixture.denoised, Mixture.uncertainty),
    oracle="quadrature over the clean sample",
    given=(mixtures(), AMPLITUDES, NOISES, POINTS),
)
def the_denoiser_by_quadrature(
    evidence: Evidence, data: Mixture, c: float, noise: float, x: float
) -> None:
    """Mean and variance of x_0 given x, for components of positive width."""
    moments = [integral_over_clean(data, x, c, noise, power) for power in (0, 1, 2)]
    mean, square = moments[1] / moments[0], moments[2] / moments[0]
    got = data.denoised([x], c, noise), data.uncertainty([x], c, noise)
    evidence.close(got[0], [mean], rtol=1e-9, atol=1e-9, what="mean of x_0 given x")
    evidence.close(got[1], [square - mean**2], rtol=1e-8, atol=1e-9, what="variance given x")


@proof(
    "T-fn23",
    of=(Mixture.denoised, Mixture.uncertainty),
    oracle="Bayes' rule over a finite set",
    given=(AMPLITUDES, NOISES, POINTS),
)
def the_denoiser_of_points(evidence: Evidence, c: float, noise: float, x: float) -> None:
    """Components without width are a finite data set: average the points by their likelihood."""
    points, prior = np.array([-1.3, 0.2, 0.9]), np.array([0.5, 0.2, 0.3])
    data = Mixture(prior, points, np.zeros(3))
    share = prior * stats.norm.pdf(x, c * points, np.sqrt(noise))
    share /= share.sum()
    mean = share @ points
    evidence.close(data.denoised(x, c, noise), mean, rtol=1e-11, atol=1e-13, what="mean")
    want = share @ (points - mean) ** 2
    evidence.close(data.uncertainty(x, c, noise), want, rtol=1e-9, atol=1e-13, what="variance")


@proof(
    "T-fn23",
    of=(Mixture, Mixture.variance),
    oracle="quadrature of the first two moments",
    given=(mixtures(),),
)
def the_variance_of_the_data(evidence: Evidence, data: Mixture) -> None:
    """The variance is within and between components."""
    first, second = (integral_over_clean(data, 0.0, 0.0, 1.0, power) for power in (1, 2))
    at_zero = stats.norm.pdf(0)
    want = second / at_zero - (first / at_zero) ** 2
    evidence.close(data.variance, want, rtol=1e-9, what="variance")


@proof(
    "T-fn23",
    of=Mixture.expectation,
    oracle="adaptive quadrature of scipy's densities",
    given=(mixtures(narrowest=1e-3), AMPLITUDES, st.sampled_from([0.0, 1e-3, 0.05, 1.0])),
    examples=20,
)
def the_expectation_of_a_function(
    evidence: Evidence, data: Mixture, c: float, noise: float
) -> None:
    """The panels integrate a function that is no polynomial, for narrow components too."""
    spreads = np.sqrt(c**2 * data.variances + noise)
    cuts = np.unique(np.concatenate([c * data.means + k * spreads for k in (-8, -2, 0, 2, 8)]))
    want = sum(
        integrate.quad(
            lambda y: float(density(data, y, c, noise) * np.cos(3 * y)), a, b, epsabs=1e-12
        )[0]
        for a, b in pairwise(cuts)
    )
    evidence.close(data.expectation(lambda y: np.cos(3 * y), c, noise), want, atol=1e-9)
    evidence.close(data.expectation(np.ones_like, c, noise), 1.0, atol=1e-12, what="mass")


@proof(
    "T-fn23",
    of=Mixture.mmse,
    oracle="mean squared error of the denoiser over the joint law of sample and noise",
    given=(mixtures(), AMPLITUDES, NOISES),
    examples=10,
)
def the_least_squared_error(evidence: Evidence, data: Mixture, c: float, noise: float) -> None:
    """The expected uncertainty is the squared error of the denoiser, averaged over x_0 and eps."""
    probability = np.outer(WEIGHTS * density(data, NODES), WEIGHTS * stats.norm.pdf(NODES))
    x = c * NODES[:, None] + np.sqrt(noise) * NODES
    want = np.sum(probability * (data.denoised(x, c, noise) - NODES[:, None]) ** 2)
    evidence.close(data.mmse(c, noise), want, rtol=1e-7, atol=1e-9, what="mmse")
