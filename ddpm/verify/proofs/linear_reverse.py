"""The linear reverse chain against the joint law of its levels, and what its bounds are held to."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.chain import Chain
from ddpm.reference.elbo import BoundTerms
from ddpm.reference.linear_reverse import LinearReverse, exact_reverse
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, moderate_betas

# Sums of a few log densities of size 1 to 100, each good to some ulp.
RTOL, ATOL = 1e-10, 1e-11


class Case(NamedTuple):
    """A noising chain, a reverse chain that does not fit it, and a clean sample."""

    chain: Chain
    model: LinearReverse
    x0: float


# The example of the ledger: bound -1.285789 and log evidence -1.17076.
EXAMPLE = Case(
    Chain([0.1, 0.25, 0.45]),
    LinearReverse(
        np.array([1.05, 0.9, 0.8]), np.array([0.05, -0.1, 0.2]), np.array([0.35, 0.5, 0.6]) ** 2
    ),
    0.7,
)


class Densities(NamedTuple):
    """Log densities along paths: q(x_t | x_{t-1}) and p(x_{t-1} | x_t), (T, N), and p(x_T)."""

    forward: Array
    reverse: Array
    terminal: Array

    @property
    def ratio(self) -> Array:
        """Log of q(x_{1:T} | x_0) / p(x_{0:T}), shape (N,)."""
        return np.asarray(self.forward.sum(axis=0) - self.reverse.sum(axis=0) - self.terminal)


@st.composite
def cases(draw: st.DrawFn, max_steps: int = 3, min_steps: int = 1) -> Case:
    """Chains of a few steps and reverse chains of any linear steps; one seed gives the numbers."""
    betas = draw(moderate_betas(max_steps=max_steps, min_steps=min_steps))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    slopes, shifts = rng.uniform(-0.3, 1.3, betas.size), rng.uniform(-0.5, 0.5, betas.size)
    variances = rng.uniform(0.1, 1.0, betas.size)
    terminal = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.4, 2.0))
    return Case(
        Chain(betas), LinearReverse(slopes, shifts, variances, *terminal), float(rng.normal())
    )


def noised(betas: Array, x0: Array, noise: Array) -> Array:
    """Paths made step by step from clean samples (N,) and noise (T, N), shape (T + 1, N, 1)."""
    path = [x0]
    for beta, eps in zip(betas, noise, strict=True):
        path.append(np.sqrt(1 - beta) * path[-1] + np.sqrt(beta) * eps)
    return np.stack(path)[..., None]


def all_paths(chain: Chain, x0: float) -> tuple[Array, Array]:
    """Paths from x0 on a grid and their probabilities, exact for squares of the levels."""
    noise, probabilities = normal_grid(chain.steps, 3)
    return noised(chain.betas, np.full(noise.shape[1], x0), noise), probabilities


def densities(chain: Chain, model: LinearReverse, path: Array) -> Densities:
    """Log densities of scipy along paths of one coordinate, shape (T + 1, N, 1)."""
    x, betas = path[..., 0], chain.betas[:, None]
    slopes, shifts = model.slopes[:, None], model.shifts[:, None]
    means, deviations = slopes * x[1:] + shifts, np.sqrt(model.variances)[:, None]
    terminal = stats.norm.logpdf(x[-1], model.terminal_mean, np.sqrt(model.terminal_variance))
    return Densities(
        np.asarray(stats.norm.logpdf(x[1:], np.sqrt(1 - betas) * x[:-1], np.sqrt(betas))),
        np.asarray(stats.norm.logpdf(x[:-1], means, deviations)),
        np.asarray(terminal),
    )


def conditioned_terms(chain: Chain, model: LinearReverse, path: Array) -> BoundTerms:
    """Terms of the log ratio along paths, with the laws of q by conditioning its covariance."""
    x, covariance, along = (
        path[..., 0],
        joint_covariance(chain.betas),
        densities(chain, model, path),
    )
    weights, rest = condition(covariance, chain.steps, [0])
    prior = stats.norm.logpdf(x[-1], weights[0] * x[0], np.sqrt(rest)) - along.terminal
    kls = []
    for t in range(2, chain.steps + 1):
        (a, b), rest = condition(covariance, t - 1, [0, t])
        posterior = stats.norm.logpdf(x[t - 1], a * x[0] + b * x[t], np.sqrt(rest))
        kls.append(posterior - along.reverse[t - 1])
    return BoundTerms(prior, np.reshape(kls, (-1, x.shape[1])), -along.reverse[0])


def model_joint(model: LinearReverse) -> tuple[Array, Array]:
    """Mean and covariance of (x_0..x_T), by running the steps on coefficients of unit normals."""
    steps = model.steps
    rows, mean = np.zeros((steps + 1, steps + 1)), np.zeros(steps + 1)
    rows[steps, steps], mean[steps] = np.sqrt(model.terminal_variance), model.terminal_mean
    for t in range(steps, 0, -1):
        rows[t - 1] = model.slopes[t - 1] * rows[t]
        rows[t - 1, t - 1] = np.sqrt(model.variances[t - 1])
        mean[t - 1] = model.slopes[t - 1] * mean[t] + model.shifts[t - 1]
    return mean, rows @ rows.T


def model_log_evidence(model: LinearReverse, x0: Array) -> Array:
    """Log p(x_0) from the joint law of all levels."""
    mean, covariance = model_joint(model)
    return np.asarray(stats.norm.logpdf(x0, mean[0], np.sqrt(covariance[0, 0])))


@proof(
    "T-4.3-elbo", "K-45",
    of=LinearReverse.log_density,
    oracle="scipy's multivariate normal with the covariance of all levels",
    given=(cases(max_steps=5), st.integers(1, 3)),
)  # fmt: skip
def joint_density(evidence: Evidence, case: Case, elements: int) -> None:
    """The model's steps multiply to its joint density, coordinates being independent."""
    path = np.random.default_rng(0).normal(size=(case.chain.steps + 1, 4, elements))
    want = stats.multivariate_normal(*model_joint(case.model)).logpdf(np.moveaxis(path, 0, -1))
    got = case.model.log_density(path)
    evidence.close(
        got, np.reshape(want, (4, elements)).sum(axis=1), rtol=1e-9, atol=1e-9, what="log p(path)"
    )
    terminal = case.model.log_terminal(path[-1])
    steps = [case.model.log_step(t, path[t - 1], path[t]) for t in range(1, case.model.steps + 1)]
    evidence.close(terminal + sum(steps), got, rtol=RTOL, atol=ATOL, what="sum of the steps")


