"""Sampling near a reference, against projections and covariances written as matrices."""

from functools import partial

import numpy as np
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.ilvr import (
    Filter,
    ilvr_sample,
    ilvr_step,
    low_pass,
    noisy_reference,
)
from ddpm.reference.parameterisations import predict_x0
from ddpm.reference.sampling import ancestral_step
from ddpm.reference.variances import Variance
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, moderate_betas

# Sums of a few dozen float64 products of order one.
ROUNDED = 1e-12
# A solve with a covariance of condition number below 1e4.
SOLVED = 1e-9
LENGTH, STEPS = 16, 60
DATA = 0.9 ** np.abs(np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH)))
UNIT = np.eye(LENGTH)
CHAIN = Chain(np.linspace(1e-4, 0.2, STEPS))


def projection(length: int, factor: int) -> Array:
    """Orthogonal projection onto what is constant on blocks, by least squares."""
    blocks = np.zeros((length, length // factor))
    blocks[np.arange(length), np.arange(length) // factor] = 1.0
    return np.asarray(blocks @ np.linalg.lstsq(blocks, np.eye(length), rcond=None)[0])


def interpolated(x: Array, factor: int) -> Array:
    """Block means, raised again by linear interpolation between the middles of the blocks."""
    means = x.reshape(len(x), -1, factor).mean(axis=-1)
    middles = np.arange(means.shape[1]) * factor + (factor - 1) / 2
    points = np.arange(x.shape[1])
    hats = np.stack([np.interp(points, middles, row) for row in np.eye(len(middles))])
    return np.asarray(means @ hats)


def nothing(x: Array) -> Array:
    """The filter that lets nothing pass."""
    return np.zeros_like(x)


@proof(
    "G-ILVR-phi",
    of=low_pass,
    oracle="least squares on the indicators of the blocks",
    given=(st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 3]), st.integers(1, 4)),
)
def orthogonal_projection(evidence: Evidence, factor: int, times: int, blocks: int) -> None:
    """The filter is the projection onto block constants: symmetric, idempotent, nested."""
    length = factor * times * blocks
    matrix = low_pass(np.eye(length), factor)
    evidence.close(matrix, projection(length, factor), atol=ROUNDED, what="matrix")
    evidence.close(matrix @ matrix, matrix, atol=ROUNDED, what="matrix applied twice")
    evidence.close(matrix.T, matrix, atol=ROUNDED, what="transpose")
    evidence.close(np.trace(matrix), length / factor, atol=ROUNDED, what="rank")
    coarse = low_pass(np.eye(length), factor * times)
    evidence.close(coarse @ matrix, coarse, atol=ROUNDED, what="coarse after fine")
    evidence.close(matrix @ coarse, coarse, atol=ROUNDED, what="fine after coarse")
    evidence.equal(low_pass(np.eye(length), 1), np.eye(length), "the filter of n = 1")


@proof(
    "G-ILVR-phi",
    of=low_pass,
    oracle="projection matrices on each axis",
    given=(generators(), st.sampled_from([1, 2, 3]), st.integers(1, 3), st.integers(1, 3)),
)
def every_axis(
    evidence: Evidence, rng: np.random.Generator, factor: int, rows: int, columns: int
) -> None:
    """Images are filtered along both axes, signals along the last; the others stay apart."""
    x = rng.normal(size=(2, 3, factor * rows, factor * columns))
    left, right = projection(factor * rows, factor), projection(factor * columns, factor)
    evidence.close(low_pass(x, factor, axes=2), left @ x @ right, atol=ROUNDED, what="images")
    evidence.close(low_pass(x, factor), x @ right, atol=ROUNDED, what="signals")


@proof(
    "G-ILVR-phi",
    of=(low_pass, ilvr_sample),
    oracle="block means of the reference",
    given=(generators(), moderate_betas(), st.sampled_from([1, 2, 3]), st.integers(1, 3)),
    examples=20,
)
def low_band_of_the_reference(
    evidence: Evidence, rng: np.random.Generator, betas: Array, factor: int, blocks: int
) -> None:
    """Whatever the network says, the samples have the low band of the reference; n = 1 is it."""
    chain, shape = Chain(betas), (2, factor * blocks)
    y, noise = rng.normal(size=shape), rng.normal(size=(2, betas.size + 1, *shape))
    for phi, same in ((partial(low_pass, factor=factor), factor == 1), (lambda x: x, True)):
        x = ilvr_sample(chain, lambda x, t: np.sin(x + t), y, noise[0], noise[1, 1:], phi)
        band = y if same else y.reshape(2, blocks, factor).mean(axis=-1).repeat(factor, axis=-1)
        kept = x if same else low_pass(x, factor)
        evidence.close(kept, band, atol=ROUNDED, what="low band")


@proof(
    "G-ILVR-phi",
    of=(low_pass, ilvr_sample),
    oracle="the same sampler with an interpolating filter",
)
def interpolation_is_no_projection(evidence: Evidence) -> None:
    """A filter that interpolates is not idempotent, and the low band of its samples is another."""
    matrix = interpolated(np.eye(LENGTH), 4)
    excess = np.abs(matrix @ matrix - matrix).max()
    evidence.close(excess, 0.051, atol=5e-4, what="excess of the filter applied twice")
    rng = np.random.default_rng(5)
    y, noise = rng.normal(size=(1, LENGTH)), rng.normal(size=(2, STEPS + 1, 1, LENGTH))
    gaps = []
    for phi in (partial(interpolated, factor=4), partial(low_pass, factor=4)):
        x = ilvr_sample(CHAIN, optimal_noise, y, noise[0], noise[1, 1:], phi)
        gaps.append(np.abs(phi(x) - phi(y)).max())
    evidence.at_most(gaps[1], ROUNDED, "gap of the low bands under the projection")
    evidence.at_most(1e-3, gaps[0], "a thousandth, against the gap under interpolation")


@proof(
    "G-51",
    of=noisy_reference,
    oracle="the joint covariance of all levels",
    given=(moderate_betas(), generators()),
)
def reference_at_a_level(evidence: Evidence, betas: Array, rng: np.random.Generator) -> None:
    """The reference at a level is what the chain makes of it; at level 0 it is itself."""
    chain, y, noise = Chain(betas), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    gains, spread = joint_covariance(betas)[0], np.diag(joint_covariance(betas, 0.0))
    for t in range(betas.size + 1):
        want = gains[t] * y + np.sqrt(spread[t]) * noise
        got = noisy_reference(chain, t, y, noise)
        evidence.close(got, want, rtol=ROUNDED, atol=ROUNDED, what="noisy reference")
    evidence.equal(noisy_reference(chain, 0, y, noise), y, "reference at level 0")


def replaced(
    chain: Chain,
    t: int,
    x_t: Array,
    eps: Array,
    reference: Array,
    noise: Array,
    reference_noise: Array,
    phi: Filter,
    variance: Variance = "posterior",
) -> Array:
    """One step from regressions in the joint covariance, with the clean sample that eps means."""
    covariance, silent = joint_covariance(chain.betas), joint_covariance(chain.betas, 0.0)
    clean = (x_t - np.sqrt(silent[t, t]) * eps) / covariance[0, t]
    if t == 1:
        drawn = clean
    else:
        (a, b), rest = condition(covariance, t - 1, [0, t])
        spread = rest if variance == "posterior" else condition(covariance, t, [t - 1])[1]
        drawn = a * clean + b * x_t + np.sqrt(spread) * noise
    s = t - 1
    target = covariance[0, s] * reference + np.sqrt(silent[s, s]) * reference_noise
    passed = phi(np.eye(x_t.shape[1]))
    return np.asarray(drawn - drawn @ passed + target @ passed)


Steps = tuple[Chain, int, Array, Array, Array, Array, Array, Filter, Variance]


@st.composite
def steps(draw: st.DrawFn, lowest: int = 1) -> Steps:
    """Arguments of a step: any chain and level, random samples, a filter, a variance."""
    betas = draw(moderate_betas(min_steps=lowest))
    rng, t = draw(generators()), draw(st.integers(lowest, betas.size))
    factor = draw(st.sampled_from([2, 3]))
    arrays = rng.normal(size=(5, 2, 2 * factor))
    filters = (partial(low_pass, factor=factor), nothing, partial(interpolated, factor=factor))
    variance: Variance = draw(st.sampled_from(("posterior", "beta")))
    return (Chain(betas), t, *arrays, draw(st.sampled_from(filters)), variance)


@proof(
    "G-Alg3",
    of=ilvr_step,
    oracle="regression in the joint covariance, and the filter as a matrix",
    given=(steps(),),
)
def step(evidence: Evidence, arguments: Steps) -> None:
    """The step is the ancestral draw with the part that the filter sees replaced."""
    got, want = ilvr_step(*arguments), replaced(*arguments)
    evidence.close(got, want, rtol=SOLVED, atol=SOLVED, what="x_{t-1}")


@proof(
    "G-Alg3",
    of=ilvr_step,
    oracle="the ancestral step with the same random numbers",
    given=(steps(),),
)
def without_a_filter(evidence: Evidence, arguments: Steps) -> None:
    """A filter that lets nothing pass leaves ancestral sampling, to the last bit."""
    chain, t, x_t, eps, _, noise, _, _, variance = arguments
    got = ilvr_step(*arguments[:7], nothing, variance)
    clean = predict_x0("eps", eps, x_t, chain, t)
    evidence.equal(got, ancestral_step(chain, t - 1, t, x_t, clean, noise, variance), "x_{t-1}")


SIDE = np.sqrt(0.55) * np.array([[-1.0, 1.0]])
FLAT = np.zeros((1, 2))


@misprint(
    "G-Alg3",
    of=ilvr_step,
    truth=replaced,
    oracle="regression in the joint covariance, and the filter as a matrix",
    # Without a sample, x_{t-1} is the weight of the noise; its high band passes the filter.
    counterexample=Counterexample(
        (Chain([0.1, 0.25, 0.45]), 3, FLAT, SIDE, FLAT, FLAT, FLAT, partial(low_pass, factor=2)),
        printed=[[0.6708, -0.6708]],
        right=[[0.5675, -0.5675]],
    ),
    search=(
        moderate_betas(min_steps=3).map(Chain),
        st.just(3),
        *[generators().map(lambda rng: rng.normal(size=(2, 4)))] * 5,
        st.just(partial(low_pass, factor=2)),
    ),
    rtol=SOLVED,
    atol=SOLVED,
)
def root_of_one_minus_alpha(
    chain: Chain,
    t: int,
    x_t: Array,
    eps: Array,
    reference: Array,
    noise: Array,
    reference_noise: Array,
    phi: Filter,
    variance: Variance = "posterior",
) -> Array:
    """Line 4 with sqrt(1 - alpha_t) under the noise, where sqrt(1 - alpha_bar_t) belongs."""
    enlarged = eps * chain.d[t] / np.sqrt(chain.betas[t - 1])
    return ilvr_step(chain, t, x_t, enlarged, reference, noise, reference_noise, phi, variance)


@proof(
    "G-Alg3",
    of=ilvr_step,
    oracle="the coefficient of the linear schedule of a thousand steps",
)
def size_of_the_misprint(evidence: Evidence) -> None:
    """At t = 500 of a thousand linear betas the printed weight is ten times too large."""
    chain, side = Chain(np.linspace(1e-4, 0.02, 1000)), np.array([[-1.0, 1.0]])
    beta = np.linspace(1e-4, 0.02, 1000)[499]
    kept = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:500])
    x = ilvr_step(chain, 500, FLAT, side, FLAT, FLAT, FLAT, partial(low_pass, factor=2))
    evidence.close(x[0, 0] * np.sqrt(1 - beta), beta / np.sqrt(1 - kept), rtol=ROUNDED)
    evidence.close(x[0, 0] * np.sqrt(1 - beta), 0.0105, atol=5e-5, what="weight of the noise")
    evidence.close(np.sqrt(beta), 0.1002, atol=5e-5, what="printed weight")


