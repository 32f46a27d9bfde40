"""Stochastic equations against integrated moments, Fokker-Planck residuals and refined chains."""

import numpy as np
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm.reference.chain import Chain
from ddpm.reference.mixture import Mixture
from ddpm.reference.sde import SDE, Curve, Drift, geometric_rate, linear_rate, refined_chain
from ddpm.verify.evidence import Evidence
from ddpm.verify.proofs.mixture import density, mixtures
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array

# Moments are integrated to 1e-10. Five-point differences of a density whose components are at least
# 0.3 wide leave 1e-6; a wrong sign of the score leaves more than 1e-2.
X = np.linspace(-3.0, 3.0, 61)
FIVE_POINTS = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
KINDS = {"vp": SDE.vp, "ve": SDE.ve, "sub_vp": SDE.sub_vp}


@st.composite
def rates(draw: st.DrawFn) -> Curve:
    """Linear rates that rise or fall, and geometric ones."""
    if draw(st.booleans()):
        return linear_rate(draw(st.floats(0.05, 3.0)), draw(st.floats(0.0, 5.0)))
    low = draw(st.floats(0.05, 0.5))
    return geometric_rate(low, low * draw(st.floats(1.5, 5.0)))


def integrated(sde: SDE, t: float) -> tuple[float, float]:
    """Gain and variance of a linear equation from the differential equations of its moments."""

    def moments(time: float, state: Array) -> list[float]:
        slope = float(sde.drift(np.ones(1), time)[0])
        return [slope * state[0], 2 * slope * state[1] + sde.diffusion(time) ** 2]

    found = integrate.solve_ivp(moments, (0, t), [1.0, 0.0], rtol=1e-10, atol=1e-12)
    return float(found.y[0, -1]), float(found.y[1, -1])


@proof(
    "G-52", "G-53", "X-SDE-VE", "X-SDE-subVP",
    of=(SDE, SDE.vp, SDE.ve, SDE.sub_vp, SDE.marginal),
    oracle="numerical integration of the differential equations of mean and variance",
    given=(st.sampled_from(sorted(KINDS)), rates(), st.floats(0.0, 1.0)),
    examples=30,
)  # fmt: skip
def the_marginals_solve_the_moments(evidence: Evidence, kind: str, rate: Curve, t: float) -> None:
    """Gain and variance in closed form are what drift and diffusion make of a point at 0."""
    sde = KINDS[kind](rate)
    evidence.close(sde.marginal(t), integrated(sde, t), rtol=1e-7, atol=1e-9, what="marginal")
    evidence.close(sde.marginal(0.0), [1.0, 0.0], atol=1e-15, what="marginal at 0")


@proof(
    "G-52",
    of=SDE.vp,
    oracle="the noising step itself over a short time",
    given=(rates(), st.floats(0.1, 0.9)),
)
def the_step_of_a_chain_is_a_step_of_the_equation(
    evidence: Evidence, rate: Curve, t: float
) -> None:
    """The equation has the mean and the variance of x_{t-1} -> x_t to first order in beta."""
    sde, dt = SDE.vp(rate), 1e-6
    beta, x = rate(t) * dt, np.array([-1.5, 0.4, 2.0])
    evidence.close(sde.drift(x, t) * dt, np.sqrt(1 - beta) * x - x, atol=1e-9, what="mean")
    evidence.close(sde.diffusion(t) ** 2 * dt, beta, rtol=1e-12, what="variance")


@proof(
    "G-52",
    of=refined_chain,
    oracle="the rate integrated by hand",
    given=(st.floats(0.1, 2.0), st.floats(0.0, 6.0), st.sampled_from([0.5, 1.0, 2.0])),
    examples=15,
)
def the_chain_tends_to_the_equation(
    evidence: Evidence, first: float, growth: float, horizon: float
) -> None:
    """With beta_i = beta(t_i) dt the error of log alpha_bar falls like dt, everywhere in time."""
    rate, steps = linear_rate(first, first + growth, horizon), (512, 1024, 2048)
    chains = [refined_chain(rate, count, horizon) for count in steps]
    for share in (0.5, 1.0):
        t = share * horizon
        want = -(first * t + growth * t**2 / (2 * horizon))
        got = [chain.log_alpha_bar[int(share * chain.steps)] for chain in chains]
        errors = [value - want for value in got]
        evidence.close(got[-1], want, rtol=0.02, what="log alpha_bar")
        evidence.close(2 * got[2] - got[1], want, rtol=1e-4, what="without its error of order dt")
        ratios = np.divide(errors[:-1], errors[1:])
        evidence.close(np.log2(ratios), np.ones(2), atol=0.03, what="order")
    ends = np.array([rate(horizon / 512), first + growth]) * horizon / 512
    evidence.close(chains[0].betas[[0, -1]], ends, rtol=1e-12, what="betas")


