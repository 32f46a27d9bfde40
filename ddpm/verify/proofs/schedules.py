"""The schedules against their definitions in exact arithmetic, and the papers' numbers."""

from itertools import pairwise

import mpmath as mp
import numpy as np
from hypothesis import strategies as st

from ddpm.reference.chain import Chain
from ddpm.reference.schedules import (
    alpha_bar_schedule,
    cosine_schedule,
    lambda_schedule,
    linear_log_snr_schedule,
    linear_schedule,
    log_snr_schedule,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import PRECISION, joint_covariance, signal_products
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, betas, moderate_betas

STEPS = st.integers(1, 300)
LENGTHS = st.sampled_from([10, 50, 100, 1000, 4000])


def exact_betas(signal: list[mp.mpf]) -> list[mp.mpf]:
    """Betas between levels of given signal power."""
    return [1 - after / before for before, after in pairwise(signal)]


@proof(
    "T-2.6-linear", "V-5.2",
    of=linear_schedule,
    oracle="end points and second differences",
    given=(STEPS, st.floats(1e-6, 0.4), st.floats(1e-6, 0.9)),
)  # fmt: skip
def linear(evidence: Evidence, steps: int, first: float, last: float) -> None:
    """Betas form an arithmetic progression between the ends asked for."""
    chain = linear_schedule(steps, first, last)
    evidence.equal(chain.steps, steps, "T")
    evidence.equal(chain.betas[0], first, "beta_1")
    evidence.equal(chain.betas[-1], last if steps > 1 else first, "beta_T")
    evidence.close(np.diff(chain.betas, 2), 0, atol=1e-15, what="second difference")


@proof(
    "T-2.6-linear", "V-5.2", "K-2.1",
    of=linear_schedule,
    oracle="products of 1 - beta to 135 digits",
)  # fmt: skip
def thousand_linear_steps(evidence: Evidence) -> None:
    """The increment is 1.99199e-5; read as the second beta the printed factor ends at .1199."""
    chain = linear_schedule(1000)
    evidence.equal(chain.betas[[0, -1]], [1e-4, 0.02], "ends")
    increment = (chain.betas[-1] - chain.betas[0]) / 999
    evidence.close(increment, 1.99199e-5, rtol=1e-5, what="increment")
    evidence.close(chain.betas[0] + 999 * increment, 0.02, rtol=1e-12, what="beta_1000")
    literal = chain.betas[0] + 999 * chain.betas[1]
    evidence.close(literal, 0.1199, atol=1e-4, what="last beta with beta_2 for the increment")
    end = float(signal_products(chain.betas)[-1])
    evidence.close(chain.alpha_bar[-1], end, rtol=1e-15, what="alpha_bar_T")
    evidence.close(end, 4.03583e-5, rtol=1e-6, what="alpha_bar_T as recorded")


@proof(
    "T-2.6-cosine", "G-46", "G-47",
    of=cosine_schedule,
    oracle="cosines to 135 digits",
    given=(STEPS, st.sampled_from([0.0, 0.008, 0.2])),
)  # fmt: skip
def cosine(evidence: Evidence, steps: int, offset: float) -> None:
    """Unclipped, alpha_bar is the squared cosine over its value at level 0; it ends at zero."""
    chain = cosine_schedule(steps, offset, clip=1.0)
    with mp.workprec(PRECISION):
        s = mp.mpf(offset)
        angles = [(mp.mpf(t) / steps + s) / (1 + s) * mp.pi / 2 for t in range(steps)]
        squares = [mp.cos(angle) ** 2 for angle in angles] + [mp.mpf(0)]
        want = np.array([float(beta) for beta in exact_betas(squares)])
        curve = np.array([float(square / squares[0]) for square in squares])
    evidence.close(chain.betas, want, rtol=1e-14, what="beta")
    # Each of up to 300 betas rounds to 1e-16, which is up to 1e5 times as much of 1 - beta.
    evidence.close(chain.alpha_bar, curve, rtol=1e-10, what="alpha_bar")
    evidence.holds(chain.zero_terminal_snr, "beta_T is 1")
    evidence.equal(chain.alpha_bar[-1], 0.0, "alpha_bar_T")


@proof("T-2.6-cosine", of=cosine_schedule, oracle="cosines to 135 digits")
def quarter_cosine(evidence: Evidence) -> None:
    """Without offset and clip the amplitude is cos(pi t / 2T), and the first beta tiny."""
    chain = cosine_schedule(1000, 0.0, 1.0)
    with mp.workprec(PRECISION):
        want = [float(mp.cos(mp.pi * t / 2000)) for t in range(1000)]
    evidence.close(chain.c, [*want, 0.0], rtol=1e-11, what="Lambda")
    evidence.close(chain.betas[0], 2.467e-6, rtol=1e-3, what="beta_1")
    evidence.equal(chain.betas[-1], 1.0, "beta_T")


@proof(
    "T-2.6-cosine", "G-46", "G-47",
    of=cosine_schedule,
    oracle="product of the clipped betas",
    given=(LENGTHS,),
    examples=5,
)  # fmt: skip
def clipped_cosine(evidence: Evidence, steps: int) -> None:
    """The clip at .999 changes one beta, and alpha_bar is that of the betas as clipped."""
    clipped, plain = cosine_schedule(steps), cosine_schedule(steps, clip=1.0)
    changed = np.flatnonzero(clipped.betas != plain.betas)
    evidence.equal(changed, [steps - 1], "clipped levels")
    evidence.equal(clipped.betas[-1], 0.999, "beta_T")
    evidence.close(clipped.betas[-2], 0.75, atol=5 / steps**1.5, what="beta_{T-1}")
    want = np.prod(1 - clipped.betas)
    evidence.close(clipped.alpha_bar[-1], want, rtol=1e-10, what="alpha_bar_T")
    evidence.holds(clipped.alpha_bar[-1] > 0, "the clipped schedule keeps some signal")


@proof("G-46", "G-47", of=cosine_schedule, oracle="the printed form in its two readings")
def square_of_the_cosine(evidence: Evidence) -> None:
    """The square is of the cosine: .4938 half way; squaring the angle would give .8100."""
    chain = cosine_schedule(1000)
    evidence.close(chain.alpha_bar[500], 0.4938, atol=5e-5, what="alpha_bar half way")
    start, angle = (0.008 / 1.008 * np.pi / 2, 0.508 / 1.008 * np.pi / 2)
    squared = np.cos(angle**2) / np.cos(start**2)
    evidence.close(squared, 0.8100, atol=5e-5, what="alpha_bar with the angle squared")
    right = np.cos(angle) ** 2 / np.cos(start) ** 2
    evidence.close(chain.alpha_bar[500], right, rtol=1e-11, what="alpha_bar half way")
    evidence.close(chain.betas[0], 4.128e-5, rtol=1e-3, what="beta_1")
    evidence.at_most(np.sqrt(chain.betas[0]), 1 / 127.5, "first noise, in grey levels")
    evidence.close(chain.alpha_bar[-1], 2.43e-9, rtol=2e-3, what="alpha_bar_T")
    plain = cosine_schedule(1000, clip=1.0)
    evidence.holds(plain.betas[-1] == 1, "without the clip beta_T leaves (0, 1)")


@proof(
    "G-3",
    of=(linear_schedule, cosine_schedule),
    oracle="order of neighbouring betas",
    given=(LENGTHS,),
    examples=5,
)
def betas_increase(evidence: Evidence, steps: int) -> None:
    """The linear and the cosine schedule, clipped or not, add more noise with every step."""
    for chain in (linear_schedule(steps), cosine_schedule(steps), cosine_schedule(steps, clip=1.0)):
        evidence.holds(np.diff(chain.betas) > 0, "betas increase strictly")


@proof(
    "G-3",
    of=(Chain, linear_schedule),
    oracle="covariance of the simulated chain",
    given=(moderate_betas(min_steps=2),),
)
def no_identity_needs_increasing_betas(evidence: Evidence, steps: Array) -> None:
    """A schedule that falls has its marginal law by the same formula as one that rises."""
    for order in (np.sort(steps), np.sort(steps)[::-1]):
        want = joint_covariance(order)[0] ** 2
        evidence.close(Chain(order).alpha_bar, want, rtol=1e-12, what="alpha_bar")
    falling = linear_schedule(5, 0.4, 0.1)
    want = joint_covariance(falling.betas)[0] ** 2
    evidence.close(falling.alpha_bar, want, rtol=1e-12, what="alpha_bar")


@proof("G-3.3", of=(linear_schedule, cosine_schedule), oracle="counts of exact products")
def linear_ends_with_more_signal_than_cosine(evidence: Evidence) -> None:
    """The last level is less noisy under linear betas; they only reach heavy noise much earlier."""
    chains = linear_schedule(1000), cosine_schedule(1000)
    products = [[float(p) for p in signal_products(chain.betas)] for chain in chains]
    counts = [sum(power < 0.01 for power in table) for table in products]
    evidence.equal(counts, [327, 65], "levels with less than a hundredth of the signal")
    for chain, table in zip(chains, products, strict=True):
        evidence.close(chain.alpha_bar, table, rtol=1e-15, what="alpha_bar")
    evidence.holds(products[0][-1] > 1e4 * products[1][-1], "linear keeps more signal at the end")


@proof(
    "G-48",
    of=(alpha_bar_schedule, Chain.beta),
    oracle="round trip from betas, and quotients to 135 digits",
    given=(moderate_betas(), betas(max_steps=1)),
)
def betas_from_signal(evidence: Evidence, steps: Array, single: Array) -> None:
    """Each beta is what its step takes of the signal; a table of alpha_bar gives the betas back."""
    chain = Chain(steps)
    again = alpha_bar_schedule(chain.alpha_bar[1:])
    # The table rounds to 1e-16, up to fifty times as much of a beta of at least 0.02.
    evidence.close(again.betas, steps, rtol=2e-14, what="beta")
    levels = np.arange(steps.size)
    evidence.close(again.betas, chain.beta(levels, levels + 1), rtol=2e-14, what="beta of the step")
    with mp.workprec(PRECISION):
        want = exact_betas([mp.mpf(power) for power in chain.alpha_bar.tolist()])
        evidence.ulps(again.betas, want, 2.0, "beta of the table")
    power = 1 - single[0]
    if power < 1:
        evidence.equal(alpha_bar_schedule([power]).betas, [1 - power], "single beta")


@proof(
    "T-2.6-logsnr",
    of=(linear_log_snr_schedule, Chain.log_snr),
    oracle="the arithmetic progression asked for",
    given=(STEPS, st.floats(-2, 8), st.floats(0.01, 10)),
)  # fmt: skip
def linear_log_snr(evidence: Evidence, steps: int, first: float, span: float) -> None:
    """The log SNR of the betas falls by equal amounts from `first` to `last`."""
    chain = linear_log_snr_schedule(steps, first, first - span)
    want = np.linspace(first - span, first, steps)[::-1]
    # A beta rounds to 1e-16, which is up to e^12 times as much of 1 - beta, 300 times over.
    evidence.close(chain.log_snr[1:], want, atol=4e-9, what="log SNR")


@proof(
    "T-2.6-logsnr",
    of=log_snr_schedule,
    oracle="sigmoids to 135 digits",
    given=(st.lists(st.integers(-3000, 1200), min_size=1, max_size=20, unique=True), st.booleans()),
)  # fmt: skip
def any_log_snr(evidence: Evidence, hundredths: list[int], ends_in_noise: bool) -> None:
    """Betas follow from any strictly decreasing log SNR, minus infinity at the end included."""
    values = sorted((number / 100 for number in hundredths), reverse=True)
    chain = log_snr_schedule([*values, -np.inf] if ends_in_noise else values)
    evidence.holds(chain.zero_terminal_snr == ends_in_noise, "zero terminal SNR where asked for")
    with mp.workprec(PRECISION):
        signal = [mp.mpf(1), *(1 / (1 + mp.exp(-mp.mpf(g))) for g in values)]
        want = np.array([float(beta) for beta in exact_betas(signal)])
    # A difference of log SNRs rounds to 4e-15 of at least 0.01.
    evidence.close(chain.betas[: len(values)], want, rtol=1e-12, what="beta")


@proof("T-2.6-logsnr", of=log_snr_schedule, oracle="sigmoids to 135 digits")
def tiny_steps_of_log_snr(evidence: Evidence) -> None:
    """Steps of 2^-30 in log SNR keep every digit of beta; a quotient of alpha_bars loses most."""
    values = 1.0 - np.arange(4) * 2.0**-30
    with mp.workprec(PRECISION):
        signal = [mp.mpf(1), *(1 / (1 + mp.exp(-mp.mpf(g))) for g in values.tolist())]
        want = exact_betas(signal)
        evidence.ulps(log_snr_schedule(values).betas, want, 4.0, "beta")
    power = 1 / (1 + np.exp(-values))
    naive = 1 - power[1:] / power[:-1]
    error = np.abs(naive / np.array([float(beta) for beta in want[1:]]) - 1).max()
    evidence.holds(error > 1e-8, "the quotient loses digits")


@proof("T-2.6-logsnr", of=(log_snr_schedule, linear_log_snr_schedule), oracle="logistic ends")
def extreme_log_snr(evidence: Evidence) -> None:
    """The default ends, and values where a plain exponential overflows."""
    chain = linear_log_snr_schedule(1000)
    evidence.close(chain.log_snr[[1, 1000]], [9.2, -10.1], rtol=1e-9, what="default ends")
    evidence.close(linear_log_snr_schedule(1).log_snr[1], -10.1, rtol=1e-12, what="single step")
    high = log_snr_schedule([700.0, -800.0])
    evidence.close(high.betas, [np.exp(-700.0), 1.0], rtol=1e-13, what="beta")


@proof(
    "T-fn7", "T-4.1.4",
    of=(lambda_schedule, Chain.c),
    oracle="squares and products to 135 digits",
    given=(st.lists(st.floats(0, 1 - 1e-9), min_size=1, max_size=20),),
)  # fmt: skip
def lambdas_are_step_amplitudes(evidence: Evidence, lambdas: list[float]) -> None:
    """Beta is 1 - lambda^2 to the last place, also where lambda is close to one."""
    inner = [max(value, 1e-3) for value in lambdas[:-1]]
    chain = lambda_schedule([*inner, lambdas[-1]])
    with mp.workprec(PRECISION):
        want = [1 - mp.mpf(value) ** 2 for value in [*inner, lambdas[-1]]]
        evidence.ulps(chain.betas, want, 2.0, "beta")
    # A beta rounds to 1e-16, up to 1e-10 of a lambda^2 of 1e-6.
    evidence.close(chain.c[:-1], np.cumprod([1.0, *inner]), rtol=1e-9, atol=1e-300, what="Lambda")


@proof(
    "T-2.6-linear", "T-2.6-cosine", "T-2.6-logsnr",
    of=(linear_schedule, cosine_schedule, linear_log_snr_schedule, log_snr_schedule),
    oracle="the only level there is",
)  # fmt: skip
def one_step(evidence: Evidence) -> None:
    """Every schedule is defined for a single step."""
    evidence.equal(linear_schedule(1).betas, [1e-4], "linear")
    evidence.equal(cosine_schedule(1).betas, [0.999], "cosine")
    evidence.equal(cosine_schedule(1, clip=1.0).betas, [1.0], "plain cosine")
    evidence.close(log_snr_schedule([0.0]).betas, [0.5], rtol=1e-15, what="log SNR 0")
