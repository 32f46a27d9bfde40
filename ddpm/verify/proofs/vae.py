"""The autoencoder's divergence, likelihood, estimators and gradient."""

import mpmath as mp
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

from ddpm.reference.gaussian import kl_diagonal
from ddpm.reference.mlp import HIDDEN, activations, flat, forward, shaped
from ddpm.reference.vae import (
    Vae,
    bernoulli_log_likelihood,
    decode,
    elbo_analytic_kl,
    elbo_by_draw,
    elbo_gradient,
    encode,
    initial_vae,
    latent_kl,
    reparametrised,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import normal_grid, quad_kl
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators

DRAWS = 20_000
# A central difference over 1e-5 errs by 1e-10 of the third derivative and by rounding / 1e-5.
STEP = 1e-5
RELATIVE = 1e-6


@st.composite
def latents(draw: st.DrawFn) -> tuple[Array, Array]:
    """Mean and log variance of one to four latents."""
    size = draw(st.integers(1, 4))
    means = draw(st.lists(st.floats(-3, 3), min_size=size, max_size=size))
    log_variances = draw(st.lists(st.floats(-6, 3), min_size=size, max_size=size))
    return np.array(means), np.array(log_variances)


def summed_quadrature(mean: Array, log_variance: Array) -> float:
    """Sum of the divergences of the coordinates by quadrature of scipy's densities."""
    deviations = np.exp(log_variance / 2)
    return sum(quad_kl(m, s, 0.0, 1.0) for m, s in zip(mean, deviations, strict=True))


@proof(
    "L-1.3",
    of=(latent_kl, kl_diagonal),
    oracle="quadrature of scipy's densities, coordinate by coordinate",
    given=(latents(),),
)
def divergence(evidence: Evidence, moments: tuple[Array, Array]) -> None:
    """The closed form is the sum of the integrals, and no divergence is negative."""
    got = latent_kl(*moments)
    evidence.close(got, summed_quadrature(*moments), rtol=1e-9, atol=1e-11)
    evidence.at_most(-got, 1e-15, "minus the divergence")
    mean, log_variance = moments
    general = kl_diagonal(mean, np.exp(log_variance), np.zeros(mean.size), np.ones(mean.size))
    evidence.close(got, general, rtol=1e-13, atol=1e-14, what="divergence of two diagonal laws")


@proof("L-1.3", of=latent_kl, oracle="a numerical minimiser")
def least_divergence(evidence: Evidence) -> None:
    """It vanishes at the prior only, and a vanishing variance costs half its log."""

    def at(moments: Array) -> float:
        return float(latent_kl(moments[:2], moments[2:]))

    found = optimize.minimize(at, np.array([2.0, -1.0, 1.5, -3.0]))
    # The minimum is quadratic, so the place is known to the root of the precision.
    evidence.close(found.x, np.zeros(4), atol=1e-4, what="place of the minimum")
    evidence.close(found.fun, 0.0, atol=1e-8, what="minimum")
    evidence.equal(latent_kl(np.zeros((2, 3)), np.zeros((2, 3))), np.zeros(2))
    evidence.close(latent_kl([0.0], [-700.0]), 349.5, rtol=1e-15, what="nearly a point")


@misprint(
    "L-1.3",
    of=latent_kl,
    truth=summed_quadrature,
    oracle="quadrature of scipy's densities, coordinate by coordinate",
    counterexample=Counterexample((np.zeros(1), np.zeros(1)), printed=-1.0, right=0.0),
    search=(st.just(np.array([0.3, -1.2])), st.floats(-4, 2).map(lambda v: np.array([v, -v / 2]))),
)
def variance_with_the_wrong_sign(mean: Array, log_variance: Array) -> Array:
    """The variance added where it must be subtracted."""
    terms = 1 + log_variance - np.asarray(mean) ** 2 + np.exp(log_variance)
    return np.asarray(-np.sum(terms, axis=-1) / 2)


@proof(
    "X-BCE",
    of=bernoulli_log_likelihood,
    oracle="logarithms of the sigmoid to 400 digits",
    given=(st.sampled_from([0.0, 1.0]) | st.floats(0, 1), st.floats(-800, 800)),
    examples=100,
)
def bernoulli(evidence: Evidence, pixel: float, logit: float) -> None:
    """It neither overflows nor loses digits up to logits of 800."""
    with mp.workdps(400):
        share = 1 / (1 + mp.exp(-mp.mpf(logit)))
        terms = pixel * mp.log(share) + (1 - mp.mpf(pixel)) * mp.log(1 - share)
    # A grey pixel subtracts x l from max(l, 0), which costs one rounding of l.
    grey = 0.0 if pixel in (0.0, 1.0) else 2e-16 * abs(logit)
    evidence.close(
        bernoulli_log_likelihood(pixel, logit), float(terms), rtol=5e-16, atol=grey + 5e-324
    )


@proof(
    "L-1-arch",
    of=(initial_vae, encode, decode),
    oracle="shapes and range",
    given=(generators(), st.floats(0, 4)),
    examples=10,
)
def architecture(evidence: Evidence, generator: np.random.Generator, power: float) -> None:
    """One hidden layer of 500 units on each side, and intensities in [0, 1]."""
    vae = initial_vae(12, 3, generator)
    shapes = [part.shape for network in vae for layer in network for part in layer]
    want = [(12, 500), (500,), (500, 6), (6,), (3, 500), (500,), (500, 12), (12,)]
    evidence.holds(shapes == want and HIDDEN == 500, "the layers have 500 hidden units")
    mean, log_variance = encode(vae.encoder, generator.random((5, 12)))
    evidence.holds(mean.shape == log_variance.shape == (5, 3), "each latent has two moments")
    z = 10**power * generator.standard_normal((5, 3))
    pixels = decode(vae.decoder, z)
    evidence.holds((pixels >= 0) & (pixels <= 1), "intensities lie in [0, 1]")
    logits = forward(vae.decoder, z)
    evidence.close(pixels, 0.5 + np.tanh(logits / 2) / 2, atol=1e-15, what="sigmoid")


@proof(
    "L-1-arch",
    of=elbo_gradient,
    oracle="central differences in random directions, away from the kinks",
    given=(generators(), st.sampled_from([3, HIDDEN])),
    examples=20,
)
def gradient(evidence: Evidence, generator: np.random.Generator, hidden: int) -> None:
    """The gradient by all weights and biases of both networks gives directional derivatives."""
    vae = initial_vae(4, 2, generator, hidden)
    start = np.concatenate([flat(network) for network in vae])
    size = flat(vae.encoder).size
    x, noise = generator.random((3, 4)), generator.standard_normal((3, 2))
    along = generator.standard_normal(start.size)

    def at(h: float) -> Vae:
        moved = start + h * along
        return Vae(shaped(moved[:size], vae.encoder), shaped(moved[size:], vae.decoder))

    ends = at(STEP), at(-STEP)
    before, after = (active_units(end, x, noise) for end in ends)
    assume(np.array_equal(before, after))
    high, low = (elbo_gradient(end, x, noise)[0].mean() for end in ends)
    got = np.concatenate([flat(network) for network in elbo_gradient(vae, x, noise)[1]])
    tolerance = RELATIVE * (1 + float(np.linalg.norm(got)))
    evidence.close(got @ along, (high - low) / (2 * STEP), rtol=RELATIVE, atol=tolerance)


def active_units(vae: Vae, x: Array, noise: Array) -> NDArray[np.bool_]:
    """Which hidden units of both networks are positive."""
    z = reparametrised(*encode(vae.encoder, x), noise)
    hidden = [activations(vae.encoder, x)[1], activations(vae.decoder, z)[1]]
    return np.asarray(np.concatenate(hidden, axis=1) > 0)


@proof(
    "L-1-MC",
    of=(elbo_analytic_kl, elbo_by_draw, reparametrised),
    oracle="Gauss-Hermite quadrature of scipy's densities of all three terms",
    given=(
        generators(),
        st.tuples(*[st.floats(-1.5, 1.5)] * 2),
        st.tuples(*[st.floats(-1.5, 1)] * 2),
    ),
    examples=20,
)
def estimators(
    evidence: Evidence,
    generator: np.random.Generator,
    mean: tuple[float, float],
    log_variance: tuple[float, float],
) -> None:
    """Both estimators have the ELBO as their mean, for a linear decoder of two latents."""
    deviation = np.exp(np.array(log_variance) / 2)

    def log_likelihood(z: Array) -> Array:
        return np.asarray(stats.norm.logpdf(1.1, z @ [0.8, -0.5] + 0.3, 0.6))

    # The log ratio is quadratic in z, for which four nodes in each direction are exact.
    nodes, weights = normal_grid(2, 4)
    z = mean + deviation * nodes.T
    log_ratio = stats.norm.logpdf(z) - stats.norm.logpdf(z, mean, deviation)
    elbo = weights @ (log_likelihood(z) + log_ratio.sum(axis=1))
    noise = generator.standard_normal((DRAWS, 2))
    moments = np.tile(mean, (DRAWS, 1)), np.tile(log_variance, (DRAWS, 1))
    for estimator in (elbo_analytic_kl, elbo_by_draw):
        evidence.mean(estimator(*moments, noise, log_likelihood), elbo)
    drawn = reparametrised(*moments, noise)
    evidence.mean(drawn, np.array(mean), "drawn latent")
    evidence.mean((drawn - mean) ** 2, deviation**2, "its squared distance")


@proof(
    "L-1-MC",
    of=elbo_gradient,
    oracle="differences of the quadrature of the ELBO",
    given=(generators(),),
    examples=10,
)
def reparametrised_gradient(evidence: Evidence, generator: np.random.Generator) -> None:
    """The gradient through the draw has the gradient of the ELBO as its mean."""
    vae = initial_vae(3, 1, generator, 4)
    x = generator.random((1, 3))
    moments = np.ravel(encode(vae.encoder, x))
    nodes = np.linspace(-9, 9, 20_001)

    def elbo(mean: float, log_variance: float) -> float:
        deviation = np.exp(log_variance / 2)
        logits = forward(vae.decoder, (mean + deviation * nodes)[:, None])
        log_p = -(x * np.logaddexp(0, -logits) + (1 - x) * np.logaddexp(0, logits)).sum(axis=1)
        average = integrate.trapezoid(stats.norm.pdf(nodes) * log_p, nodes)
        return float(average) - quad_kl(mean, deviation, 0.0, 1.0)

    # The quadrature is smooth to about 1e-7, and a step of 1e-3 errs by about as much.
    want = [(elbo(*(moments + h)) - elbo(*(moments - h))) / 2e-3 for h in 1e-3 * np.eye(2)]
    batches = [
        elbo_gradient(vae, np.repeat(x, 50, axis=0), generator.standard_normal((50, 1)))
        for _ in range(200)
    ]
    biases = np.array([by.encoder[-1].bias for _, by in batches])
    evidence.mean(biases, np.array(want), "gradient by mean and log variance")
    values = np.concatenate([value for value, _ in batches])
    evidence.mean(values, elbo(*moments), "estimate")
