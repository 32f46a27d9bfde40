"""The family without the Markov property: its law, its marginals, its deterministic path."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy import optimize

from ddpm.reference.chain import Chain
from ddpm.reference.ddim import (
    ddim_coefficients,
    ddim_inversion_step,
    ddim_mean,
    ddim_path,
    ddim_step,
    ddim_variance,
    largest_eta,
)
from ddpm.reference.posterior import Coefficients
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import condition, joint_covariance
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import (
    Array,
    generators,
    level_pairs,
    moderate_betas,
    shapes,
    subsequences,
)

# A solve in a covariance of condition number 1e4 leaves 1e-11; a root is 1e-8 where it vanishes,
# so shares of the room for sigma^2 stay below 0.9 wherever a root is searched for.
SHARES = st.floats(0.0, 0.9)
SOLVED = 1e-9


def implied(chain: Chain, s: int, t: int, sigma2: float) -> Coefficients:
    """Regression of x_s on (x_0, x_t) under the law that the marginals and sigma2 determine.

    The covariance of x_s and x_t is searched for until conditioning leaves the variance sigma2.
    """
    truth = joint_covariance(chain.betas)
    if s == 0:
        return Coefficients(np.array(1.0), np.array(0.0), np.array(sigma2))
    covariance = truth[np.ix_([0, s, t], [0, s, t])]
    c_s, c_t = covariance[0, 1], covariance[0, 2]

    def left_over(shared: float) -> float:
        covariance[1, 2] = covariance[2, 1] = c_s * c_t + shared
        return condition(covariance, 1, [0, 2])[1] - sigma2

    widest = np.sqrt((1 - c_s**2) * (1 - c_t**2))
    left_over(optimize.brentq(left_over, 0, 1.01 * widest, xtol=1e-15, rtol=1e-15))
    (a, b), rest = condition(covariance, 1, [0, 2])
    return Coefficients(a, b, np.array(rest))


def assembled(chain: Chain, levels: list[int], variances: list[Array]) -> Array:
    """Coefficients of every visited level over x_0 and the noises, from the noisiest level down."""
    unit = np.eye(len(levels) + 1)
    c = joint_covariance(chain.betas)[0, levels[0]]
    rows = [c * unit[0] + np.sqrt(1 - c**2) * unit[1]]
    for i, ((t, s), sigma2) in enumerate(zip(pairwise(levels), variances, strict=True), start=2):
        a, b, s2 = ddim_coefficients(chain, s, t, sigma2)
        rows.append(a * unit[0] + b * rows[-1] + np.sqrt(s2) * unit[i])
    return np.stack(rows)


def refused(*arguments: Any) -> bool:
    """Whether the coefficients refuse their arguments."""
    try:
        ddim_coefficients(*arguments)
    except ValueError:
        return True
    return False


@proof(
    "L-2.13", "L-Lemma2.1",
    of=ddim_coefficients,
    oracle="covariances of the noising chain, and conditioning what was assembled",
    given=(st.data(), moderate_betas(max_steps=6)),
)  # fmt: skip
def marginals(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Whatever the variances, each level keeps its law given x_0, on every subsequence."""
    chain, levels = Chain(steps), data.draw(subsequences(steps.size))
    shares = data.draw(st.lists(st.floats(0, 1), min_size=len(levels) - 1, max_size=len(levels)))
    pairs = list(zip(levels[1:], shares, strict=False))
    variances = [share * chain.one_minus_alpha_bar[s] for s, share in pairs]
    rows = assembled(chain, levels, variances)
    covariance, truth = rows @ rows.T, joint_covariance(steps)
    evidence.close(np.diag(covariance), 1.0, rtol=SOLVED, what="variance of a level")
    evidence.close(rows[:, 0], truth[0, levels], rtol=SOLVED, what="weight of x_0")
    for i, sigma2 in enumerate(variances[:-1], start=1):
        rest = condition(covariance, i, [len(levels) - 1, i - 1])[1]
        evidence.close(rest, sigma2, rtol=SOLVED, atol=1e-11, what="variance given x_0 and x_t")


