"""The limit of many levels against closed integrals, four schedules and mutual information."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, special

from ddpm.reference.chain import Chain
from ddpm.reference.continuous import (
    discrete_objective,
    information,
    level_masses,
    objective_in_snr,
    objective_in_time,
    unweighted,
)
from ddpm.reference.mixture import Mixture
from ddpm.reference.schedules import log_snr_schedule
from ddpm.reference.sde import Curve
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.proofs.mixture import UNIT_BIMODAL, density, mixtures
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, moderate_betas

# Adaptive integrals are asked for 1e-11. The error of T levels is a series in 1 / T, so that an
# order seen between 400 and 800 levels is right to a few hundredths.
Map = Callable[[Array], Array]
SCHEDULES: dict[str, tuple[Map, Map, Map]] = {
    "linear in log SNR": (
        special.logit,
        special.expit,
        lambda f: special.expit(f) / (1 + np.exp(f)),
    ),
    "linear in log alpha_bar": (np.log, np.exp, np.exp),
    "quarter cosine": (
        lambda a: np.arccos(np.sqrt(a)),
        lambda f: np.cos(f) ** 2,
        lambda f: -np.sin(2 * f),
    ),
    "linear deviation": (lambda a: np.sqrt(1 - a), lambda f: 1 - f**2, lambda f: -2 * f),
}
"""Each schedule moves evenly in a function of alpha_bar: the function, its inverse, its slope."""


def path(name: str, lowest: float, highest: float) -> tuple[Callable[[Array], Array], Curve, Curve]:
    """The alpha_bar, the SNR and the slope of the SNR of a schedule at times in [0, 1]."""
    forth, back, slope = SCHEDULES[name]
    first, last = (forth(np.asarray(u / (1 + u))) for u in (highest, lowest))

    def signal(time: Array) -> Array:
        return back(first + (last - first) * time)

    def snr(time: float) -> float:
        a = signal(np.asarray(time))
        return float(a / (1 - a))

    def rate(time: float) -> float:
        change = slope(first + (last - first) * np.asarray(time)) * (last - first)
        return float(change / (1 - signal(np.asarray(time))) ** 2)

    return signal, snr, rate


def chain_of(name: str, lowest: float, highest: float, steps: int) -> Chain:
    """The chain of a schedule whose level 1 has the highest SNR and level T the lowest."""
    signal, _, _ = path(name, lowest, highest)
    return log_snr_schedule(special.logit(signal(np.linspace(0, 1, steps))))


def gaussian_error(variance: float) -> Curve:
    """Squared error of the best denoiser of Gaussian data."""
    return lambda u: variance / (1 + u * variance)


def fading(power: float) -> Curve:
    """A weight that falls with the SNR."""
    return lambda u: (1 + u) ** -power


def by_quadrature(lowest: float, highest: float, error: Curve, weight: Curve) -> float:
    """-1/2 of the integral over u, piece by piece."""
    cuts = np.geomspace(lowest, highest, 9).tolist()
    parts = [integrate.quad(lambda u: weight(u) * error(u), a, b)[0] for a, b in pairwise(cuts)]
    return -sum(parts) / 2


LOW = st.floats(0.05, 0.5)
HIGH = st.floats(1.0, 20.0)
ERRORS = st.floats(0.2, 3.0).map(gaussian_error)
WEIGHTS = st.floats(0.0, 2.0).map(fading)


@proof(
    "T-eq4",
    of=level_masses,
    oracle="conditioning the joint covariance level by level",
    given=(moderate_betas(min_steps=2), st.floats(0.2, 3.0)),
    examples=20,
)
def masses_by_conditioning(evidence: Evidence, betas: Array, variance: float) -> None:
    """What a level takes is the drop of the SNR times the error of the best denoiser, halved."""
    covariance = joint_covariance(betas, variance)
    given = [condition(covariance, t, [0]) for t in range(1, betas.size + 1)]
    snrs = np.array([gain[0] ** 2 / noise for gain, noise in given])
    rest = [condition(covariance, 0, [t])[1] for t in range(2, betas.size + 1)]
    want = -np.diff(snrs) / 2 * rest
    got = level_masses(Chain(betas), gaussian_error(variance))
    evidence.close(got, want, rtol=1e-9, atol=1e-11, what="masses")
    halved = level_masses(Chain(betas), gaussian_error(variance), lambda u: u / 2)
    evidence.close(halved, want * snrs[1:] / 2, rtol=1e-9, atol=1e-11, what="weighted")


def integral_over_snr(snr: Curve, _: Curve, error: Curve, weight: Curve = unweighted) -> float:
    """The objective with time left out: its sign is that of minus an error."""
    return by_quadrature(snr(1.0), snr(0.0), error, weight)


@proof(
    "T-eq4", "T-2.6-inv",
    of=(objective_in_time, objective_in_snr),
    oracle="quadrature over the SNR, in which the schedule does not appear",
    given=(LOW, HIGH, ERRORS, WEIGHTS),
    examples=15,
)  # fmt: skip
def time_drops_out(
    evidence: Evidence, lowest: float, highest: float, error: Curve, weight: Curve
) -> None:
    """Whatever the schedule, the integral over time is that over the SNR, and it is negative."""
    want = by_quadrature(lowest, highest, error, weight)
    evidence.holds(want < 0, "an error lowers the objective")
    for name in SCHEDULES:
        _, snr, slope = path(name, lowest, highest)
        got = objective_in_time(snr, slope, error, weight)
        evidence.close(got, want, rtol=1e-7, what=name)
    got = objective_in_snr(lowest, highest, error, weight)
    evidence.close(got, want, rtol=1e-8, what="over the SNR")


_, FALLING_SNR, FALLING_SLOPE = path("linear in log SNR", 1 / 9, 9.0)


@misprint(
    "T-eq4",
    of=objective_in_time,
    truth=integral_over_snr,
    oracle="quadrature over the SNR between its ends",
    counterexample=Counterexample(
        (FALLING_SNR, FALLING_SLOPE, gaussian_error(1.0)),
        printed=np.log(3.0),
        right=-np.log(3.0),
        within=1e-8,
    ),
    search=(st.just(FALLING_SNR), st.just(FALLING_SLOPE), ERRORS, WEIGHTS),
    rtol=1e-7,
    examples=20,
)
def minus_a_falling_snr(
    snr: Curve, slope: Curve, error: Curve, weight: Curve = unweighted
) -> float:
    """The printed -1/2 before a slope that is negative itself, so that errors are rewarded."""
    return -objective_in_time(snr, slope, error, weight)


@proof(
    "T-eq5", "T-fn29",
    of=objective_in_snr,
    oracle="the logarithm that the integral is for Gaussian data",
    given=(st.floats(0.0, 1.0), st.floats(0.01, 12.0), st.floats(0.1, 5.0)),
)  # fmt: skip
def gaussian_data_in_closed_form(
    evidence: Evidence, lowest: float, power: float, variance: float
) -> None:
    """Without weights and with the best denoiser, -1/2 log of the ratio of 1 + u V at the ends."""
    highest = lowest + 10 ** (power - 6)
    got = objective_in_snr(lowest, highest, gaussian_error(variance))
    ends = variance * (highest - lowest) / (1 + lowest * variance)
    evidence.close(got, -np.log1p(ends) / 2, rtol=1e-8, what="objective")


@proof(
    "T-eq5", "T-fn29", "T-2.6-inv",
    of=(discrete_objective, objective_in_snr),
    oracle="closed integrals, and the order at which four schedules approach them",
    given=(LOW, HIGH, st.floats(0.2, 3.0)),
    examples=6,
)  # fmt: skip
def four_schedules_have_one_limit(
    evidence: Evidence, lowest: float, highest: float, variance: float
) -> None:
    """The error of T levels falls like 1 / T on every schedule between the same ends."""
    want = -np.log((1 + highest * variance) / (1 + lowest * variance)) / 2
    steps = np.array([401, 801])
    for name in SCHEDULES:
        got = [
            discrete_objective(chain_of(name, lowest, highest, count), gaussian_error(variance))
            for count in steps.tolist()
        ]
        evidence.close(got[1], want, rtol=0.03, what=name)
        evidence.close(2 * got[1] - got[0], want, rtol=2e-3, what=f"extrapolated, {name}")
        order = np.log2((got[0] - want) / (got[1] - want))
        evidence.close(order, 1.0, atol=0.08, what=f"order, {name}")


@proof(
    "T-eq5", "T-2.6-inv",
    of=(discrete_objective, objective_in_snr),
    oracle="quadrature over the SNR for bimodal data and a weight",
)  # fmt: skip
def bimodal_data_have_one_limit(evidence: Evidence) -> None:
    """The same for a mixture and a weight: the error times T tends to a constant."""
    error, weight, ends = bimodal_error, fading(0.5), (0.05, 20.0)
    want = by_quadrature(*ends, error, weight)
    evidence.close(objective_in_snr(*ends, error, weight), want, rtol=1e-8, what="over the SNR")
    for name in SCHEDULES:
        got = [
            discrete_objective(chain_of(name, *ends, count), error, weight) for count in (101, 201)
        ]
        evidence.close(2 * got[1] - got[0], want, rtol=1e-2, what=name)
        evidence.close((got[0] - want) / (got[1] - want), 2.0, rtol=0.1, what=f"ratio, {name}")


def bimodal_error(snr: float) -> float:
    """Squared error of the best denoiser of unit bimodal data."""
    return UNIT_BIMODAL.mmse(float(np.sqrt(snr)), 1.0)


@proof(
    "T-extra",
    of=discrete_objective,
    oracle="the order of nested sums of a falling function, and its integral",
    given=(mixtures(0.2), LOW, st.floats(1.0, 20.0), st.randoms(use_true_random=False)),
    examples=6,
)
def more_levels_never_hurt(
    evidence: Evidence, data: Mixture, lowest: float, highest: float, random: Random
) -> None:
    """With the best denoiser every inserted level raises the objective, never above its limit."""
    levels = [float(np.log(highest)), float(np.log(lowest))]
    found = []
    for _ in range(5):
        chain = log_snr_schedule(levels)
        found.append(discrete_objective(chain, lambda u: data.mmse(float(np.sqrt(u)), 1.0)))
        new = [b + (a - b) * random.uniform(0.2, 0.8) for a, b in pairwise(levels)]
        levels = sorted([*levels, *new], reverse=True)
    evidence.holds(np.diff(found) > 0, "a refined schedule has the greater objective")
    lost = information(data, highest) - information(data, lowest)
    evidence.at_most(found[-1], -lost, what="objective")
    evidence.close(found[-1], -lost, rtol=0.5, what="objective of 33 levels")


@proof(
    "T-extra",
    of=information,
    oracle="entropy by adaptive quadrature of scipy's densities",
    given=(mixtures(0.1), st.floats(0.0, 8.0)),
    examples=10,
)
def information_is_a_difference_of_entropies(evidence: Evidence, data: Mixture, snr: float) -> None:
    """The information is the entropy of the noisy sample less that of the noise."""

    def integrand(x: float) -> float:
        p = float(density(data, x, np.sqrt(snr), 1.0))
        return -float(special.xlogy(p, p))

    cuts = np.linspace(-30, 30, 25).tolist()
    entropy = sum(integrate.quad(integrand, a, b, epsabs=1e-11)[0] for a, b in pairwise(cuts))
    want = entropy - (1 + np.log(2 * np.pi)) / 2
    evidence.close(information(data, snr), want, atol=1e-8, what="information")


@proof(
    "T-extra",
    of=(information, objective_in_snr),
    oracle="the identity of mutual information and least squared error, two separate integrals",
)
def information_is_the_integral_of_the_error(evidence: Evidence) -> None:
    """From SNR 0 to 3 bimodal data give 0.685244 nats both ways; points give at most log 2."""
    got = information(UNIT_BIMODAL, 3.0), -objective_in_snr(0.0, 3.0, bimodal_error)
    evidence.close(got, [0.685244, 0.685244], atol=5e-7, what="information")
    evidence.close(got[0], got[1], rtol=1e-9, what="identity")
    points = Mixture(np.array([0.5, 0.5]), np.array([-1.0, 1.0]), np.zeros(2))
    evidence.close(information(points, 60.0), np.log(2), atol=1e-9, what="information of a bit")
    evidence.close(information(points, 0.0), 0.0, atol=1e-12, what="information at SNR 0")
