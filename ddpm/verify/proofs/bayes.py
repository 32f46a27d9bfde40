"""The rule of Bayes behind the posterior: densities, products of Gaussians, the drop of the SNR."""

import numpy as np
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.chain import Chain, Levels
from ddpm.reference.posterior import gaussian_product, posterior_log_density
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, level_pairs, moderate_betas

# A solve leaves 1e-11 (see the proofs of the posterior), a trapezoid sum of a Gaussian whose
# deviation is seven spacings or more 1e-13; a quotient of densities adds their logarithms' errors.
NUMBERS = st.floats(-2.0, 2.0)
FACTORS = (NUMBERS, st.floats(0.1, 2.0), NUMBERS, NUMBERS, st.floats(0.1, 2.0))


def log_conditional(covariance: Array, target: int, x: float, known: dict[int, float]) -> float:
    """Log density by scipy of a level at x given the values of others."""
    weights, rest = condition(covariance, target, list(known))
    return float(stats.norm.logpdf(x, weights @ list(known.values()), np.sqrt(rest)))


@proof(
    "L-2.2", "G-18", "G-19", "G-33",
    of=posterior_log_density,
    oracle="three of scipy's densities, each by conditioning the joint covariance",
    given=(st.data(), moderate_betas(min_steps=2), st.tuples(NUMBERS, NUMBERS, NUMBERS)),
)  # fmt: skip
def rule_of_bayes(
    evidence: Evidence, data: st.DataObject, steps: Array, point: tuple[float, float, float]
) -> None:
    """The step's density is the posterior's times q(x_t | x_0) / q(x_s | x_0), and has no x_0."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    x0, x_s, x_t = np.array(point)
    covariance = joint_covariance(steps)
    weights, _ = condition(covariance, t, [0, s])
    evidence.close(weights[0], 0.0, atol=1e-10, what="weight of x_0 in the step")
    step = log_conditional(covariance, t, x_t, {0: x0, s: x_s})
    cleaner = log_conditional(covariance, s, x_s, {0: x0})
    noisier = log_conditional(covariance, t, x_t, {0: x0})
    arguments = (np.array([[x]]) for x in (x0, x_t, x_s))
    got = posterior_log_density(Chain(steps), s, t, *arguments)
    evidence.close(got, [[step + cleaner - noisier]], rtol=1e-8, atol=1e-8, what="log density")


def multiplied(
    mean: float, variance: float, slope: float, target: float, noise: float
) -> tuple[Array, Array]:
    """Mean and variance of the product of two densities on a grid."""
    x = mean + np.sqrt(variance) * np.linspace(-25, 25, 4001)
    weight = stats.norm.pdf(x, mean, np.sqrt(variance))
    weight *= stats.norm.pdf(target, slope * x, np.sqrt(noise))
    centre = np.average(x, weights=weight)
    return centre, np.average((x - centre) ** 2, weights=weight)


@proof(
    "T-4.1.3",
    of=gaussian_product,
    oracle="moments of the product of two of scipy's densities on a grid",
    given=FACTORS,
)
def product_of_gaussians(evidence: Evidence, *factors: float) -> None:
    """The product of two Gaussians in x, one of them seen through a slope, has these moments."""
    evidence.close(
        gaussian_product(*factors), multiplied(*factors), rtol=1e-9, atol=1e-9, what="moments"
    )


@proof(
    "T-4.1.3",
    of=gaussian_product,
    oracle="a point mass that no observation moves, and conditioning for the posterior's case",
    given=(st.data(), moderate_betas(), FACTORS[0], FACTORS[2]),
)
def product_of_a_point_mass(
    evidence: Evidence, data: st.DataObject, steps: Array, x0: float, x_t: float
) -> None:
    """With variance 0 the first factor is the answer; with the chain's own it is the posterior."""
    s, t = data.draw(level_pairs(steps.size))
    covariance = joint_covariance(steps)
    (to_s,), clean = condition(covariance, s, [0])
    (gain,), noise = condition(covariance, t, [s])
    weights, rest = condition(covariance, s, [0, t])
    got = gaussian_product(to_s * x0, max(clean, 0.0), gain, x_t, noise)
    evidence.close(
        got, np.array([weights @ [x0, x_t], rest]), rtol=1e-9, atol=1e-10, what="posterior"
    )
    still = gaussian_product(x0, 0.0, gain, x_t, noise)
    evidence.equal(still, [x0, 0.0], "point mass")


@proof(
    "T-fn28",
    of=Chain.snr_drop,
    oracle="a^2 / s2 with a and s2 by conditioning the joint covariance",
    given=(st.data(), moderate_betas(min_steps=2)),
)
def drop_of_the_snr(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """The squared weight of x_0 over the posterior variance is SNR(s) - SNR(t)."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    want = squared_weight_over_variance(chain, s, t)
    evidence.close(chain.snr_drop(s, t), want, rtol=1e-8, what="a^2 / s2")


def squared_weight_over_variance(chain: Chain, s: int, t: int) -> float:
    """a^2 / s2 from the regression of x_s on x_0 and x_t."""
    weights, rest = condition(joint_covariance(chain.betas), s, [0, t])
    return float(weights[0] ** 2 / rest)


@misprint(
    "T-4.1.3",
    of=gaussian_product,
    truth=multiplied,
    oracle="moments of the product of two of scipy's densities on a grid",
    counterexample=Counterexample(
        (0.4, 0.5, 0.8, 1.3, 0.2), printed=[0.955414, 0.159236], right=[1.153846, 0.192308]
    ),
    search=FACTORS,
    value=np.stack,
)
def denominator_with_the_factors_swapped(
    mean: Array, variance: Array, slope: Array, target: Array, noise: Array
) -> tuple[Array, Array]:
    """The product's variance with its two variances exchanged below the fraction."""
    spread = np.asarray(variance * noise / (variance + slope**2 * noise))
    return spread * (mean / variance + slope * target / noise), spread


@misprint(
    "T-fn28",
    of=Chain.snr_drop,
    truth=squared_weight_over_variance,
    oracle="a^2 / s2 with a and s2 by conditioning the joint covariance",
    counterexample=Counterexample((Chain([0.1, 0.2]), 1, 2), printed=-6.428571, right=6.428571),
    search=(moderate_betas(min_steps=3).map(Chain), st.just(1), st.just(3)),
    rtol=1e-8,
)
def rise_of_the_snr(chain: Chain, s: Levels, t: Levels) -> Array:
    """The difference with its sign turned."""
    return np.asarray(chain.snr[t] - chain.snr[s])
