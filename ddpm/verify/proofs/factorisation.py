"""Densities of whole paths against the multivariate normal law of all levels together."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp

from ddpm.reference.augmentation import reverse_step_kl
from ddpm.reference.chain import Chain
from ddpm.reference.factorisation import (
    forward_log_density,
    level_precision,
    reverse_log_density,
)
from ddpm.reference.mixture import Mixture
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, moderate_betas

# The covariance of eight moderate steps has a condition number below 1e5.
SOLVED = 1e-9


def joint_log_density(path: Array, mean: Array, covariance: Array) -> Array:
    """Log density of the levels as one normal vector, each coordinate of a sample on its own."""
    rows = np.moveaxis(path.reshape(*path.shape[:2], -1), 0, -1)
    law = stats.multivariate_normal(np.zeros(len(mean)), covariance)
    logs = np.asarray(law.logpdf(rows - mean)).reshape(rows.shape[:2])
    return np.asarray(logs.sum(axis=1))


@proof(
    "K-1..4", "L-2.1", "V-2", "G-1", "G-5",
    of=forward_log_density,
    oracle="scipy's multivariate normal with the joint covariance",
    given=(moderate_betas(), generators(), st.sampled_from([(3,), (2, 3), (2, 1, 2)])),
)  # fmt: skip
def forward(
    evidence: Evidence, steps: Array, rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    """The product of the steps is the joint law of all noisy levels given x_0."""
    path = rng.normal(size=(steps.size + 1, *shape))
    got = forward_log_density(Chain(steps), path)
    noise = joint_covariance(steps, 0.0)[1:, 1:]
    reach = joint_covariance(steps)[0, 1:]
    coordinates = path.reshape(*path.shape[:2], -1)
    flat = np.moveaxis(coordinates[1:], 0, -1) - coordinates[0][..., None] * reach
    law = stats.multivariate_normal(np.zeros(steps.size), noise)
    want = np.asarray(law.logpdf(flat)).reshape(shape[0], -1).sum(axis=1)
    evidence.close(got, want, rtol=SOLVED, atol=SOLVED, what="log q(x_{1:T} | x_0)")
    whole = got + stats.norm.logpdf(path[0]).reshape(shape[0], -1).sum(axis=1)
    joint = joint_log_density(path, np.zeros(steps.size + 1), joint_covariance(steps))
    evidence.close(whole, joint, rtol=SOLVED, atol=SOLVED, what="log q(x_{0:T})")


def assembled(gains: Array, shifts: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and covariance of a reverse chain x_{t-1} = gain x_t + shift + noise, solved at once."""
    size = gains.size + 1
    system = np.eye(size) - np.diag(gains, 1)
    inverse = np.linalg.inv(system)
    noise = np.diag(np.append(variances, 1.0))
    return inverse @ np.append(shifts, 0.0), inverse @ noise @ inverse.T


