"""Learned levels against enumeration, bisection and the one case solved by a geometric series."""

import numpy as np
from hypothesis import strategies as st
from scipy import optimize

from ddpm.reference.chain import Chain
from ddpm.reference.continuous import information, level_masses, objective_in_snr
from ddpm.reference.schedule_learning import (
    equal_mass_levels,
    estimator_deviation,
    learn_schedule,
)
from ddpm.reference.schedules import log_snr_schedule
from ddpm.verify.evidence import Evidence
from ddpm.verify.proofs.continuous import bimodal_error, gaussian_error
from ddpm.verify.proofs.mixture import UNIT_BIMODAL
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators

# Each round of moving the levels takes a share of what is left of the deviation; linear
# interpolation between T levels is off by about 1 / T^2.


@st.composite
def old_levels(draw: st.DrawFn) -> tuple[Array, Array]:
    """Falling log SNRs and the masses between them."""
    rng, count = draw(generators()), draw(st.integers(2, 9))
    levels = 3 - np.cumsum(rng.uniform(0.1, 2.0, count))
    return levels, rng.uniform(0.05, 3.0, count - 1)


@proof(
    "T-2.6-inv",
    of=estimator_deviation,
    oracle="enumeration of the levels an estimate may draw",
    given=(old_levels(),),
)
def deviation_by_enumeration(evidence: Evidence, old: tuple[Array, Array]) -> None:
    """Each of the levels gives the estimate (T - 1) m_t; their mean is the objective."""
    masses = old[1].tolist()
    count = len(masses)
    estimates = [count * mass for mass in masses]
    mean = sum(estimates) / count
    evidence.close(mean, sum(masses), rtol=1e-12, what="mean of the estimates")
    want = (sum((value - mean) ** 2 for value in estimates) / count) ** 0.5
    evidence.close(estimator_deviation(old[1]), want, rtol=1e-10, atol=1e-12, what="deviation")


@proof(
    "T-2.6-inv",
    of=equal_mass_levels,
    oracle="bisection on the integral of the mass between two levels",
    given=(old_levels(), st.integers(2, 8)),
    examples=25,
)
def shares_by_bisection(evidence: Evidence, old: tuple[Array, Array], steps: int) -> None:
    """Between two new levels lies the same mass, spread evenly between the old ones."""
    levels, masses = old
    density = masses / -np.diff(levels)

    def excess(g: float, mass: float) -> float:
        return float(np.clip(levels[:-1] - g, 0, -np.diff(levels)) @ density - mass)

    got = equal_mass_levels(levels, masses, steps)
    goals = [k / (steps - 1) * masses.sum() for k in range(1, steps - 1)]
    want = [optimize.brentq(excess, levels[-1], levels[0], args=(goal,)) for goal in goals]
    evidence.close(got[1:-1], want, atol=1e-9, what="levels")
    evidence.equal(got[[0, -1]], levels[[0, -1]], what="ends")


@proof(
    "T-2.6-inv",
    of=learn_schedule,
    oracle="Gaussian data, where equal masses mean a geometric series of 1 + SNR",
    given=(st.floats(0.5, 3.0), st.floats(-3.0, -0.5), st.booleans()),
    examples=10,
)
def learned_levels_of_gaussian_data(
    evidence: Evidence, highest: float, lowest: float, few: bool
) -> None:
    """A level takes (1 + u_{t-1}) / (1 + u_t) - 1, halved: the same where the ratios are.

    Three levels get there by half the way in each round, many by the whole way.
    """
    steps, rounds, move = (3, 40, 0.5) if few else (20, 16, 1.0)
    start = np.linspace(highest, lowest, steps)
    chain = learn_schedule(
        start, lambda chain: level_masses(chain, gaussian_error(1.0)), rounds, move
    )
    want = np.geomspace(1 + np.exp(highest), 1 + np.exp(lowest), steps)
    evidence.close(1 + chain.snr[1:], want, rtol=1e-4, what="1 + SNR")


@proof(
    "T-2.6-inv",
    of=(estimator_deviation, learn_schedule),
    oracle="the objective of infinitely many levels, and that of even steps in log SNR",
)
def learning_removes_the_variance(evidence: Evidence) -> None:
    """At nearly the same mean, 4.1 nats of deviation become 0.009 in a round and 5e-5 in six."""
    start, error = np.linspace(9.2, -9.2, 1000), gaussian_error(1.0)

    def masses(chain: Chain) -> Array:
        return level_masses(chain, error)

    limit = -objective_in_snr(np.exp(-9.2), np.exp(9.2), error)
    chains = [log_snr_schedule(start), *(learn_schedule(start, masses, n) for n in (1, 6))]
    found = [masses(chain) for chain in chains]
    for mass in found:
        evidence.close(mass.sum(), limit, rtol=0.01, what="objective")
    evidence.close(estimator_deviation(found[0]), 4.1072, atol=1e-3, what="even in log SNR")
    evidence.at_most([estimator_deviation(mass) for mass in found[1:]], [0.01, 1e-4], "learned")


@proof(
    "T-2.6-inv",
    of=learn_schedule,
    oracle="information lost between neighbouring levels, for bimodal data",
)
def learned_levels_of_bimodal_data(evidence: Evidence) -> None:
    """Between two learned levels nearly the same information is lost, whatever the data."""
    start = np.linspace(3.0, -3.0, 20)
    chain = learn_schedule(start, lambda chain: level_masses(chain, bimodal_error), 6)
    learned, even = (
        -np.diff([information(UNIT_BIMODAL, u) for u in snrs.tolist()])
        for snrs in (chain.snr[1:], np.exp(start))
    )
    evidence.close(learned, learned.mean(), rtol=0.05, what="information between levels")
    evidence.holds(np.ptp(even) > 0.5 * even.mean(), "even steps in log SNR lose it unevenly")
