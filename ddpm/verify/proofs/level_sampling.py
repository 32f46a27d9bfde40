"""Levels drawn from uniform numbers, against enumeration, a minimiser and draws of NumPy's own."""

import numpy as np
from hypothesis import strategies as st
from scipy import optimize

from ddpm.reference.chain import Chain
from ddpm.reference.level_sampling import (
    LevelArray,
    LossHistory,
    adjacent_pair,
    importance_weight,
    level_probabilities,
    stratified_level,
    uniform_level,
    weighted_level,
)
from ddpm.verify.evidence import Evidence
from ddpm.verify.oracles import joint_covariance
from ddpm.verify.registry import proof
from ddpm.verify.strategies import Array, generators, moderate_betas

# A few dozen roundings of numbers of order one.
ROUNDED = 1e-12
LAST = 1 - 2.0**-53


def midpoints(count: int) -> Array:
    """The middles of `count` equal cells of [0, 1): they stand for the uniform law exactly."""
    return np.asarray((np.arange(count) + 0.5) / count)


def counts(levels: LevelArray, steps: int) -> Array:
    """How often each of the levels 1..steps occurs; the others must not."""
    return np.bincount(np.ravel(levels), minlength=steps + 1)[1:].astype(np.float64)


@proof(
    "T-2.3-uniform",
    of=uniform_level,
    oracle="counting over a grid that stands for the uniform law",
    given=(st.integers(1, 300), st.integers(1, 5), generators()),
)
def every_level_as_often(
    evidence: Evidence, steps: int, times: int, rng: np.random.Generator
) -> None:
    """Every level has one cell of the unit interval, so one loss drawn is unbiased for the mean."""
    levels = uniform_level(midpoints(steps * times), steps)
    evidence.equal(counts(levels, steps), np.full(steps, float(times)), "how often a level occurs")
    losses = rng.exponential(size=steps)
    evidence.close(losses[levels - 1].mean(), losses.mean(), rtol=ROUNDED, what="mean loss")


@proof(
    "T-2.3-uniform",
    of=uniform_level,
    oracle="the first and the last float64 number below 1",
    given=(st.integers(1, 2**31),),
)
def both_ends(evidence: Evidence, steps: int) -> None:
    """The levels begin with 1 and end with T, also where u T rounds."""
    evidence.equal(uniform_level([0.0, LAST], steps), [1, steps], "ends")


@proof(
    "T-2.3-uniform",
    of=uniform_level,
    oracle="Monte Carlo with a weight and a loss for each level",
)
def one_level_drawn(evidence: Evidence) -> None:
    """The weighted loss of a level drawn uniformly has the mean of all levels."""
    rng = np.random.default_rng(3)
    weights, losses = rng.uniform(0.1, 3.0, 37), rng.exponential(size=37)
    t = uniform_level(rng.uniform(size=100_000), 37)
    evidence.equal([t.min(), t.max()], [1, 37], "ends")
    want = sum(weights * losses) / 37
    evidence.mean(weights[t - 1] * losses[t - 1], want, "weighted loss")


@proof(
    "T-fn16",
    of=(weighted_level, level_probabilities, importance_weight),
    oracle="counting over a grid that stands for the uniform law",
    given=(st.lists(st.integers(0, 7), min_size=1, max_size=9).filter(any), generators()),
)
def weighted_augmentation(evidence: Evidence, weights: list[int], rng: np.random.Generator) -> None:
    """Levels come in proportion to their weight, and the plain loss has the weighted mean."""
    w, steps = np.array(weights, dtype=np.float64), len(weights)
    levels = weighted_level(midpoints(5 * sum(weights)), weights)
    evidence.equal(counts(levels, steps), 5 * w, "how often a level occurs")
    evidence.close(level_probabilities(weights), w / sum(weights), rtol=ROUNDED, what="p")
    losses, positive = rng.exponential(size=steps), 1 + np.flatnonzero(w)
    want = sum(w * losses) / sum(weights)
    evidence.close(losses[levels - 1].mean(), want, rtol=ROUNDED, what="mean of the plain loss")
    scale = w[positive - 1] * importance_weight(level_probabilities(weights), positive)
    evidence.close(scale, sum(weights) / steps, rtol=ROUNDED, what="factor to the objective")


@proof(
    "T-fn16",
    of=weighted_level,
    oracle="the last float64 number below 1, and weights whose partial sums round below it",
)
def last_weight(evidence: Evidence) -> None:
    """The last number belongs to the last level of positive weight, the first to the first."""
    tenths = [0.1] * 10
    evidence.at_most(np.cumsum(tenths)[-1], LAST, "sum of ten tenths as rounded")
    evidence.equal(weighted_level(LAST, tenths), 10, "last level")
    evidence.equal(weighted_level([0.0, LAST], [0, 0, 2, 1, 0]), [3, 4], "ends")
    evidence.equal(weighted_level(0.5, [1, 0, 0, 1]), 4, "level at a border")