@proof(
    "T-fn5", "G-13",
    of=(LinearReverse.evidence, LinearReverse.log_evidence),
    oracle="integrating one latent after the other on a grid",
    given=(cases(),),
    examples=15,
)  # fmt: skip
def latents_integrated(evidence: Evidence, case: Case) -> None:
    """The evidence is the joint density integrated over x_1, ..., x_T."""
    # Steps have a deviation of at least 0.3, so that points 0.05 apart resolve them to 1e-12, and
    # no level leaves -12..12.
    model, x = case.model, np.linspace(-12, 12, 481)
    density = stats.norm.pdf(x, model.terminal_mean, np.sqrt(model.terminal_variance))
    for t in range(model.steps, 0, -1):
        means, deviation = model.mean(t, x), np.sqrt(model.variances[t - 1])
        density = stats.norm.pdf(x[:, None], means, deviation) @ density * (x[1] - x[0])
    middle = abs(x) < 2
    got = np.exp(model.log_evidence(x[middle, None]))
    evidence.close(got, density[middle], rtol=1e-9, atol=1e-12, what="p(x_0)")
    mean, covariance = model_joint(model)
    evidence.close(model.evidence(), [mean[0], covariance[0, 0]], rtol=RTOL, what="moments")


@proof("G-13", of=LinearReverse.log_evidence, oracle="a value recorded elsewhere")
def recorded_evidence(evidence: Evidence) -> None:
    """The example has an evidence of 0.310130042."""
    got = np.exp(EXAMPLE.model.log_evidence(np.array([[EXAMPLE.x0]])))
    evidence.close(got, 0.310130042, atol=1e-9, what="p(x_0)")