def optimal_noise(x: Array, t: int) -> Array:
    """E[eps | x_t] for data of covariance DATA, by regression."""
    kept = float(np.prod(1 - CHAIN.betas[:t]))
    return np.asarray(np.sqrt(1 - kept) * np.linalg.solve(kept * DATA + (1 - kept) * UNIT, x.T).T)


def exact_moments(phi: Array, shared: bool = False) -> dict[int, tuple[Array, Array]]:
    """At each level the gain from the reference to the sample and the covariance around it.

    Args:
        phi: the filter as a matrix.
        shared: whether the step and the noisy reference use one noise, as printed.
    """
    gain, covariance, moments = 0 * UNIT, UNIT, {}
    products, rest = np.cumprod([1.0, *(1 - CHAIN.betas)]), UNIT - phi
    for t in range(STEPS, 0, -1):
        beta, now, then = CHAIN.betas[t - 1], products[t], products[t - 1]
        weight = beta * np.linalg.inv(now * DATA + (1 - now) * UNIT)
        mean = rest @ (UNIT - weight) / np.sqrt(1 - beta)
        fresh, other = np.sqrt(beta * (t > 1)) * rest, np.sqrt(1 - then) * phi
        mixed = fresh @ other.T + other @ fresh.T if shared else 0 * UNIT
        gain = mean @ gain + np.sqrt(then) * phi
        covariance = mean @ covariance @ mean.T + fresh @ fresh.T + other @ other.T + mixed
        moments[t - 1] = gain, covariance
    return moments


