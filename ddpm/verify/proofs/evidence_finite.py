"""The evidence of a latent of finitely many values and its bound, by counting outcomes."""

from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from ddpm.reference.evidence import FiniteLatent, log_mean
from ddpm.verify.evidence import Evidence
from ddpm.verify.registry import Counterexample, misprint, proof
from ddpm.verify.strategies import Array

# Sums of at most six terms of size one.
RTOL, ATOL = 1e-12, 1e-13


class Urns(NamedTuple):
    """An urn is drawn, then one of its TOTAL balls: counts of urns and of the balls as observed."""

    urns: list[int]
    balls: list[int]

    @property
    def model(self) -> FiniteLatent:
        """The same as a model: the urn is the latent, the ball is what was seen."""
        urns = np.array(self.urns, dtype=np.float64)
        return FiniteLatent(urns / urns.sum(), np.array(self.balls) / TOTAL)

    @property
    def outcomes(self) -> list[int]:
        """The urn of each of the equally likely outcomes with the observed ball."""
        return [z for z, urn in enumerate(self.urns) for _ in range(urn * self.balls[z])]

    @property
    def evidence(self) -> Fraction:
        """Share of all outcomes that show the observed ball."""
        return Fraction(len(self.outcomes), sum(self.urns) * TOTAL)


TOTAL = 10
COUNTS = st.integers(1, 9)


@st.composite
def urns(draw: st.DrawFn) -> Urns:
    """Up to five kinds of urns."""
    pairs = draw(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=5))
    return Urns([urn for urn, _ in pairs], [ball for _, ball in pairs])


@st.composite
def urns_and_laws(draw: st.DrawFn, lowest: int = 1) -> tuple[Urns, Array]:
    """Urns and another law of them; some have probability zero if the lowest count is 0."""
    drawn = draw(urns())
    counts = st.lists(
        st.integers(lowest, 9), min_size=len(drawn.urns), max_size=len(drawn.urns)
    ).filter(any)
    law = np.array(draw(counts), dtype=np.float64)
    return drawn, law / law.sum()


@proof(
    "K-20", "K-21", "K-23", "K-37", "K-3.3", "K-22", "G-12", "T-fn2",
    of=(FiniteLatent, FiniteLatent.joint, FiniteLatent.evidence, FiniteLatent.posterior),
    oracle="counting equally likely outcomes in fractions",
    given=(urns(),),
)  # fmt: skip
def counted(evidence: Evidence, drawn: Urns) -> None:
    """The joint is a product to evaluate, the evidence its sum, the posterior its share."""
    model, outcomes = drawn.model, drawn.outcomes
    everything = sum(drawn.urns) * TOTAL
    seen = [outcomes.count(z) for z in range(len(drawn.urns))]
    want = [float(Fraction(count, everything)) for count in seen]
    evidence.close(model.joint, want, rtol=RTOL, what="joint")
    evidence.close(model.evidence, float(drawn.evidence), rtol=RTOL, what="evidence")
    want = [float(Fraction(count, len(outcomes))) for count in seen]
    evidence.close(model.posterior, want, rtol=RTOL, what="posterior")


@proof(
    "K-24", "K-38", "K-39", "K-40", "K-3.5-text",
    of=(
        FiniteLatent.importance_evidence,
        FiniteLatent.log_importance_evidence,
        FiniteLatent.elbo,
    ),
    oracle="counting equally likely outcomes in fractions",
    given=(urns_and_laws(lowest=0),),
)  # fmt: skip
def importance(evidence: Evidence, drawn: tuple[Urns, Array]) -> None:
    """Weighting by p / q gives the evidence, less what q never draws, and its log is no less."""
    (counts, q), model = drawn, drawn[0].model
    everything = sum(counts.urns) * TOTAL
    drawn_ones = [z for z in counts.outcomes if q[z] > 0]
    want = float(Fraction(len(drawn_ones), everything))
    evidence.close(model.importance_evidence(q), want, rtol=RTOL, what="E p / q")
    log_want = float(np.log(want))
    got = model.log_importance_evidence(q)
    evidence.close(got, log_want, rtol=RTOL, atol=ATOL, what="log E p / q")
    evidence.at_most(model.elbo(q), got + ATOL, "E log p / q")
    if np.all(q > 0):
        evidence.close(want, float(counts.evidence), rtol=RTOL, what="evidence")
    same = abs(q - model.posterior).max() < 1e-9
    evidence.equal(same, model.elbo(q) > np.log(model.evidence) - 1e-12, "equal at the posterior")