@proof(
    "L-2.3-tight",
    of=exact_reverse,
    oracle="the covariance of all levels of the noised data",
    given=(moderate_betas(), st.floats(-2, 2), st.floats(0.05, 4)),
)
def reversal(evidence: Evidence, steps: Array, mean: float, variance: float) -> None:
    """The reverse chain of Gaussian data has the law of the noised data at all levels together."""
    got_mean, got = model_joint(exact_reverse(Chain(steps), mean, variance))
    gains = np.sqrt(np.cumprod(np.concatenate([[1.0], 1 - steps])))
    evidence.close(got_mean, mean * gains, rtol=1e-9, atol=1e-10, what="means")
    want = joint_covariance(steps, variance)
    evidence.close(got, want, rtol=1e-9, atol=1e-10, what="covariance")


@proof(
    "T-fn30",
    of=LinearReverse.log_step,
    oracle="scipy's normal density, and quadrature of the mass",
    given=(cases(), st.floats(-2, 2)),
)
def conditioned_on_the_noisier(evidence: Evidence, case: Case, noisier: float) -> None:
    """A step is a density of the cleaner level for each value of the noisier one."""
    model, t = case.model, case.model.steps
    mean = model.slopes[t - 1] * noisier + model.shifts[t - 1]
    deviation = float(np.sqrt(model.variances[t - 1]))
    x = mean + deviation * np.linspace(-3, 3, 5)[:, None]
    got = model.log_step(t, x, np.full_like(x, noisier))
    want = stats.norm.logpdf(x[:, 0], mean, deviation)
    evidence.close(got, want, rtol=RTOL, atol=ATOL, what="log p(x_{t-1} | x_t)")

    def density(x: Array) -> Array:
        return np.exp(model.log_step(t, x[:, None], np.full((x.size, 1), noisier)))

    reach = 12 * deviation
    mass = integrate.fixed_quad(density, mean - reach, mean + reach, n=120)[0]
    evidence.close(mass, 1.0, atol=1e-10, what="mass")


# A grid on which the printed density of the search has nearly all its mass, 1 / |1 - k|.
CLEANER = np.linspace(-30, 30, 2001)[:, None]


def mass(log_densities: Array) -> Array:
    """Integral over the grid."""
    return np.asarray(np.exp(log_densities).sum() * (CLEANER[1, 0] - CLEANER[0, 0]))


def scipy_step(model: LinearReverse, t: int, cleaner: Array, noisier: Array) -> Array:
    """Log p(x_{t-1} | x_t) by scipy."""
    mean = model.slopes[t - 1] * noisier[:, 0] + model.shifts[t - 1]
    return np.asarray(stats.norm.logpdf(cleaner[:, 0], mean, np.sqrt(model.variances[t - 1])))


@misprint(
    "T-fn30",
    of=LinearReverse.log_step,
    truth=scipy_step,
    oracle="scipy's normal density, which has mass one",
    counterexample=Counterexample(
        (
            LinearReverse(np.array([0.5]), np.array([0.0]), np.array([0.16])),
            1,
            CLEANER,
            np.full_like(CLEANER, 0.3),
        ),
        printed=2.0,
        right=1.0,
    ),
    search=(
        st.floats(0.2, 0.8).map(
            lambda k: LinearReverse(np.array([k]), np.array([0.1]), np.array([0.16]))
        ),
        st.just(1),
        st.just(CLEANER),
        st.floats(-2, 2).map(lambda x: np.full_like(CLEANER, x)),
    ),
    value=mass,
)
def conditioned_on_itself(model: LinearReverse, t: int, cleaner: Array, _: Array) -> Array:
    """A step conditioned on the level that it gives, which is no density."""
    return model.log_step(t, cleaner, cleaner)
