"""The coefficients of a chain against exact products, a simulated chain and regression."""

from collections.abc import Callable

import mpmath as mp
import numpy as np
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.schedules import lambda_schedule
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import PRECISION, condition, joint_covariance, signal_products
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array, betas, level_pairs, moderate_betas

# The design allows 4 units in the last place. What is computed in pairs and rounded once does
# better: half a unit, or one where the result is subnormal; log SNR ends in a float64 logarithm.
ONE = 1.0
FOUR = 4.0

# The simulated chain and its regressions are float64: eight steps leave 1e-12, a solve 1e-11.
SIMULATED = 1e-12
SOLVED = 1e-11

Table = tuple[str, Callable[[Chain], Array], Callable[[mp.mpf], mp.mpf], float]
TABLES: tuple[Table, ...] = (
    ("alpha_bar", lambda chain: chain.alpha_bar, lambda p: p, ONE),
    ("1 - alpha_bar", lambda chain: chain.one_minus_alpha_bar, lambda p: 1 - p, ONE),
    ("c", lambda chain: chain.c, mp.sqrt, ONE),
    ("d", lambda chain: chain.d, lambda p: mp.sqrt(1 - p), ONE),
    ("SNR", lambda chain: chain.snr, lambda p: p / (1 - p) if p < 1 else mp.inf, ONE),
    ("log alpha_bar", lambda chain: chain.log_alpha_bar, lambda p: log(p), ONE),
    ("log SNR", lambda chain: chain.log_snr, lambda p: log(p / (1 - p)) if p < 1 else mp.inf, FOUR),
)


def log(power: mp.mpf) -> mp.mpf:
    """Logarithm that is minus infinity at zero."""
    return mp.log(power) if power > 0 else -mp.inf


def jump_truths(products: list[mp.mpf], steps: Array, s: int, t: int) -> dict[str, mp.mpf]:
    """What a chain says of the jump s -> t, from exact products."""
    kept = signal_products(steps[s:t])[-1]
    drop = products[s] / (1 - products[s]) - products[t] / (1 - products[t]) if s else mp.inf
    return {"alpha": kept, "beta": 1 - kept, "snr_drop": drop}


def jumps_hold(evidence: Evidence, chain: Chain, products: list[mp.mpf], s: int, t: int) -> None:
    """Hold what a chain says of the jump s -> t against exact products."""
    for name, truth in jump_truths(products, chain.betas, s, t).items():
        evidence.ulps(getattr(chain, name)(s, t), [truth], ONE, f"{name}({s}, {t})")


@proof(
    "T-4.1.4", "T-SNR", "T-fn27", "T-4.2-ends", "K-abar", "G-22", "G-23", "L-fwd", "X-float32",
    of=(Chain.lambdas, Chain.alpha_bar, Chain.one_minus_alpha_bar, Chain.c, Chain.d, Chain.snr,
        Chain.log_snr, Chain.log_alpha_bar),
    oracle="products of 1 - beta to 135 digits",
    given=(betas(),),
)  # fmt: skip
def tables(evidence: Evidence, steps: Array) -> None:
    """Every table, at every level of any schedule, is right to the last place."""
    chain, products = Chain(steps), signal_products(steps)
    with mp.workprec(PRECISION):
        for name, table, truth, bound in TABLES:
            evidence.holds(table(chain).shape == (steps.size + 1,), f"{name} has T + 1 levels")
            evidence.ulps(table(chain), [truth(p) for p in products], bound, name)
        kept = [mp.sqrt(1 - mp.mpf(beta)) for beta in steps.tolist()]
        evidence.ulps(chain.lambdas, kept, ONE, "lambda")


