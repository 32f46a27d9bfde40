"""The weighted likelihood, averaged over three variables, becomes the two famous objectives."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from ddpm.reference.chain import Chain
from ddpm.reference.likelihood_objective import (
    simplified_constant,
    simplified_objective,
    snr_objective,
)
from ddpm.reference.objectives import simple_weight
from ddpm.reference.parameterisations import Prediction
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance, normal_grid, quad_kl
from ddpm.verify.proofs.likelihood_objective import AVERAGE, DATA, NODES, adjacent, network
from ddpm.verify.proofs.objectives import mean_of, step_variances
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, generators, moderate_betas

Network = Callable[[Array], Array]


def log_likelihood(kind: Prediction, net: Network, steps: Array, t: int) -> float:
    """L_{t-1} with nothing averaged by hand; variance beta for eps, the posterior's for x0."""
    _, x_s, x_t, weights = adjacent(steps, t)
    mean = mean_of(kind, net(x_t), x_t, steps, t - 1, t)
    variance = step_variances(steps, t - 1, t, "posterior" if kind == "x0" else "beta")[1]
    return float(weights @ stats.norm.logpdf(x_s, mean, np.sqrt(variance)))


def squared_error(kind: Prediction, net: Network, steps: Array, t: int) -> float:
    """Mean squared error of a network at a level, over the clean sample and the whole noise."""
    (z, eps), weights = normal_grid(2, 2 * NODES)
    gain, variance = condition(joint_covariance(steps), t, [0])
    total = 0.0
    for share, mean, spread in zip(DATA.weights, DATA.means, DATA.variances, strict=True):
        x0 = mean + np.sqrt(spread) * z
        output = net(gain[0] * x0 + np.sqrt(variance) * eps)
        total += share * float(weights @ ((x0 if kind == "x0" else eps) - output) ** 2)
    return total


@proof(
    "T-2.6-simple",
    of=(simplified_objective, simplified_constant, simple_weight),
    oracle="three-dimensional Gauss-Hermite averages of scipy's density over mixture data",
    given=(moderate_betas(max_steps=3), generators()),
    examples=10,
)
def simplified(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """Weighted likelihood is the simplified objective and a constant, for any two networks."""
    chain, levels = Chain(steps), range(1, steps.size + 1)
    found = []
    for _ in range(2):
        net = network(rng)
        values = [log_likelihood("eps", net, steps, t) for t in levels]
        weighted = float(simple_weight(chain, np.array(levels)) @ values)
        errors = [squared_error("eps", net, steps, t) for t in levels]
        average = -len(levels) / 2 * float(np.mean(errors))
        evidence.close(simplified_objective(chain, errors), average, rtol=1e-12, what="-T/2 mean")
        found.append(weighted - simplified_objective(chain, errors))
    evidence.close(found[1], found[0], what="what the networks do not change", **AVERAGE)
    evidence.close(simplified_constant(chain), found[0], what="constant", **AVERAGE)


@proof(
    "T-eq3",
    of=snr_objective,
    oracle="three-dimensional Gauss-Hermite averages of scipy's density over mixture data",
    given=(moderate_betas(max_steps=3, min_steps=2), generators()),
    examples=10,
)
def drop_of_the_ratio(evidence: Evidence, steps: Array, rng: np.random.Generator) -> None:
    """Between two networks the likelihood of levels 2..T differs as the objective does."""
    chain, levels = Chain(steps), range(2, steps.size + 1)
    likelihoods, objectives, errors = [], [], []
    for _ in range(2):
        net = network(rng)
        likelihoods.append(sum(log_likelihood("x0", net, steps, t) for t in levels))
        errors.append([squared_error("x0", net, steps, t) for t in levels])
        objectives.append(snr_objective(chain, errors[-1]))
    gap = objectives[1] - objectives[0]
    # The weights and the variances of regressions both enter with the SNR, up to fifty.
    evidence.close(gap, likelihoods[1] - likelihoods[0], rtol=1e-7, atol=1e-8, what="difference")
    worse = snr_objective(chain, np.add(errors[0], 0.1))
    evidence.holds(worse < objectives[0], "an error lowers what is to be maximised")


def by_divergences(chain: Chain, errors: Array) -> Array:
    """Loss of likelihood at levels 2..T, from regressions and quadrature."""
    total = 0.0
    for t, error in enumerate(np.asarray(errors).tolist(), start=2):
        weights, s2 = condition(joint_covariance(chain.betas), t - 1, [0, t])
        total -= quad_kl(0, np.sqrt(s2), weights[0] * np.sqrt(error), np.sqrt(s2))
    return np.array(total)


@misprint(
    "T-eq3",
    of=snr_objective,
    truth=by_divergences,
    oracle="regressions in the joint covariance, and quadrature",
    counterexample=Counterexample(
        (Chain([0.1, 0.2]), np.array([1.0])), printed=3.214286, right=-3.214286
    ),
    search=(
        moderate_betas(min_steps=4, max_steps=4).map(Chain),
        generators().map(lambda rng: rng.uniform(0.1, 2, 3)),
    ),
    rtol=1e-7,
)
def sign_of_the_drop(chain: Chain, errors: Array) -> float:
    """SNR(t) - SNR(t-1) as weight, which is negative and rewards an error."""
    t = np.arange(2, chain.steps + 1)
    return -float(np.sum((chain.snr[t] - chain.snr[t - 1]) * np.asarray(errors))) / 2
