"""Orders of the solvers, measured on exact moments: a step of a linear equation is linear."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.mixture import Mixture
from ddpm.reference.sde import SDE, Curve, linear_rate
from ddpm.reference.sde_solvers import Step, euler_maruyama, heun, solve, stochastic_heun
from ddpm.verify.evidence import Evidence
from ddpm.verify.proofs.mixture import UNIT_BIMODAL
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators

# An observed order is the logarithm of a quotient of errors; between 64 and 256 steps the next
# term moves it by a few hundredths.
SOLVERS = {"euler_maruyama": (euler_maruyama, 1), "stochastic_heun": (stochastic_heun, 2)}
COUNTS = (64, 128, 256)
NODES, NODE_WEIGHTS = 10 * np.stack(np.polynomial.legendre.leggauss(120))


def moments(step: Step, times: Array, mean: float, variance: float) -> tuple[float, float]:
    """Exact mean and variance after the steps of a linear equation with Gaussian noise."""
    for t, h in zip(times[:-1].tolist(), np.diff(times).tolist(), strict=True):
        shift, gain, kick = step(np.array([0.0, 1.0, 0.0]), t, h, np.array([0.0, 0.0, 1.0]))
        gain, kick = gain - shift, kick - shift
        mean, variance = gain * mean + shift, gain**2 * variance + kick**2
    return float(mean), float(variance)


def orders(errors: list[float]) -> Array:
    """Observed orders when the number of steps doubles."""
    return np.log2(np.abs(np.divide(errors[:-1], errors[1:])))


@proof(
    "G-5-solvers",
    of=(euler_maruyama, stochastic_heun),
    oracle="exact mean and variance of an Ornstein-Uhlenbeck process",
    given=(
        st.sampled_from(sorted(SOLVERS)),
        st.floats(0.8, 2.0),
        st.floats(0.5, 1.5),
        st.sampled_from([-1.0, 1.0]),
    ),
    examples=12,
)
def the_weak_order(
    evidence: Evidence, name: str, rate: float, noise: float, direction: float
) -> None:
    """Errors of mean and variance fall with the order of the solver, in both directions of time."""
    solver, order = SOLVERS[name]

    def step(x: Array, t: float, h: float, z: Array) -> Array:
        return solver(lambda y, _: -direction * rate * y, lambda _: noise, x, t, h, z)

    decay = np.exp(-rate)
    want = decay * 1.5, noise**2 * (1 - decay**2) / (2 * rate)
    found = [moments(step, direction * np.linspace(0, 1, n + 1), 1.5, 0.0) for n in COUNTS]
    for which, what in enumerate(("mean", "variance")):
        errors = [value[which] - want[which] for value in found]
        evidence.close(orders(errors), order, atol=0.1, what=f"order of the {what}")
        evidence.close(found[-1][which], want[which], rtol=0.03, what=what)


@proof(
    "G-5-solvers", "G-52",
    of=(euler_maruyama, stochastic_heun, SDE.vp, SDE.marginal),
    oracle="the rate of the equation integrated by hand",
    given=(st.sampled_from(sorted(SOLVERS)), st.floats(0.1, 1.0), st.floats(1.5, 3.0)),
    examples=12,
)  # fmt: skip
def the_weak_order_with_growing_noise(
    evidence: Evidence, name: str, first: float, last: float
) -> None:
    """The orders hold where drift and diffusion depend on time, from a point at 2."""
    solver, order = SOLVERS[name]
    sde = SDE.vp(linear_rate(first, last))
    total = (first + last) / 2
    want = 2 * np.exp(-total / 2), 1 - np.exp(-total)

    def step(x: Array, t: float, h: float, z: Array) -> Array:
        return solver(sde.drift, sde.diffusion, x, t, h, z)

    for count in COUNTS:
        got = moments(step, np.linspace(0, 1, count + 1), 2.0, 0.0)
        evidence.close(got, want, atol=count**-order, what="mean and variance")


@proof(
    "G-5-solvers",
    of=(euler_maruyama, stochastic_heun),
    oracle="quadrature of the known law of the nonlinear equation dx = tanh(x) dt + dw",
    given=(st.floats(0.3, 1.2),),
    examples=8,
)
def one_step_of_a_nonlinear_equation(evidence: Evidence, start: float) -> None:
    """One step misses the expectations of x, x^2 and cos x by h to the order plus one."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    for solver, order in SOLVERS.values():
        for h in (0.04, 0.02, 0.01):
            x = np.full_like(nodes, start)
            end = solver(lambda y, _: np.tanh(y), lambda _: 1.0, x, 0.0, h, nodes)
            ends = start + np.sqrt(h) * NODES
            law = np.exp(-h / 2) * np.cosh(ends) / np.cosh(start) * stats.norm.pdf(NODES)
            for function in (np.positive, np.square, np.cos):
                want = NODE_WEIGHTS @ (law * function(ends))
                got = weights @ function(end) / weights.sum()
                evidence.close(got, want, atol=1.2 * h ** (order + 1), what=f"order {order}")


def reversed_step(name: str, sde: SDE, data: Mixture) -> Step:
    """A step of the reversed equation with the exact score."""
    solver, _ = SOLVERS[name]

    def drift(x: Array, t: float) -> Array:
        return sde.reverse_drift(x, t, data.score(x, *sde.marginal(t)))

    def step(x: Array, t: float, h: float, z: Array) -> Array:
        return solver(drift, sde.diffusion, x, t, h, z)

    return step