@proof("G-52", of=refined_chain, oracle="products of the betas")
def fixed_betas_have_no_limit(evidence: Evidence) -> None:
    """T to infinity alone is not enough: with beta = 0.1 held the middle level loses all signal."""
    middle = [Chain(np.full(steps, 0.1)).alpha_bar[steps // 2] for steps in (10, 100, 1000)]
    evidence.close(middle, [0.59049, 0.9**50, 0.9**500], rtol=1e-12, what="fixed betas")
    evidence.at_most([middle[1], middle[2]], [0.0052, 1e-22], what="fixed betas")
    scaled = [refined_chain(lambda _: 1.0, steps).alpha_bar[steps // 2] for steps in (100, 1000)]
    evidence.close(scaled, np.exp(-0.5), rtol=3e-3, what="betas scaled by dt")


@proof(
    "G-52",
    of=(linear_rate, SDE.marginal),
    oracle="the integral of a straight line",
    given=(st.floats(0.0, 3.0), st.floats(0.1, 5.0), st.floats(0.2, 4.0), st.floats(0.0, 1.0)),
)
def the_linear_rate(
    evidence: Evidence, first: float, last: float, horizon: float, share: float
) -> None:
    """The rate runs from first to last over the horizon; B is the area of a trapezium."""
    rate, t = linear_rate(first, last, horizon), share * horizon
    evidence.close([rate(0.0), rate(horizon)], [first, last], rtol=1e-12, what="ends")
    area = t * (first + rate(t)) / 2
    got = SDE.vp(rate).marginal(t)
    evidence.close(got, [np.exp(-area / 2), 1 - np.exp(-area)], atol=1e-12, what="marginal")


@proof(
    "X-SDE-VE",
    of=(geometric_rate, SDE.ve),
    oracle="the difference of two powers",
    given=(st.floats(0.01, 1.0), st.floats(1.5, 1000.0), st.floats(0.0, 1.0)),
)
def the_geometric_rate(evidence: Evidence, low: float, ratio: float, t: float) -> None:
    """Its variance at t is sigma(t)^2 - sigma(0)^2 for sigma = low ratio^t."""
    want = (low * ratio**t) ** 2 - low**2
    got = SDE.ve(geometric_rate(low, low * ratio)).marginal(t)
    evidence.close(got, [1.0, want], rtol=1e-10, atol=1e-12, what="marginal")


@proof(
    "X-SDE-subVP",
    of=SDE.sub_vp,
    oracle="the VP equation with the same rate",
    given=(rates(), st.floats(0.0, 1.0)),
)
def sub_vp_has_less_noise(evidence: Evidence, rate: Curve, t: float) -> None:
    """The drift and the gain are those of VP, its noise never more, and both end alike."""
    sub, vp = SDE.sub_vp(rate), SDE.vp(rate)
    evidence.equal(sub.drift(X, t), vp.drift(X, t), what="drift")
    evidence.at_most(sub.diffusion(t), vp.diffusion(t), what="diffusion")
    evidence.at_most(sub.marginal(t).variance, vp.marginal(t).variance, what="variance")
    long = SDE.sub_vp(lambda _: 40.0)
    evidence.close(long.marginal(1.0), [0.0, 1.0], atol=1e-8, what="marginal at the end")


def level_density(sde: SDE, data: Mixture, x: Array, t: float) -> Array:
    """Density of x(t) as a sum of scipy's normal densities."""
    return density(data, x, *sde.marginal(t))


def residual(sde: SDE, data: Mixture, drift: Drift, noise: float, t: float) -> Array:
    """What d p / dt = -d(drift p)/dx + noise g^2/2 d^2 p / dx^2 leaves, by five-point differences.

    The noise is 1 forward in time, -1 for an equation run backwards and 0 for a flow.
    """
    h, k = 4e-3, 1e-3
    change = sum(w * level_density(sde, data, X, t + i * k) for i, w in FIVE_POINTS.items()) / k

    def flux(x: Array) -> Array:
        p = level_density(sde, data, x, t)
        spread = sum(w * level_density(sde, data, x + i * h, t) for i, w in FIVE_POINTS.items())
        return np.asarray(drift(x, t) * p - noise * sde.diffusion(t) ** 2 / 2 * spread / h)

    return np.asarray(change + sum(w * flux(X + i * h) for i, w in FIVE_POINTS.items()) / h)


@proof(
    "G-53", "G-54", "X-probability-flow",
    of=(SDE, SDE.vp, SDE.ve, SDE.sub_vp, SDE.reverse_drift, SDE.probability_flow_drift),
    oracle="residual of the Fokker-Planck equation by differences of scipy's densities",
    given=(st.sampled_from(sorted(KINDS)), rates(), mixtures(0.1), st.floats(0.1, 0.9)),
    examples=20,
)  # fmt: skip
def three_equations_share_their_marginals(
    evidence: Evidence, kind: str, rate: Curve, data: Mixture, t: float
) -> None:
    """Forward, reversed and without noise the densities move alike; a wrong score is noticed."""
    sde = KINDS[kind](rate)

    def score(x: Array, time: float) -> Array:
        return data.score(x, *sde.marginal(time))

    def reverse(x: Array, time: float) -> Array:
        return sde.reverse_drift(x, time, score(x, time))

    def flow(x: Array, time: float) -> Array:
        return sde.probability_flow_drift(x, time, score(x, time))

    def wrong(x: Array, time: float) -> Array:
        return sde.reverse_drift(x, time, -score(x, time))

    for name, drift, noise in (
        ("forward", sde.drift, 1.0),
        ("reverse", reverse, -1.0),
        ("flow", flow, 0.0),
    ):
        left = residual(sde, data, drift, noise, t)
        evidence.close(left, np.zeros_like(X), atol=2e-5, what=f"residual, {name}")
    left = np.max(np.abs(residual(sde, data, wrong, -1.0, t)))
    evidence.holds(left > 0.02 * sde.diffusion(t) ** 2, "the wrong sign leaves a residual")


@proof(
    "G-53",
    of=(SDE, SDE.reverse_drift),
    oracle="residual of the Fokker-Planck equation for the known law of a nonlinear equation",
    given=(st.floats(-1.5, 1.5), st.floats(0.3, 1.5)),
    examples=20,
)
def a_nonlinear_equation(evidence: Evidence, start: float, t: float) -> None:
    """With drift tanh(x) the law from a point m is cosh(x) exp(-t / 2) N(x; m, t) / cosh(m)."""
    sde = SDE(lambda x, _: np.tanh(x), lambda _: 1.0)

    def law(x: Array, time: float) -> Array:
        tilt = np.exp(-time / 2) * np.cosh(x) / np.cosh(start)
        return np.asarray(tilt * stats.norm.pdf(x, start, np.sqrt(time)))

    def flux(x: Array, time: float) -> Array:
        spread = sde.diffusion(time) ** 2 / 2 * slope(law, x)
        return np.asarray(sde.drift(x, time) * law(x, time) - spread)

    def slope(function: Drift, x: Array) -> Array:
        h = 4e-3
        return np.asarray(sum(w * function(x + i * h, t) for i, w in FIVE_POINTS.items()) / h)

    change = sum(w * law(X, t + i * 1e-3) for i, w in FIVE_POINTS.items()) / 1e-3
    forward = change + slope(flux, X)
    evidence.close(forward, np.zeros_like(X), atol=1e-5, what="residual, forward")
    score = np.tanh(X) - (X - start) / t
    backward = sde.reverse_drift(X, t, score)
    evidence.close(backward, (X - start) / t, rtol=1e-12, atol=1e-12, what="reversed drift")


@proof(
    "X-probability-flow",
    of=SDE.probability_flow_drift,
    oracle="distribution functions at both ends of integrated trajectories",
    given=(st.sampled_from(sorted(KINDS)), rates(), mixtures(0.1)),
    examples=8,
)
def the_flow_keeps_the_quantiles(evidence: Evidence, kind: str, rate: Curve, data: Mixture) -> None:
    """On the line a flow that keeps the marginals carries each quantile to the same quantile."""
    sde, starts = KINDS[kind](rate), np.linspace(-2.5, 2.5, 7)

    def share(x: Array, t: float) -> Array:
        gain, variance = sde.marginal(t)
        spreads = np.sqrt(gain**2 * data.variances + variance)
        parts = zip(data.weights, gain * data.means, spreads, strict=True)
        return np.asarray(sum(w * stats.norm.cdf(x, m, s) for w, m, s in parts))

    def velocity(t: float, x: Array) -> Array:
        return sde.probability_flow_drift(x, t, data.score(x, *sde.marginal(t)))

    ends = integrate.solve_ivp(velocity, (0.0, 1.0), starts, rtol=1e-8, atol=1e-9).y[:, -1]
    evidence.close(share(ends, 1.0), share(starts, 0.0), atol=1e-6, what="quantile")
