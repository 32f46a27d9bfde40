"""Simple noise at the end against simple steps, for data of two modes, by quadrature."""

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.augmentation import at_level, reverse_step_kl, terminal_kl
from ddpm.reference.autoregression import telescope
from ddpm.reference.chain import Chain
from ddpm.reference.gaussian import kl_isotropic
from ddpm.reference.mixture import Mixture
from ddpm.reference.schedules import linear_schedule
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import joint_covariance
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, moderate_betas

MODES = Mixture(np.array([0.5, 0.5]), np.array([-0.95, 0.95]), np.full(2, 1 - 0.95**2))
LAMBDAS = (0.999, 0.99, 0.9, 0.7, 0.5)

# The trapezoid rule converges faster than any power on analytic integrands: 1e-10 on these grids.
QUADRATURE = 1e-9


def mixtures() -> st.SearchStrategy[Mixture]:
    """Two components whose widths differ by a factor of at most five."""
    numbers = st.tuples(
        st.floats(0.1, 0.9),
        st.floats(-1, 1),
        st.floats(-1, 1),
        st.floats(0.2, 1),
        st.floats(0.2, 1),
    )
    return numbers.map(
        lambda n: Mixture(np.array([n[0], 1 - n[0]]), np.array(n[1:3]), np.square(n[3:]))
    )


def density(data: Mixture, x: Array, c: float, noise: float) -> Array:
    """Density of c x_0 + sqrt(noise) eps, from scipy's normal law."""
    spreads = np.sqrt(c**2 * data.variances + noise)
    parts = stats.norm.pdf(np.asarray(x)[..., None], c * data.means, spreads)
    return np.asarray(parts @ data.weights)


def brute_force(data: Mixture, chain: Chain, s: int, t: int) -> float:
    """The expected divergence of q(x_s | x_t) on a grid over both levels."""
    covariance, signal = joint_covariance(chain.betas), joint_covariance(chain.betas)[0]
    keep = covariance[s, t]
    grid = np.linspace(-9, 9, 1201)
    before = density(data, grid, signal[s], 1 - signal[s] ** 2)
    joint = before * stats.norm.pdf(grid[:, None], keep * grid, np.sqrt(1 - keep**2))
    step = grid[1] - grid[0]
    total = joint.sum(axis=1) * step
    reverse = joint[total > 1e-30] / total[total > 1e-30, None]
    mean = reverse @ grid * step
    spread = np.sum(reverse * (grid - mean[:, None]) ** 2, axis=1) * step
    normal = stats.norm.logpdf(grid, mean[:, None], np.sqrt(spread)[:, None])
    logs = np.log(np.maximum(reverse, 1e-300))
    kls = np.sum(reverse * (logs - normal), axis=1) * step
    return float(total[total > 1e-30] @ kls * step)


@proof(
    "T-fn11", "T-2.1-lim",
    of=(terminal_kl, at_level),
    oracle="adaptive quadrature with scipy's normal densities",
    given=(mixtures(), moderate_betas()),
    examples=20,
)  # fmt: skip
def terminal_divergence(evidence: Evidence, data: Mixture, steps: Array) -> None:
    """The divergence of the last level from N(0, 1) is the integral of its definition."""
    signal = joint_covariance(steps)[0, -1]

    def integrand(x: float) -> float:
        value = float(density(data, np.array(x), signal, 1 - signal**2))
        return value * float(np.log(value) - stats.norm.logpdf(x))

    want = integrate.quad(integrand, -9, 9, epsabs=1e-12, epsrel=1e-11, limit=200)[0]
    got = terminal_kl(data, Chain(steps))
    evidence.close(got, want, rtol=QUADRATURE, atol=1e-11, what="KL(q(x_T) || N(0, 1))")


@proof(
    "T-fn11", "V-3-joint",
    of=(reverse_step_kl, at_level),
    oracle="a grid over both levels",
    given=(mixtures(), moderate_betas(min_steps=2, max_steps=3), st.booleans()),
    examples=6,
)  # fmt: skip
def divergence_of_a_reverse_step(
    evidence: Evidence, data: Mixture, steps: Array, clean: bool
) -> None:
    """The expected divergence of a step from its moments' normal law, by entropies and directly."""
    s, t = (0, steps.size) if clean else (1, 2)
    got, want = reverse_step_kl(data, Chain(steps), s, t), brute_force(data, Chain(steps), s, t)
    evidence.close(got, want, rtol=1e-6, atol=1e-9, what="mean KL of a reverse step")