@proof(
    "K-16..19", "L-2.1", "V-3-joint", "G-6..8", "G-10", "G-11",
    of=reverse_log_density,
    oracle="scipy's multivariate normal with the assembled model's covariance",
    given=(st.integers(1, 6), generators(), st.sampled_from([(3,), (2, 3)])),
)  # fmt: skip
def reverse(
    evidence: Evidence, size: int, rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    """The product of the steps from N(0, I) down is the joint law of the model."""
    gains, shifts = rng.uniform(0.3, 1.2, size), rng.normal(size=size)
    variances = rng.uniform(0.1, 2.0, size)
    path = rng.normal(size=(size + 1, *shape))
    down = (size,) + (1,) * len(shape)
    means = gains.reshape(down) * path[1:] + shifts.reshape(down)
    want = joint_log_density(path, *assembled(gains, shifts, variances))
    each = np.broadcast_to(variances[:, None], (size, shape[0]))
    for spread in (variances, each, np.broadcast_to(variances.reshape(down), path[1:].shape)):
        got = reverse_log_density(path, means, spread)
        evidence.close(got, want, rtol=SOLVED, atol=SOLVED, what="log p(x_{0:T})")


@proof(
    "K-19", "G-7",
    of=reverse_log_density,
    oracle="scipy's normal densities of the steps",
    given=(generators(),),
)  # fmt: skip
def variances_that_depend_on_the_sample(evidence: Evidence, rng: np.random.Generator) -> None:
    """Mean and variance of a step may be any functions of the level before, as may p(x_T)."""
    path = rng.normal(size=(3, 4, 2))
    means, variances = np.tanh(path[1:]), 0.1 + path[1:] ** 2
    got = reverse_log_density(path, means, variances, 0.5, 2.0)
    steps = np.asarray(stats.norm.logpdf(path[:-1], means, np.sqrt(variances)))
    end = np.asarray(stats.norm.logpdf(path[-1], 0.5, np.sqrt(2.0)))
    want = steps.sum(axis=(0, 2)) + end.sum(axis=1)
    evidence.close(got, want, rtol=1e-12, atol=1e-12, what="log p(x_{0:T})")
    placed = reverse_log_density(path, means, variances, np.full((4, 2), 0.5), 2.0)
    evidence.close(placed, got, rtol=1e-15, what="terminal mean of every coordinate")


@proof(
    "T-fn6", "K-16..18", "G-9", "G-10",
    of=(reverse_log_density, level_precision),
    oracle="scipy's multivariate normal and regression in the joint covariance",
    given=(moderate_betas(min_steps=2), st.floats(0.2, 4), generators()),
)  # fmt: skip
def exact_reversal(
    evidence: Evidence, steps: Array, variance: float, rng: np.random.Generator
) -> None:
    """Noising run backwards is Markov: steps that see one level make up the joint law."""
    covariance = joint_covariance(steps, variance)
    path = rng.normal(size=(steps.size + 1, 3))
    means, variances = np.empty((steps.size, 3)), np.empty(steps.size)
    for t in range(1, steps.size + 1):
        weights, variances[t - 1] = condition(covariance, t - 1, range(t, steps.size + 1))
        evidence.close(weights[1:], 0.0, atol=1e-10, what="weights of levels after the next")
        means[t - 1] = weights[0] * path[t]
    got = reverse_log_density(path, means, variances, terminal_variance=covariance[-1, -1])
    want = joint_log_density(path, np.zeros(steps.size + 1), covariance)
    evidence.close(got, want, rtol=SOLVED, atol=SOLVED, what="log q(x_{0:T})")


@proof(
    "T-fn6", "G-4", "G-9",
    of=level_precision,
    oracle="inverse and regression of the joint covariance",
    given=(st.data(), moderate_betas(min_steps=2), st.floats(0.2, 4)),
)  # fmt: skip
def neighbours_suffice(
    evidence: Evidence, data: st.DataObject, steps: Array, variance: float
) -> None:
    """Given its two neighbours a level is independent of all others."""
    precision = level_precision(Chain(steps), variance)
    covariance = joint_covariance(steps, variance)
    unit = np.eye(steps.size + 1)
    evidence.close(precision @ covariance, unit, atol=1e-10, what="precision times covariance")
    far = np.abs(np.subtract.outer(np.arange(steps.size + 1), np.arange(steps.size + 1))) > 1
    evidence.equal(precision[far], np.zeros(far.sum()), "entries beyond the neighbours")
    t = data.draw(st.integers(0, steps.size))
    others = [level for level in range(steps.size + 1) if level != t]
    weights, rest = condition(covariance, t, others)
    want = -precision[t, others] / precision[t, t]
    evidence.close(weights, want, rtol=SOLVED, atol=1e-10, what="weights of the other levels")
    evidence.close(1 / precision[t, t], rest, rtol=SOLVED, what="variance that is left")


@proof(
    "T-fn6", "G-9",
    of=forward_log_density,
    oracle="the best denoiser of mixture data that sees one level",
    given=(moderate_betas(min_steps=3, max_steps=3), generators()),
    examples=20,
)  # fmt: skip
def markov_for_any_data(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """A later level adds nothing about x_0 to the level at hand, for data that are not normal."""
    data = Mixture(np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.2, 0.05]))
    chain, grid = Chain(steps), np.linspace(-6, 6, 2001)
    later = rng.normal(size=3)
    path = np.stack([grid, *(np.full_like(grid, value) for value in later)])
    weight = data.log_density(grid, 1.0, 0.0) + forward_log_density(chain, path)
    weight = np.exp(weight - logsumexp(weight))
    want = data.denoised(later[0], chain.c[1], chain.one_minus_alpha_bar[1])
    evidence.close(weight @ grid, want, rtol=1e-9, atol=1e-9, what="E[x_0 | x_1, x_2, x_3]")


@proof("V-3-joint", of=reverse_step_kl, oracle="the limit of small steps, and a large one")
def reverse_steps_are_normal_in_the_limit(evidence: Evidence) -> None:
    """Small betas make the reverse steps nearly normal; none makes them so for such data."""
    data = Mixture(np.array([0.5, 0.5]), np.array([-0.95, 0.95]), np.full(2, 1 - 0.95**2))
    kls = [reverse_step_kl(data, Chain([0.5, beta]), 1, 2) for beta in (0.5, 0.1, 0.01, 1e-3)]
    evidence.holds(np.diff(kls) < 0, "the divergence falls with beta")
    evidence.holds(np.array(kls) > 0, "it is never zero")
    # The skewness of a step falls with the square root of beta and enters with the third power.
    evidence.close(np.log10(kls[-2] / kls[-1]), 3.0, atol=0.1, what="order in beta")
    evidence.holds(reverse_step_kl(data, Chain([0.75]), 0, 1) > 0.4, "a large step is not normal")