@proof(
    "T-fig2",
    of=adjacent_pair,
    oracle="the joint covariance of all levels",
    given=(moderate_betas(), st.floats(0.1, 4.0)),
)
def pair_from_the_marginal(evidence: Evidence, betas: Array, variance: float) -> None:
    """The pair has the joint law of two neighbouring levels."""
    chain, full = Chain(betas), joint_covariance(betas, variance)
    # One sample for each of the three numbers that go in.
    start, first, second = np.diag([np.sqrt(variance), 1.0, 1.0])
    for t in range(1, betas.size + 1):
        factor = np.stack(adjacent_pair(chain, t, start, first, second))
        want = full[t - 1 : t + 1, t - 1 : t + 1]
        evidence.close(factor @ factor.T, want, rtol=ROUNDED, atol=ROUNDED, what="covariance")
        gains = full[0, t - 1 : t + 1] / np.sqrt(variance)
        evidence.close(factor[:, 0], gains, rtol=ROUNDED, what="gain from x_0")


@proof(
    "T-fn16", "T-fig2",
    of=(weighted_level, adjacent_pair),
    oracle="Monte Carlo against the sum over levels",
)  # fmt: skip
def augmented_loss(evidence: Evidence) -> None:
    """Unweighted on the modified data, a regression has the weighted loss over sum w."""
    rng, draws, betas = np.random.default_rng(11), 200_000, np.array([0.1, 0.3, 0.5, 0.2])
    weights, slopes = np.array([2.0, 0.0, 1.0, 0.5]), np.array([0.9, 0.2, 0.5, 0.3])
    t = weighted_level(rng.uniform(size=draws), weights)
    x0 = rng.choice([-1.0, 1.0], size=draws)
    before, after = adjacent_pair(Chain(betas), t, x0, *rng.normal(size=(2, draws)))
    full = joint_covariance(betas)
    losses = [
        full[s, s] - 2 * m * full[s, s + 1] + m**2 * full[s + 1, s + 1]
        for s, m in enumerate(slopes)
    ]
    want = weights @ losses / weights.sum()
    evidence.mean((before - slopes[t - 1] * after) ** 2, want, "loss on the modified data")
    evidence.mean(
        before * after, weights @ np.diag(full, 1) / weights.sum(), "covariance of a pair"
    )


def second_moment(p: Array, squares: Array) -> Array:
    """E of the squared estimate L / (T p), written out."""
    return np.asarray(np.sum(squares / p) / p.size**2)


@proof(
    "G-3.2",
    of=(LossHistory.probabilities, importance_weight),
    oracle="numerical minimisation of the variance over all probabilities",
    given=(generators(), st.integers(2, 6)),
    examples=15,
)
def least_variance(evidence: Evidence, rng: np.random.Generator, steps: int) -> None:
    """Probabilities like sqrt(E L_t^2) leave the mean and have the least variance."""
    losses = rng.gamma(2.0, rng.uniform(0.2, 3.0, size=steps), size=(10, steps))
    history = LossHistory(steps, floor=1e-9)
    for row in losses:
        history.record(np.arange(1, steps + 1), row)
    p, squares = history.probabilities, (losses**2).mean(axis=0)
    weight = importance_weight(p, np.arange(1, steps + 1))
    evidence.close(p @ (weight * losses.mean(axis=0)), losses.mean(), rtol=ROUNDED, what="mean")

    def objective(logits: Array) -> float:
        q = np.exp(logits - logits.max())
        return float(second_moment(q / q.sum(), squares) / squares.mean())

    best = optimize.minimize(objective, np.zeros(steps), method="BFGS", options={"gtol": 1e-8})
    q = np.exp(best.x - best.x.max())
    # The variance is flat at its least: 1e-9 of it moves the probabilities by about 1e-4.
    evidence.close(p, q / q.sum(), atol=1e-4, what="probabilities")
    evidence.at_most(objective(np.log(p)), best.fun * (1 + 1e-7), "variance")
    evidence.at_most(objective(np.log(p)), objective(np.zeros(steps)), "variance against uniform")