@proof(
    "L-2.13", "L-Lemma2.1",
    of=ddim_coefficients,
    oracle="searching the covariance that leaves the variance sigma^2",
    given=(st.data(), moderate_betas(), SHARES),
)  # fmt: skip
def regression(evidence: Evidence, data: st.DataObject, steps: Array, share: float) -> None:
    """The marginals and sigma^2 leave one law, and its mean is the regression on x_0 and x_t."""
    s, t = data.draw(level_pairs(steps.size))
    chain = Chain(steps)
    sigma2 = share * chain.one_minus_alpha_bar[s]
    got, want = ddim_coefficients(chain, s, t, sigma2), implied(chain, s, t, sigma2)
    evidence.close(np.stack(got), np.stack(want), rtol=SOLVED, atol=1e-11, what="(a, b, s2)")


@misprint(
    "L-Lemma2.1",
    of=ddim_coefficients,
    truth=implied,
    oracle="searching the covariance that leaves the variance sigma^2",
    counterexample=Counterexample((Chain([0.1, 0.2]), 1, 2, 0.05), printed=0.10, right=0.05),
    search=(moderate_betas(min_steps=2).map(Chain), st.just(1), st.just(2), st.floats(0.0, 0.015)),
    value=lambda result: result.s2,
)
def marginal_for_the_conditional(chain: Chain, s: int, _t: int, _sigma2: float) -> Coefficients:
    """The end of the proof gives x_{k-1} the marginal's moments while it conditions on x_k."""
    return Coefficients(chain.c[s], np.array(0.0), chain.one_minus_alpha_bar[s])


@proof(
    "L-2.13",
    of=(ddim_coefficients, largest_eta),
    oracle="variance left over for every covariance that the marginals allow",
    given=(st.data(), moderate_betas(min_steps=2), st.floats(1e-9, 1)),
)
def condition_on_sigma(
    evidence: Evidence, data: st.DataObject, steps: Array, excess: float
) -> None:
    """No law has sigma^2 > 1 - alpha_bar_s; sigma in [0, 1) alone does not prevent that."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain, covariance = Chain(steps), joint_covariance(steps)[np.ix_([0, s, t], [0, s, t])]
    c_s, c_t = covariance[0, 1], covariance[0, 2]
    for shared in np.linspace(-1, 1, 9) * np.sqrt((1 - c_s**2) * (1 - c_t**2)):
        covariance[1, 2] = covariance[2, 1] = c_s * c_t + shared
        rest = condition(covariance, 1, [0, 2])[1]
        evidence.at_most(rest, chain.one_minus_alpha_bar[s] + 1e-12, "variance left over")
        if shared == 0:
            evidence.close(rest, chain.one_minus_alpha_bar[s], rtol=SOLVED, what="largest")
    room = chain.one_minus_alpha_bar[s]
    evidence.holds(not refused(chain, s, t, room), "the largest variance is accepted")
    for beyond in (np.nextafter(room, 1), room + excess * (1 - room)):
        evidence.holds(refused(chain, s, t, beyond), "a larger one is refused")


@proof("L-2.13", of=ddim_coefficients, oracle="radicand from the joint covariance")
def counterexample_to_the_condition(evidence: Evidence) -> None:
    """With alpha_bar_1 = .9 and sigma_2 = .5 the radicand is negative."""
    radicand = 1 - joint_covariance([0.1, 0.2])[0, 1] ** 2 - 0.5**2
    evidence.close(radicand, -0.15, rtol=SOLVED, what="radicand")
    evidence.holds(refused(Chain([0.1, 0.2]), 1, 2, 0.5**2), "sigma = .5 is refused")


@proof(
    "L-2.14", "L-tau", "G-3.5-DDIM",
    of=(ddim_coefficients, ddim_variance, ddim_step),
    oracle="joint covariance of the chain, restricted to the visited levels",
    given=(st.data(), moderate_betas(max_steps=6)),
    examples=25,
)  # fmt: skip
def restores_the_chain(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """With eta = 1 the whole joint law is that of the Markov chain, on a subsequence and on all."""
    chain = Chain(steps)
    for levels in (data.draw(subsequences(steps.size)), [*range(steps.size, -1, -1)]):
        truth = joint_covariance(steps)[np.ix_(levels, levels)]
        variances = [ddim_variance(chain, s, t, 1.0) for t, s in pairwise(levels)]
        rows = assembled(chain, levels, variances)
        evidence.close(rows @ rows.T, truth, rtol=SOLVED, atol=1e-12, what="covariance")
        unit, walked = np.eye(len(levels) + 1), [rows[0]]
        for i, (t, s) in enumerate(pairwise(levels), start=2):
            walked.append(ddim_step(chain, s, t, walked[-1], unit[0], unit[i], eta=1.0))
        evidence.close(np.stack(walked), rows, atol=1e-12, what="the same step by step")


@proof(
    "L-2.14",
    of=ddim_coefficients,
    oracle="conditioning the joint covariance of the chain",
    given=(st.data(), moderate_betas(min_steps=2)),
)
def slope_of_the_chain(evidence: Evidence, data: st.DataObject, steps: Array) -> None:
    """Given the posterior's variance alone, the mean too is that of the chain's posterior."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    (a, b), rest = condition(joint_covariance(steps), s, [0, t])
    got = ddim_coefficients(Chain(steps), s, t, rest)
    evidence.close(np.stack(got), np.array([a, b, rest]), rtol=SOLVED, what="(a, b, s2)")