@proof("T-fn11", of=(terminal_kl, reverse_step_kl), oracle="order of five chains of ten steps")
def tension(evidence: Evidence) -> None:
    """At a fixed number of steps, less signal at the end costs less normal reverse steps."""
    chains = [Chain(np.full(10, 1 - gain**2)) for gain in LAMBDAS]
    ends = np.array([terminal_kl(MODES, chain) for chain in chains])
    evidence.holds(np.diff(ends) < 0, "the last level comes nearer to N(0, 1)")
    evidence.close(ends[:3], [0.395, 0.0960, 1.26e-5], rtol=5e-3, what="terminal KL")
    steps = [[reverse_step_kl(MODES, c, t - 1, t) for t in range(1, 11)] for c in chains]
    first, mean = np.array(steps)[:, 0], np.mean(steps, axis=1)
    evidence.holds(np.diff(first) > 0, "the first step becomes harder")
    evidence.holds(np.diff(mean) > 0, "steps become harder on average")
    evidence.close(first[1:], [5.4e-4, 0.096, 0.354, 0.448], rtol=1e-2, what="KL of the first step")


@proof(
    "T-2.1-lim",
    of=(Chain.c, terminal_kl),
    oracle="the inequalities 1 - sum beta <= prod (1 - beta) <= exp(-sum beta)",
    given=(st.lists(st.floats(1e-6, 0.9), min_size=1, max_size=200),),
)
def signal_vanishes_with_an_infinite_sum_of_betas(evidence: Evidence, steps: list[float]) -> None:
    """The signal goes to zero exactly where the sum of all betas is infinite."""
    power = Chain(steps).c[-1] ** 2
    slack = 1 + 1e-12
    evidence.at_most(power, np.exp(-np.sum(steps)) * slack, "signal under a large sum")
    evidence.at_most(1 - np.sum(steps), power * slack, "signal under a small sum")


@proof("T-2.1-lim", of=(Chain.c, terminal_kl), oracle="the telescoping product of 1 - 1/(t + 1)^2")
def every_lambda_below_one_does_not_suffice(evidence: Evidence) -> None:
    """With lambda = 1 - 1/(t + 1)^2 half of the signal's amplitude stays for ever."""
    constant = [terminal_kl(MODES, Chain(np.full(steps, 0.19))) for steps in (5, 20, 80)]
    evidence.holds(np.diff(constant) < 0, "a constant lambda forgets the data")
    evidence.at_most(constant[-1], 1e-12, "divergence after 80 steps")
    kept = []
    for steps in (10, 100, 10_000):
        lambdas = 1 - 1 / np.arange(2, steps + 2) ** 2
        chain = Chain((1 - lambdas) * (1 + lambdas))
        # The factors are t (t + 2) / (t + 1)^2, so neighbours cancel.
        evidence.close(chain.c[-1], (steps + 2) / (2 * (steps + 1)), rtol=1e-12, what="amplitude")
        kept.append(terminal_kl(MODES, chain))
    half = terminal_kl(MODES, Chain([0.75]))
    evidence.holds(np.array(kept) > half, "the divergence stays above that of half the amplitude")
    evidence.close(kept[-1], half, rtol=1e-2, what="divergence in the limit")


@proof("K-2.1", of=(linear_schedule, terminal_kl), oracle="closed form and the plain product")
def thousand_linear_steps_end_in_noise(evidence: Evidence) -> None:
    """The customary schedule ends within 1e-9 nats of N(0, 1) for unit data, not exactly there."""
    chain = linear_schedule(1000)
    _, noise = telescope(np.sqrt(1 - chain.betas), chain.betas)
    evidence.close(noise[-1], 0.99996, atol=5e-6, what="1 - alpha_bar_T")
    evidence.close(chain.one_minus_alpha_bar[-1], noise[-1], rtol=1e-12, what="1 - alpha_bar_T")
    evidence.close(chain.alpha_bar[-1], 4.03583e-5, rtol=1e-5, what="alpha_bar_T")
    evidence.at_most(terminal_kl(MODES, chain), 1e-9, "divergence of bimodal data")
    shifted = Mixture(np.array([1.0]), np.array([3.0]), np.array([0.0]))
    spread, mean = chain.one_minus_alpha_bar[-1], 3 * chain.c[-1]
    want = kl_isotropic([mean], spread, [0.0], 1.0)
    evidence.close(terminal_kl(shifted, chain), want, rtol=1e-9, what="divergence of one point")