@proof(
    "G-3.2",
    of=(LossHistory, LossHistory.record, LossHistory.filled, LossHistory.probabilities),
    oracle="the last losses kept in a list, level by level",
    given=(generators(), st.integers(1, 4), st.integers(1, 3), st.floats(1e-3, 1.0)),
)
def history(
    evidence: Evidence, rng: np.random.Generator, steps: int, size: int, floor: float
) -> None:
    """Uniform until every level has `size` losses; then the last ones count, with a floor."""
    record, kept = LossHistory(steps, size, floor), {t: [0.0] * 0 for t in range(1, steps + 1)}
    for _ in range(12):
        t, losses = rng.integers(1, steps + 1, size=2), rng.normal(size=2)
        record.record(t, losses)
        for level, loss in zip(t.tolist(), losses.tolist(), strict=True):
            kept[level].append(loss)
        full = min(len(values) for values in kept.values()) >= size
        evidence.holds(record.filled == full, "the history knows when it is full")
        roots = [np.sqrt(sum(x * x for x in values[-size:]) / size) for values in kept.values()]
        want = np.full(steps, 1 / steps)
        if full:
            want = (1 - floor) * np.array(roots) / sum(roots) + floor / steps
        evidence.close(record.probabilities, want, rtol=ROUNDED, what="probabilities")


@proof(
    "G-3.2",
    of=(LossHistory, importance_weight),
    oracle="the mean over all levels, and what is lost without a floor",
)
def uniform_floor(evidence: Evidence) -> None:
    """A level whose losses were all 0 is still drawn, so that the mean stays what it is."""
    rng, record = np.random.default_rng(2), LossHistory(4)
    evidence.equal(record.floor, 0.001, "default floor")
    for count in range(11):
        evidence.holds(record.filled == (count >= 10), "ten losses of each level are kept")
        evidence.close(record.probabilities, 0.25, rtol=ROUNDED, what="before anything differs")
        record.record(np.arange(1, 5), np.zeros(4))
    for _ in range(10):
        record.record(np.arange(1, 5), np.array([0.0, 1.0, 2.0, 5.0]))
    p = record.probabilities
    evidence.close(p, 0.001 / 4 + 0.999 * np.array([0, 1, 2, 5]) / 8, rtol=ROUNDED, what="p")
    losses = np.array([3.0, 1.0, 2.0, 5.0])
    t = weighted_level(rng.uniform(size=400_000), p)
    evidence.mean(importance_weight(p, t) * losses[t - 1], losses.mean(), "weighted loss")
    without = np.array([0, 1, 2, 5]) / 8
    t = weighted_level(rng.uniform(size=1000), without)
    lost = importance_weight(without, t) * losses[t - 1]
    evidence.mean(lost, losses[1:].sum() / 4, "weighted loss without a floor, which lost a level")


@proof(
    "X-stratified", "T-2.3-uniform",
    of=stratified_level,
    oracle="counting over a grid that stands for the uniform law",
    given=(st.integers(1, 12), st.integers(1, 9), generators(), st.booleans()),
)  # fmt: skip
def stratified(
    evidence: Evidence, steps: int, batch: int, rng: np.random.Generator, jumps: bool
) -> None:
    """Each level alone is uniform; the mean of a batch of monotone losses varies no more."""
    offsets = midpoints(steps * batch)
    levels = stratified_level(offsets, batch, steps)
    for column in levels.T:
        evidence.equal(counts(column, steps), np.full(steps, float(batch)), "a level by itself")
    together = np.stack([counts(row, steps) for row in levels])
    evidence.at_most(np.abs(together - batch / steps), 1 - 1 / steps + ROUNDED, "excess of a level")
    rises = rng.exponential(size=steps) ** 4 if not jumps else rng.uniform(size=steps) < 0.3
    rising = np.cumsum(rises, dtype=np.float64)
    for losses in (rising, -rising):
        spread = losses[levels - 1].mean(axis=1).var()
        evidence.at_most(spread, losses.var() / batch * (1 + 1e-12) + 1e-30, "variance")


@proof(
    "X-stratified",
    of=stratified_level,
    oracle="counting over a grid that stands for the uniform law",
)
def periodic_loss(evidence: Evidence) -> None:
    """A loss with the period of the strata gains nothing: its variance is that of one draw."""
    losses = np.tile([0.0, 1.0], 8)
    levels = stratified_level(midpoints(16 * 8), 8, 16)
    spread = losses[levels - 1].mean(axis=1).var()
    evidence.close(spread, losses.var(), rtol=ROUNDED, what="variance of the mean of a batch")
    evidence.equal(stratified_level(0.95, 2, 10), [10, 5], "levels of one offset")
    evidence.equal(stratified_level([0.0, 0.25], 4, 4), [[1, 2, 3, 4], [2, 3, 4, 1]], "of two")