@proof(
    "L-2.13", "G-3.5-DDIM",
    of=(ddim_coefficients, ddim_step, ddim_variance),
    oracle="forward regression in the covariance that was assembled",
    given=(st.data(), moderate_betas(max_steps=6, min_steps=2), st.floats(0, 1.1)),
)  # fmt: skip
def not_a_markov_chain(evidence: Evidence, data: st.DataObject, steps: Array, eta: float) -> None:
    """Given x_s, x_t still depends on x_0, with the sign of eta - 1: at eta = 1 it does not."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain = Chain(steps)
    eta = min(eta, float(largest_eta(chain, s, t)))
    unit = np.eye(3)
    c = joint_covariance(steps)[0, t]
    x_t = c * unit[0] + np.sqrt(1 - c**2) * unit[1]
    rows = np.stack([unit[0], ddim_step(chain, s, t, x_t, unit[0], unit[2], eta), x_t])
    weights, _ = condition(rows @ rows.T, 2, [0, 1])
    restored = ddim_step(chain, s, t, x_t, unit[0], unit[2], 1.0)
    rows[1] = restored
    markov, _ = condition(rows @ rows.T, 2, [0, 1])
    evidence.close(markov[0], 0.0, atol=1e-11, what="weight of x_0 at eta = 1")
    # Within a thousandth of eta = 1 the weight is as small as the error of the solve.
    if abs(eta - 1) > 1e-3:
        evidence.holds(np.sign(weights[0]) == np.sign(eta - 1), "x_0 matters forwards")


@proof(
    "L-DDIM-det",
    of=(ddim_step, ddim_path),
    oracle="weights of x_0 in the joint covariance of the chain",
    given=(moderate_betas(max_steps=6),),
)
def one_noise_for_all_levels(evidence: Evidence, steps: Array) -> None:
    """With sigma = 0 every level holds one and the same noise, so their covariance has rank 1."""
    chain, unit = Chain(steps), np.eye(steps.size + 2)
    c = joint_covariance(steps)[0]
    want = np.stack([c, np.sqrt(1 - c**2)], axis=1)
    x = want[-1] @ unit[:2]
    for t in range(steps.size, 0, -1):
        evidence.close(x[:2], want[t], rtol=SOLVED, atol=1e-10, what="x_0 and noise, downwards")
        evidence.equal(x[2:], 0.0, "weight of any other noise")
        x = ddim_step(chain, t - 1, t, x, unit[0], unit[t + 1])
    evidence.equal(x, unit[0], "level 0")
    path = ddim_path(chain, np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    evidence.close(path, want, rtol=SOLVED, atol=1e-10, what="x_0 and noise, upwards")
    given_x0 = np.outer(path[1:, 1], path[1:, 1])
    evidence.holds(np.linalg.matrix_rank(given_x0, tol=1e-10) == 1, "the covariance has rank 1")


@proof(
    "L-DDIM-det",
    of=ddim_inversion_step,
    oracle="the step that it undoes",
    given=(st.data(), moderate_betas(min_steps=2), shapes(min_batch=1), generators()),
)
def inversion(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """A deterministic step and its inverse cancel, whatever the estimate, for levels s >= 1."""
    s, t = data.draw(level_pairs(steps.size, lowest=1))
    chain, (x, clean, noise) = Chain(steps), rng.normal(size=(3, *shape))
    up = ddim_inversion_step(chain, s, t, x, clean)
    evidence.close(ddim_step(chain, s, t, up, clean, noise), x, atol=1e-11, what="up, then down")
    down = ddim_step(chain, s, t, x, clean, noise)
    evidence.close(ddim_inversion_step(chain, s, t, down, clean), x, atol=1e-11, what="down, up")


def path_of_the_covariance(chain: Chain, x0: Array, noise: Array) -> Array:
    """Each level as c x_0 + sqrt(1 - c^2) eps with the c of the joint covariance and one eps."""
    c = joint_covariance(chain.betas)[0]
    return np.asarray(np.multiply.outer(c, x0) + np.multiply.outer(np.sqrt(1 - c**2), noise))


@misprint(
    "L-DDIM-det",
    of=ddim_path,
    truth=path_of_the_covariance,
    oracle="weights of x_0 in the joint covariance of the chain",
    counterexample=Counterexample(
        (Chain([0.1, 0.2]), np.array([0.5]), np.array([0.0])), printed=0.9487, right=0.4743
    ),
    search=(
        moderate_betas().map(Chain),
        st.floats(-3, 3).map(lambda x: np.array([x])),
        st.floats(-3, 3).map(lambda x: np.array([x])),
    ),
    value=lambda path: path[1],
)
def first_level_without_the_data(chain: Chain, x0: Array, noise: Array) -> Array:
    """The law of x_1 given x_0 is printed with the mean sqrt(alpha_1), x_0 left out."""
    path = [x0, np.sqrt(1 - chain.betas[0]) + np.sqrt(chain.betas[0]) * noise]
    for s in range(1, chain.steps):
        path.append(ddim_inversion_step(chain, s, s + 1, path[s], x0))
    return np.stack(path)


@proof(
    "L-DDIM-mean",
    of=ddim_mean,
    oracle="regression on x_0 and x_t, with x_0 told by x_t and its noise",
    given=(
        st.data(), moderate_betas(), SHARES, shapes(min_batch=1), generators()
    ),
)  # fmt: skip
def mean_from_the_noise(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    share: float,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """The form in eps is the mean of Lemma 2.1, on a jump with the alpha of the jump."""
    s, t = data.draw(level_pairs(steps.size))
    chain, c = Chain(steps), joint_covariance(steps)[0, t]
    x0, eps = rng.normal(size=(2, *shape))
    x_t = c * x0 + np.sqrt(1 - c**2) * eps
    sigma2 = share * chain.one_minus_alpha_bar[s]
    a, b, _ = implied(chain, s, t, sigma2)
    got = ddim_mean(chain, s, t, x_t, eps, sigma2)
    evidence.close(got, a * x0 + b * x_t, rtol=SOLVED, atol=SOLVED, what="mean")


@proof(
    "L-DDIM-step", "L-tau", "G-3.5-DDIM",
    of=ddim_step,
    oracle="regression on x_0 and x_t at eta^2 times the variance that conditioning leaves",
    given=(st.data(), moderate_betas(), st.floats(0, 1), shapes(min_batch=1), generators()),
)  # fmt: skip
def step(
    evidence: Evidence,
    data: st.DataObject,
    steps: Array,
    eta: float,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """A step is c_s x_0 + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma z for any estimate."""
    s, t = data.draw(level_pairs(steps.size))
    chain, (x_t, x0, z) = Chain(steps), rng.normal(size=(3, *shape))
    covariance = joint_covariance(steps)
    sigma2 = eta**2 * condition(covariance, s, [0, t])[1] if s else 0.0
    a, b, _ = implied(chain, s, t, sigma2)
    got = ddim_step(chain, s, t, x_t, x0, z, eta)
    evidence.close(got, a * x0 + b * x_t + np.sqrt(sigma2) * z, atol=1e-8, what="regression")
    c_s, c_t = covariance[0, s], covariance[0, t]
    eps = (x_t - c_t * x0) / np.sqrt(1 - c_t**2)
    direction = np.sqrt(max(1 - c_s**2 - sigma2, 0.0))
    want = c_s * x0 + direction * eps + np.sqrt(sigma2) * z
    evidence.close(got, want, atol=1e-7, what="form with the direction")