@proof(
    "K-25..29",
    of=(FiniteLatent.posterior_evidence, FiniteLatent.posterior_log_evidence),
    oracle="counting equally likely outcomes in fractions",
    given=(urns_and_laws(lowest=0),),
)
def ratio_to_the_posterior(evidence: Evidence, drawn: tuple[Urns, Array]) -> None:
    """p(x, z) / p(z | x) is the evidence whatever z, so that every q gives it, log or not."""
    (counts, q), model = drawn, drawn[0].model
    want = float(counts.evidence)
    evidence.close(model.posterior_evidence(q), want, rtol=RTOL, what="E p / posterior")
    got = model.posterior_log_evidence(q)
    evidence.close(got, np.log(want), rtol=RTOL, atol=ATOL, what="E log p / posterior")


@proof(
    "K-22", "K-29", "K-30", "K-32..36", "L-1.1",
    of=(FiniteLatent.elbo, FiniteLatent.gap, FiniteLatent.posterior_log_evidence),
    oracle="counting outcomes, and scipy's relative entropy",
    given=(urns_and_laws(lowest=0),),
)  # fmt: skip
def decomposition(evidence: Evidence, drawn: tuple[Urns, Array]) -> None:
    """The log evidence is the bound plus the divergence, whether q fits the posterior or not."""
    (counts, q), model = drawn, drawn[0].model
    exact = np.bincount(counts.outcomes, minlength=q.size) / len(counts.outcomes)
    divergence = float(stats.entropy(q, exact))
    log_evidence = float(np.log(float(counts.evidence)))
    evidence.close(model.gap(q), divergence, rtol=1e-11, atol=ATOL, what="divergence")
    want = log_evidence - divergence
    evidence.close(model.elbo(q), want, rtol=1e-11, atol=ATOL, what="bound")
    evidence.at_most(model.elbo(q), log_evidence + ATOL, "bound")
    evidence.close(model.gap(exact), 0.0, atol=ATOL, what="divergence at the posterior")
    evidence.at_most(log_evidence, log_evidence + model.gap(q) + ATOL, "log evidence")


@proof(
    "K-28-text", "K-40",
    of=log_mean,
    oracle="the mean of a list with each value as often as its weight says",
    given=(st.lists(st.tuples(st.floats(0.01, 100), COUNTS), min_size=1, max_size=5),),
)  # fmt: skip
def concave_logarithm(evidence: Evidence, pairs: list[tuple[float, int]]) -> None:
    """The log of a mean is at least the mean of the logs, and equal for a constant."""
    everything = np.array([value for value, count in pairs for _ in range(count)])
    counts = np.array([count for _, count in pairs])
    values, weights = np.array([value for value, _ in pairs]), counts / counts.sum()
    got = log_mean(values, weights)
    evidence.close(got, np.log(everything.mean()), rtol=RTOL, atol=ATOL, what="log E R")
    evidence.at_most(np.log(everything).mean(), got + ATOL, "E log R")
    constant = log_mean(np.full_like(values, values[0]), weights)
    evidence.close(constant, np.log(values[0]), rtol=RTOL, atol=ATOL, what="constant R")


def mean_of_logs(ratio: ArrayLike, weights: ArrayLike) -> float:
    """E log R."""
    return float(np.dot(weights, np.log(ratio)))


def log_of_a_long_mean(ratio: Array, weights: Array) -> float:
    """Log E R as an integral over (0, 1] of R as a step function."""
    ends = np.concatenate([[0.0], np.cumsum(weights)])
    return float(np.log(sum(r * (b - a) for r, (a, b) in zip(ratio, pairwise(ends), strict=True))))


RATIOS = st.lists(st.floats(0.1, 10), min_size=3, max_size=3, unique=True).map(np.array)


@misprint(
    "K-28-text",
    of=log_mean,
    truth=log_of_a_long_mean,
    oracle="an integral over a step function",
    counterexample=Counterexample(
        (np.array([1.0, 4.0, 0.5]), np.array([0.2, 0.5, 0.3])), printed=0.4852, right=0.8544
    ),
    search=(RATIOS, st.just(np.array([0.2, 0.5, 0.3]))),
)
def mean_of_logs_by_concavity(ratio: ArrayLike, weights: ArrayLike) -> float:
    """Equality as a consequence of concavity, which gives an inequality."""
    return mean_of_logs(ratio, weights)


# The model of the recorded numbers is not known; this one is chosen to give them.
@misprint(
    "K-3.5-text",
    of=FiniteLatent.log_importance_evidence,
    truth=lambda model, _: np.log(model.prior @ model.likelihood),
    oracle="the law of total probability",
    counterexample=Counterexample(
        (FiniteLatent(np.array([0.5, 0.5]), np.array([0.20964, 0.46990])), np.array([0.5, 0.5])),
        printed=-1.15879,
        right=-1.07949,
    ),
    search=(
        urns().filter(lambda drawn: len(drawn.urns) == 3).map(lambda drawn: drawn.model),
        st.just(np.array([0.2, 0.5, 0.3])),
    ),
)
def bound_as_an_equality(model: FiniteLatent, q: ArrayLike) -> float:
    """The log of the expectation taken for the expectation of the log."""
    return model.elbo(q)