@proof(
    "G-54", "G-5-solvers",
    of=(SDE.reverse_drift, euler_maruyama, stochastic_heun),
    oracle="the mean and variance of Gaussian data, reached by exact moments",
    given=(
        st.sampled_from(sorted(SOLVERS)), st.floats(-1.0, 1.0), st.floats(0.3, 2.0),
        st.sampled_from([SDE.vp, SDE.ve]),
    ),
    examples=8,
)  # fmt: skip
def the_reversed_equation_returns_to_the_data(
    evidence: Evidence, name: str, mean: float, variance: float, kind: Callable[[Curve], SDE]
) -> None:
    """From q(x_T) back to 0: the error falls with the order of the solver."""
    sde, order = kind(linear_rate(0.5, 3.0)), SOLVERS[name][1]
    data = Mixture(np.ones(1), np.array([mean]), np.array([variance]))
    gain, noise = sde.marginal(1.0)
    step = reversed_step(name, sde, data)
    start = gain * mean, gain**2 * variance + noise
    found = [moments(step, np.linspace(1, 0, n + 1), *start) for n in COUNTS]
    for count, got in zip(COUNTS, found, strict=True):
        evidence.close(got, [mean, variance], atol=count**-order, what="moments")


@proof(
    "G-54", "G-5-solvers",
    of=(solve, SDE.reverse_drift, stochastic_heun),
    oracle="moments of bimodal data, by samples with a fixed seed",
)  # fmt: skip
def samples_of_the_reversed_equation(evidence: Evidence) -> None:
    """The reversed equation turns noise into data: mean, square and share of one mode."""
    sde, rng = SDE.vp(linear_rate(0.1, 10.0)), np.random.default_rng(7)
    data = Mixture(np.array([0.3, 0.7]), np.array([-1.0, 1.0]), np.array([0.1, 0.2]))
    noises = rng.normal(size=(101, 4000))
    gain, noise = sde.marginal(1.0)
    mode = rng.choice(2, p=data.weights, size=4000)
    x = gain * data.means[mode] + np.sqrt(gain**2 * data.variances[mode] + noise) * noises[0]
    times = (np.linspace(1, 0, 101) ** 1.5).tolist()
    x = solve(reversed_step("stochastic_heun", sde, data), x, times, noises[1:])
    evidence.mean(x, 0.4, what="mean")
    evidence.mean(x**2, 0.3 * 1.1 + 0.7 * 1.2, what="square")
    left = 0.3 * stats.norm.cdf(1 / np.sqrt(0.1)) + 0.7 * stats.norm.cdf(-1 / np.sqrt(0.2))
    evidence.mean(x < 0, left, what="share of the left mode")


@proof(
    "G-5-solvers", "X-probability-flow",
    of=(heun, SDE.probability_flow_drift),
    oracle="the flow integrated by an adaptive solver of order 8",
    given=(st.floats(-2.0, 2.0), st.sampled_from([-1.0, 1.0])),
    examples=6,
)  # fmt: skip
def heun_on_the_flow(evidence: Evidence, start: float, direction: float) -> None:
    """The end of a trajectory has an error of order 2, in both directions of time."""
    sde, x = SDE.vp(linear_rate(0.2, 3.0)), np.array([[start], [start / 2]])
    ends = (0.0, 1.0) if direction > 0 else (1.0, 0.0)

    def flow(x: Array, t: float) -> Array:
        return sde.probability_flow_drift(x, t, UNIT_BIMODAL.score(x, *sde.marginal(t)))

    def velocity(t: float, x: Array) -> Array:
        return flow(x, t)

    exact = integrate.solve_ivp(velocity, ends, x[:, 0], "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]

    def step(x: Array, t: float, h: float, _: Array) -> Array:
        return heun(flow, x, t, h)

    for count in (40, 80, 160):
        grid = np.linspace(*ends, count + 1).tolist()
        got = solve(step, x, grid, np.zeros((count, 2, 1)))
        evidence.close(got[:, 0], exact, atol=0.5 / count**2, what="end of the trajectory")


@proof(
    "G-5-solvers",
    of=(solve, euler_maruyama, stochastic_heun),
    oracle="sums written out",
    given=(generators(),),
)
def steps_follow_the_times(evidence: Evidence, rng: np.random.Generator) -> None:
    """Each step starts at its own time, has its own length and its own noise."""
    times = np.cumsum(rng.uniform(0.1, 1.0, 4))
    x, noises = rng.normal(size=(2, 3)), rng.normal(size=(3, 2, 3))
    for path in (times.tolist(), times[::-1].tolist()):
        for solver, middle in ((euler_maruyama, 0.0), (stochastic_heun, 0.5)):

            def step(x: Array, t: float, h: float, z: Array, solver: Any = solver) -> Array:
                return np.asarray(solver(lambda y, s: 0 * y + s**2, lambda s: s, x, t, h, z))

            want = x
            for t, end, z in zip(path[:-1], path[1:], noises, strict=True):
                slope = t**2 + middle * (end**2 - t**2)
                width = (t + middle * (end - t)) * np.sqrt(abs(end - t))
                want = want + slope * (end - t) + width * z
            evidence.close(solve(step, x, path, noises), want, rtol=1e-11, atol=1e-12, what="end")
