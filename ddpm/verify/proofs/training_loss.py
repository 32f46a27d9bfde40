"""The loss of the training loop against enumeration, regressions and numerical minimisation."""

import numpy as np
from hypothesis import strategies as st
from scipy import optimize, stats

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.mixture import Mixture
from ddpm.reference.objectives import (
    bound_weight,
    noise_loss,
    noise_weight,
    simple_loss,
    weighted_loss,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid
from ddpm.verify.proofs.objectives import WEIGHT, conditioned_weight
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, moderate_betas, shapes

# Sums of a few numbers of size one.
ROUNDING = {"rtol": 1e-12, "atol": 1e-300}


@proof(
    "K-79", "V-simple", "G-41", "L-2.12",
    of=(simple_loss, weighted_loss),
    oracle="a loop over samples and elements",
    given=(shapes(min_batch=1), generators()),
)  # fmt: skip
def element_by_element(
    evidence: Evidence, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    """Each sample's loss is the mean of its squares; times its size, the squared norm."""
    target, output = rng.normal(size=(2, *shape))
    weight = rng.uniform(size=shape[0])
    simple, weighted = simple_loss(target, output), weighted_loss(target, output, weight)
    for i in range(shape[0]):
        pairs = list(zip(np.ravel(target[i]), np.ravel(output[i]), strict=True))
        want = sum((a - b) ** 2 for a, b in pairs) / max(len(pairs), 1)
        evidence.close(simple[i], want, what="simple loss", **ROUNDING)
        evidence.close(weighted[i], weight[i] * want, what="weighted loss", **ROUNDING)
        norm = np.linalg.norm(np.ravel(target[i] - output[i])) ** 2
        evidence.close(simple[i] * len(pairs), norm, what="squared norm", **ROUNDING)


@proof(
    "V-alg1", "G-Alg1", "G-41", "K-79",
    of=noise_loss,
    oracle="the joint covariance's gains, sample by sample",
    given=(st.data(), moderate_betas(), generators()),
)  # fmt: skip
def turn_of_the_loop(
    evidence: Evidence, data: st.DataObject, steps: Array, rng: np.random.Generator
) -> None:
    """The network sees x_t of its sample's level and is compared with the noise that made it."""
    batch = data.draw(st.integers(1, 4))
    t = np.array(data.draw(st.lists(st.integers(1, steps.size), min_size=batch, max_size=batch)))
    x0, noise = rng.normal(size=(2, batch, 3))

    def network(x_t: Array, level: Levels) -> Array:
        return np.asarray(np.sin(x_t) + np.reshape(level, (-1, 1)))

    covariance, want = joint_covariance(steps), []
    for i, level in enumerate(t.tolist()):
        gain, variance = condition(covariance, level, [0])
        x_t = gain[0] * x0[i] + np.sqrt(variance) * noise[i]
        want.append(np.mean((noise[i] - np.sin(x_t) - level) ** 2))
    got = noise_loss(network, x0, Chain(steps), t, noise)
    evidence.close(got, want, rtol=1e-11, what="loss")
    same = noise_loss(network, x0, Chain(steps), int(t[0]), noise)
    evidence.close(same[0], want[0], rtol=1e-11, what="loss at one level for all")


@proof(
    "G-Alg1", "V-alg1", "G-41",
    of=noise_loss,
    oracle="regression of the noise on x_t in the joint covariance",
    given=(moderate_betas(min_steps=2), st.floats(0.3, 3)),
    examples=15,
)  # fmt: skip
def training_finds_the_regression(evidence: Evidence, steps: Array, data_variance: float) -> None:
    """With a slope for each level, the loss averaged over uniform t is least at the regressions."""
    chain, levels = Chain(steps), np.arange(1, steps.size + 1)
    x0, noise, probability = gaussian_nodes(data_variance)
    t = np.repeat(levels, x0.size)
    clean, drawn = np.tile(x0, levels.size)[:, None], np.tile(noise, levels.size)[:, None]

    def objective(slopes: Array) -> float:
        losses = noise_loss(lambda x, _: slopes[t - 1, None] * x, clean, chain, t, drawn)
        return float(np.mean(losses.reshape(levels.size, -1) @ probability))

    found = optimize.minimize(objective, np.zeros(levels.size), method="BFGS", tol=1e-9)
    want = []
    for level in levels.tolist():
        gain, spread = condition(joint_covariance(steps), level, [0])
        want.append(np.sqrt(spread) / (gain[0] ** 2 * data_variance + spread))
    # The optimiser's differences leave the root of rounding.
    evidence.close(found.x, want, atol=1e-5, what="slopes")


def gaussian_nodes(data_variance: float) -> tuple[Array, Array, Array]:
    """Nodes of x_0 and eps, independent normal, with weights exact for quadratics."""
    (x0, eps), probability = normal_grid(2, 3)
    return np.sqrt(data_variance) * x0, eps, probability


@proof(
    "K-79", "G-41",
    of=noise_loss,
    oracle="quadrature over mixture data, for the best network and others",
    given=(st.floats(0.05, 0.6), st.floats(-0.5, 0.5), st.floats(0.2, 2)),
    examples=20,
)  # fmt: skip
def least_at_the_conditional_mean(
    evidence: Evidence, beta: float, amount: float, speed: float
) -> None:
    """E[eps | x_t] has the least loss; another network loses its mean squared distance to it."""
    data = Mixture(np.array([0.4, 0.6]), np.array([-1.0, 0.7]), np.array([0.2, 0.1]))
    chain = Chain([beta])
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    x0 = (data.means[:, None] + np.sqrt(data.variances)[:, None] * nodes).ravel()
    chance = np.outer(data.weights, weights / weights.sum()).ravel()
    clean, noise = (axis.ravel()[:, None] for axis in np.meshgrid(x0, nodes))
    probability = np.outer(weights / weights.sum(), chance).ravel()
    c, d = np.sqrt(1 - beta), np.sqrt(beta)

    def best(x: Array, _: Levels) -> Array:
        step = 1e-4
        rise = data.log_density(x + step, c, beta) - data.log_density(x - step, c, beta)
        return np.asarray(-d * rise / (2 * step))

    def other(x: Array, t: Levels) -> Array:
        return np.asarray(best(x, t) + amount * np.sin(speed * x))

    losses = [float(probability @ noise_loss(f, clean, chain, 1, noise)) for f in (best, other)]
    apart = probability @ (amount * np.sin(speed * (c * clean + d * noise))).ravel() ** 2
    # The slope of the log density is a difference of width 1e-4.
    evidence.close(losses[1] - losses[0], apart, rtol=1e-5, atol=1e-6, what="excess")
    evidence.holds(losses[0] > 0.01, "even the best network has a loss")


def conditioned_noise_weight(chain: Chain, t: int, decoder_variance: float) -> Array:
    """Divergence or loss of log density that a unit error of the noise causes."""
    if t > 1:
        return conditioned_weight("eps", chain, t - 1, t)
    gain, variance = condition(joint_covariance(chain.betas), 1, [0])
    x_1 = gain[0] * 0.4 + np.sqrt(variance) * 0.7
    means = [(x_1 - np.sqrt(variance) * eps) / gain[0] for eps in (0.7, 1.7)]
    log_p = stats.norm.logpdf(0.4, means, np.sqrt(decoder_variance))
    return np.asarray(-np.diff(log_p)[0])


@proof(
    "L-2.12", "L-2.11-gamma0",
    of=noise_weight,
    oracle="regressions in the joint covariance, quadrature, scipy's density at level 1",
    given=(st.data(), moderate_betas(), st.floats(0.01, 2)),
)  # fmt: skip
def weights_of_all_levels(
    evidence: Evidence, data: st.DataObject, steps: Array, decoder_variance: float
) -> None:
    """gamma_t is what a unit error costs the bound; the first level's comes from the decoder."""
    t, chain = data.draw(st.integers(1, steps.size)), Chain(steps)
    want = conditioned_noise_weight(chain, t, decoder_variance)
    evidence.close(noise_weight(chain, t, decoder_variance), want, what="gamma", **WEIGHT)


def shared_slope(steps: Array, data_variance: float, weights: Array) -> float:
    """The slope k of a noise k x_t, one for all levels, with the least weighted loss."""
    chain, (x0, noise, probability) = Chain(steps), gaussian_nodes(data_variance)

    def objective(slope: float) -> float:
        total = 0.0
        for t, weight in enumerate(weights.tolist(), start=1):
            losses = noise_loss(lambda x, _: slope * x, x0[:, None], chain, t, noise[:, None])
            total += weight * float(probability @ losses)
        return total

    return float(optimize.minimize_scalar(objective, bracket=(0.1, 0.5), tol=1e-10).x)


@proof(
    "L-2.12", "K-79",
    of=(noise_weight, noise_loss),
    oracle="numerical minimisation, and the regression of each level",
)  # fmt: skip
def weights_matter_where_levels_share(evidence: Evidence) -> None:
    """Levels with a slope of their own ignore the weights; one slope for all does not."""
    steps, data_variance = np.linspace(0.01, 0.3, 10), 2.5
    chain = Chain(steps)
    gamma = noise_weight(chain, np.arange(1, 11), steps[0])
    one = shared_slope(steps, data_variance, np.ones(10))
    bound = shared_slope(steps, data_variance, gamma)
    evidence.close([one, bound], [0.2993, 0.1942], atol=5e-5, what="shared slopes")
    step = shared_slope(steps, data_variance, bound_weight_of_beta(chain))
    evidence.close(step, 0.2502, atol=5e-5, what="shared slope with the weights of variance beta")
    for t in range(1, 11):
        alone = np.zeros(10)
        alone[t - 1] = 1.0
        apart = shared_slope(steps, data_variance, alone)
        weighted = shared_slope(steps, data_variance, alone * gamma)
        evidence.close(weighted, apart, atol=1e-6, what="slope of one level")
    evidence.holds(np.isfinite(gamma), "gamma_1 is not that of the later levels, infinite at 1")


def bound_weight_of_beta(chain: Chain) -> Array:
    """beta^2 / (2 sigma^2 alpha (1 - alpha_bar)) with sigma^2 = beta, the first level included."""
    later = np.arange(2, chain.steps + 1)
    first = chain.betas[0] ** 2 / (2 * chain.betas[0] * (1 - chain.betas[0]) * chain.betas[0])
    return np.concatenate([[first], bound_weight("eps", chain, later - 1, later, "beta")])