@proof(
    "K-8..14", "G-48",
    of=(Chain.alpha, Chain.beta, Chain.snr_drop),
    oracle="products of 1 - beta to 135 digits",
    given=(st.data(), betas()),
)  # fmt: skip
def jumps(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """What several steps keep and add, and the drop of the SNR, are right to the last place."""
    s, t = data.draw(level_pairs(steps.size))
    chain = Chain(steps)
    with mp.workprec(PRECISION):
        jumps_hold(evidence, chain, signal_products(steps), s, t)


@proof(
    "G-23", "T-eq1",
    of=(Chain.signal, Chain.amplitude, Chain.noise, Chain.log_signal, Chain.log_signal_ratio),
    oracle="products of 1 - beta to 135 digits",
    given=(st.data(), betas(terminal=False)),
)  # fmt: skip
def unrounded(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Before they are rounded, coefficients carry twice the digits of a float64."""
    s, t = data.draw(level_pairs(steps.size))
    chain, products = Chain(steps), signal_products(steps)
    with mp.workprec(PRECISION):
        power = products[t]
        pairs = [
            (chain.log_signal(t), mp.log(power)),
            (chain.log_signal_ratio(s, t), mp.log(signal_products(steps[s:t])[-1])),
            (chain.signal(t), power),
            (chain.amplitude(t), mp.sqrt(power)),
            (chain.noise(t), 1 - power),
        ]
        for got, want in pairs:
            # A logarithm of up to 450 leaves 1e-30 of itself, and so much of the exponential.
            error = (mp.mpf(float(got.high)) + mp.mpf(float(got.low))) / want - 1
            evidence.close(float(error), 0.0, atol=1e-27, what="relative error")


LONG = np.concatenate(
    [
        10 ** np.random.default_rng(0).uniform(-12, -3, 20_000),
        np.full(40_000, 0.9),
        np.full(39_999, 1e-12),
        [1.0],
    ]
)


@proof(
    "G-23",
    of=(Chain.alpha_bar, Chain.one_minus_alpha_bar, Chain.beta, Chain.snr_drop),
    oracle="products of 1 - beta to 135 digits",
    given=(st.sampled_from([LONG, np.full(30_000, 1e-12)]),),
    examples=2,
)
def a_hundred_thousand_steps(evidence: Evidence, steps: Array) -> None:
    """Neither the number of steps nor tiny steps after large ones cost a digit."""
    chain, products, last = Chain(steps), signal_products(steps), steps.size
    levels = [0, 1, 2, 777, last // 2, last // 2 + 1, last - 3, last - 2, last - 1, last]
    with mp.workprec(PRECISION):
        for name, table, truth, bound in TABLES:
            evidence.ulps(table(chain)[levels], [truth(products[t]) for t in levels], bound, name)
        pairs = [
            (0, 1),
            (1, 2),
            (777, 1000),
            (last - 2, last - 1),
            *((t, t + 3) for t in range(last - 20_000, last - 5, 700)),
        ]
        for s, t in pairs:
            jumps_hold(evidence, chain, products, s, t)


@proof(
    "T-SNR",
    of=(Chain.snr, Chain.log_snr),
    oracle="products of 1 - beta to 135 digits",
    given=(st.sampled_from([0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1), 0.49, 0.51]),),
    examples=5,
)
def log_snr_near_zero(evidence: Evidence, beta: float) -> None:
    """The logarithm keeps its digits where it passes through zero."""
    with mp.workprec(PRECISION):
        truth = [mp.log(p / (1 - p)) for p in signal_products([beta])[1:]]
        evidence.ulps(Chain([beta]).log_snr[1:], truth, FOUR, "log SNR")


@proof(
    "T-fn9", "T-SNR", "T-fn27", "G-23",
    of=(Chain.alpha_bar, Chain.one_minus_alpha_bar, Chain.c, Chain.d, Chain.snr,
        Chain.marginal_variance),
    oracle="covariance of the simulated chain, with the data or the noise switched off",
    given=(moderate_betas(), st.sampled_from([0.25, 1.0, 4.0])),
)  # fmt: skip
def simulated(evidence: Evidence, steps: Array, variance: float) -> None:
    """Signal and noise are what is left of the variance when the other is absent."""
    chain = Chain(steps)
    covariance = joint_covariance(steps, variance)
    total, noise = np.diag(covariance), np.diag(joint_covariance(steps, 0.0))
    signal = total - noise
    evidence.close(chain.alpha_bar * variance, signal, rtol=SIMULATED, atol=1e-14, what="signal")
    evidence.close(chain.one_minus_alpha_bar, noise, rtol=SIMULATED, what="noise")
    evidence.close(chain.c * variance, covariance[0], rtol=SIMULATED, what="c")
    evidence.close(chain.d, np.sqrt(noise), rtol=SIMULATED, what="d")
    # For data of another variance the ratio of the variances is that many times the SNR.
    ratio = signal[1:] / noise[1:]
    evidence.close(chain.snr[1:] * variance, ratio, rtol=SIMULATED, atol=1e-13, what="SNR")
    evidence.close(chain.marginal_variance(variance), total, rtol=SIMULATED, what="Var x_t")
    unit = bool(np.allclose(total, 1.0, rtol=SIMULATED))
    evidence.holds(unit == (variance == 1), "the variance is preserved for unit data alone")


@proof(
    "T-fn27",
    of=Chain.snr,
    oracle="correlation of the step's noise with the whole noise of x_t, from unit normals",
    given=(moderate_betas(min_steps=2),),
)
def noise_of_a_level_is_not_that_of_its_step(evidence: Evidence, steps: Array) -> None:
    """The noise beside the signal in x_t is the aggregate; the step's own is a part of it."""
    chain = Chain(steps)
    weights = np.zeros(steps.size)
    for t, beta in enumerate(steps):
        weights *= np.sqrt(1 - beta)
        weights[t] = np.sqrt(beta)
    evidence.close(chain.d[-1], np.linalg.norm(weights), rtol=SIMULATED, what="aggregate")
    share = weights[-1] / np.linalg.norm(weights)
    evidence.close(np.sqrt(steps[-1]) / chain.d[-1], share, rtol=SIMULATED, what="correlation")
    evidence.holds(share < 1, "the step's noise is not the whole noise")


@proof(
    "K-8..14",
    of=(Chain.alpha, Chain.beta),
    oracle="regression of x_t on x_s in the joint covariance",
    given=(st.data(), moderate_betas()),
)
def jumps_by_regression(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Several steps together keep the squared regression weight and add what it leaves over."""
    s, t = data.draw(level_pairs(steps.size))
    weights, rest = condition(joint_covariance(steps), t, [s])
    evidence.close(Chain(steps).alpha(s, t), weights[0] ** 2, rtol=SOLVED, what="alpha")
    evidence.close(Chain(steps).beta(s, t), rest, rtol=SOLVED, what="beta")


@proof(
    "T-SNR",
    of=(Chain.alpha_bar, Chain.snr, Chain.log_snr, Chain.log_alpha_bar, Chain.snr_drop),
    oracle="order of neighbouring levels",
    given=(betas(min_steps=2),),
)
def levels_lose_signal(evidence: Evidence, steps: Array) -> None:
    """Noise never takes signal back, and every positive beta takes some."""
    chain = Chain(steps)
    evidence.equal(chain.alpha_bar[0], 1.0, "alpha_bar_0")
    evidence.equal(chain.snr[0], np.inf, "SNR(0)")
    evidence.holds(np.diff(chain.log_alpha_bar) < 0, "log alpha_bar falls strictly")
    evidence.holds(chain.log_snr[1:] < chain.log_snr[:-1], "log SNR falls strictly")
    drop = chain.snr_drop(np.arange(steps.size), np.arange(1, steps.size + 1))
    evidence.holds(drop >= 0, "SNR(t - 1) - SNR(t) is not negative")


@proof(
    "T-fn7", "T-4.1.4",
    of=(Chain, Chain.lambdas, Chain.c, Chain.alpha_bar, lambda_schedule),
    oracle="round trip of the two notations",
    given=(st.lists(st.floats(0.01, 0.999), min_size=1, max_size=12),),
)  # fmt: skip
def dictionary(evidence: Evidence, lambdas: list[float]) -> None:
    """The step adds 1 - lambda^2 and back, and alpha_bar = Lambda^2."""
    chain = lambda_schedule(lambdas)
    # A beta near one leaves 1e-16 of itself, up to 1e-12 of a lambda^2 of 1e-4.
    evidence.close(chain.lambdas, lambdas, rtol=1e-11, what="lambda")
    evidence.close(lambda_schedule(chain.lambdas).betas, chain.betas, rtol=1e-13, what="beta")
    evidence.close(Chain(chain.betas).lambdas, chain.lambdas, what="lambda again")
    evidence.close(chain.alpha_bar[1:], np.cumprod(lambdas) ** 2, rtol=1e-10, what="alpha_bar")
    evidence.close(chain.c[1:], np.cumprod(lambdas), rtol=1e-10, what="Lambda")


def simulated_alpha_bar(chain: Chain) -> Array:
    """Squared covariance of x_t with unit data, from the simulated chain."""
    return np.asarray(joint_covariance(chain.betas)[0] ** 2)


@misprint(
    "K-abar",
    of=Chain.alpha_bar,
    truth=simulated_alpha_bar,
    oracle="covariance of the simulated chain",
    counterexample=Counterexample((Chain([0.1, 0.2, 0.3]),), printed=0.504, right=0.9),
    search=(moderate_betas(min_steps=2).map(Chain),),
    value=lambda table: table[1],
)
def product_over_all_steps(chain: Chain) -> Array:
    """The product runs to T whatever t is."""
    return np.full(chain.steps + 1, np.prod(1 - chain.betas))


@misprint(
    "L-fwd",
    of=Chain.alpha_bar,
    truth=simulated_alpha_bar,
    oracle="covariance of the simulated chain",
    counterexample=Counterexample((Chain([0.1, 0.3]),), printed=0.49, right=0.63),
    search=(moderate_betas(min_steps=2).map(Chain),),
    value=lambda table: table[2],
)
def power_of_the_last_step(chain: Chain) -> Array:
    """The factor of the product carries t instead of the product's own index."""
    return np.concatenate([[1.0], (1 - chain.betas) ** np.arange(1, chain.steps + 1)])


def exact_snr(chain: Chain) -> Array:
    """SNR at every level from exact products."""
    with mp.workprec(PRECISION):
        products = signal_products(chain.betas)
        return np.array([np.inf, *(float(p / (1 - p)) for p in products[1:])])


@misprint(
    "T-4.2-ends",
    of=Chain.snr,
    truth=exact_snr,
    oracle="products of 1 - beta to 135 digits",
    counterexample=Counterexample(
        (Chain(np.linspace(1e-4, 0.02, 1000)),),
        printed=[9999, 6.3528e-3],
        right=[9999, 4.0360e-5],
        within=1e-6,
    ),
    search=(moderate_betas().map(Chain),),
    value=lambda table: table[[1, -1]],
)
def smallest_snr_is_the_amplitude(chain: Chain) -> Array:
    """SNR at the last level is called the product of the lambdas."""
    table = chain.snr.copy()
    table[-1] = chain.c[-1]
    return table