def simulated(phi: Filter, shared: bool = False) -> tuple[Array, Array]:
    """The same at level 0 from the sampler itself, one sample for every number it takes in."""
    count = (2 * STEPS + 1) * LENGTH
    inputs = np.eye(count + LENGTH, count).reshape(-1, 2 * STEPS + 1, LENGTH).swapaxes(0, 1)
    if shared:
        inputs = inputs[: STEPS + 1]
        inputs = np.concatenate([inputs, inputs[:-1]])
    y = np.concatenate([np.zeros((count, LENGTH)), UNIT])
    first, second = inputs[: STEPS + 1], inputs[STEPS + 1 :]
    x = ilvr_sample(CHAIN, optimal_noise, y, first, second, phi, "beta")
    return x[count:].T, x[:count].T @ x[:count]


@proof(
    "G-Alg3", "G-Alg3/n",
    of=ilvr_sample,
    oracle="propagating mean and covariance through all steps as matrices",
)  # fmt: skip
def dependence_on_n(evidence: Evidence) -> None:
    """The smaller n, the nearer a sample lies to its reference; n = 1 returns the reference."""
    distances = []
    for factor in (1, 2, 4, 8, 16):
        gain, covariance = simulated(partial(low_pass, factor=factor))
        want = exact_moments(projection(LENGTH, factor))[0]
        evidence.close(gain, want[0], atol=ROUNDED, what="gain")
        evidence.close(covariance, want[1], atol=ROUNDED, what="covariance")
        gap = gain - UNIT
        distances.append(float(np.trace(gap @ DATA @ gap.T + covariance)))
    recorded = np.array([0.0, 1.33723, 3.18071, 6.53528, 12.21551])
    evidence.close(distances, recorded, atol=1e-5, what="E|x - y|^2")
    evidence.holds(np.diff(distances) > 0, "the distance grows with n")


@proof(
    "G-Alg3-eps",
    of=(ilvr_step, ilvr_sample),
    oracle="propagating mean and covariance through all steps as matrices",
)
def one_noise_for_both(evidence: Evidence) -> None:
    """One noise in both lines is harmless under a projection and wrong under another filter."""
    matrices = projection(LENGTH, 4), interpolated(UNIT, 4).T
    filters = partial(low_pass, factor=4), partial(interpolated, factor=4)
    change = []
    for matrix, phi in zip(matrices, filters, strict=True):
        apart, shared = exact_moments(matrix), exact_moments(matrix, shared=True)
        for moments, once in ((apart, False), (shared, True)):
            gain, covariance = simulated(phi, once)
            evidence.close(gain, moments[0][0], atol=ROUNDED, what="gain")
            evidence.close(covariance, moments[0][1], atol=ROUNDED, what="covariance")
        change.append([np.abs(shared[t][1] - apart[t][1]).max() for t in (30, 0)])
    evidence.close(change[0], np.zeros(2), atol=ROUNDED, what="change under the projection")
    evidence.close(change[1], np.array([0.04405, 0.00064]), atol=1e-5, what="change otherwise")
