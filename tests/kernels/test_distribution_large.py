"""A hundred million normals: their law, their tails, and that no place knows of another.

The values stream through in blocks of a megabyte; kept are a histogram of each lane and sums of
products. Seeds are fixed. A score is a deviation in standard errors; bounds are such that all tests
together would fail a perfect generator with a chance below 1e-3. What keeps the bounds honest is
the second half: generators broken on purpose, of which each kind of test must notice its own with
a twentieth of the values.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from ddpm.kernels.philox import box_muller, normals, words

SIZE, ROWS, BLOCKS = 2**14, 16, 384
FEW_BLOCKS = 20
SCORE = 5.5
CHANCE = 1e-6

# Edges of the histogram lie 2**-13 apart and hold at most 4.9e-5 of the mass between them.
PER_UNIT, REACH = 2**13, 7
BINS = 2 * REACH * PER_UNIT
EDGES = np.arange(1, BINS) / PER_UNIT - REACH
MIDDLES = (np.arange(BINS) + 0.5) / PER_UNIT - REACH


@dataclass(frozen=True)
class Place:
    seed: int = 11
    step: int = 5
    stream: int = 2
    first: int = 0


Draw = Callable[[Place], Tensor]

ELSEWHERE = {
    "seed": Place(seed=12),
    "high word of the seed": Place(seed=11 + 2**32),
    "step": Place(step=6),
    "stream": Place(stream=3),
    "high word of the sample": Place(first=2**32),
}
PAIRS = ("lanes", "counters", "samples", *ELSEWHERE)


def indices(place: Place) -> tuple[Tensor, Tensor, Tensor]:
    samples = torch.arange(place.first, place.first + ROWS)
    return torch.tensor(place.seed), torch.tensor(place.step), samples


def draw(place: Place) -> Tensor:
    """Normals of ROWS consecutive samples, [ROWS, SIZE]."""
    return normals(*indices(place), place.stream, SIZE)


@dataclass
class Drawn:
    """What is kept of a stream of blocks."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros((4, BINS), dtype=np.int64))
    products: dict[str, Tensor] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, one: Tensor, other: Tensor) -> None:
        """Add the products of all features of one with all of the other, both [12, ...]."""
        product = (one.reshape(12, -1) @ other.reshape(12, -1).T).double()
        self.products[name] = self.products.get(name, 0) + product
        self.pairs[name] = self.pairs.get(name, 0) + one[0].numel()

    def scores(self, name: str) -> np.ndarray:
        """Sums of products in standard errors, of the pairs whose factors are independent."""
        score: np.ndarray = (self.products[name] / self.pairs[name] ** 0.5).numpy()
        if name != "lanes":
            return score.ravel()
        lane = np.arange(12) % 4
        return score[lane[:, None] < lane]


def features(z: Tensor) -> Tensor:
    """Orthonormal polynomials of degree 1, 2, 3 of each lane, [12, ROWS, SIZE // 4]."""
    lanes = z.view(ROWS, -1, 4).permute(2, 0, 1).contiguous()
    squares = lanes.square()
    cubes = (squares - 3).mul_(lanes).mul_(6**-0.5)
    return torch.cat((lanes, squares.sub_(1).mul_(2**-0.5), cubes))


def collect(source: Draw, blocks: int) -> Drawn:
    drawn = Drawn()
    shift = (torch.arange(4) * BINS + REACH * PER_UNIT).repeat(SIZE // 4)
    for block in range(blocks):
        here = block * ROWS
        z = source(Place(first=here))
        bins = (z * PER_UNIT).floor_().long().add_(shift).view(-1).numpy()
        drawn.counts += np.bincount(bins, minlength=4 * BINS).reshape(4, BINS)
        base = features(z)
        drawn.add("lanes", base, base)
        drawn.add("counters", base[:, :, 1:], base[:, :, :-1])
        drawn.add("samples", base[:, 1:], base[:, :-1])
        for name, place in ELSEWHERE.items():
            other = source(replace(place, first=place.first + here))
            drawn.add(name, base, features(other))
    return drawn


def smallest_chance(drawn: Drawn) -> float:
    """Kolmogorov-Smirnov at the edges of the histogram, for each lane and all together.

    Between two edges the distribution functions of a normal and of the sample move by a bin's mass
    at most, so that no deviation above the critical 2.7e-4 (1e8 values) plus 4.9e-5 escapes.
    """
    chances = []
    for counts in (*drawn.counts, drawn.counts.sum(0)):
        below = np.cumsum(counts)[:-1] / counts.sum()
        distance = np.abs(below - special.ndtr(EDGES)).max()
        chances.append(special.kolmogorov(distance * np.sqrt(counts.sum())))
    return float(min(chances))


def moment_scores(drawn: Drawn) -> np.ndarray:
    """Moments 1 to 8 in standard errors, from the middles of the bins.

    A bin's width changes the eighth by 28 E[z^6] 2**-26 / 12 = 5e-7, far below its error of 0.14.
    """
    scores = []
    for counts in (*drawn.counts, drawn.counts.sum(0)):
        for power in range(1, 9):
            mean, square = stats.norm.moment(power), stats.norm.moment(2 * power)
            error = np.sqrt((square - mean**2) / counts.sum())
            scores.append(((counts * MIDDLES**power).sum() / counts.sum() - mean) / error)
    return np.array(scores)


def tail_chance(drawn: Drawn) -> float:
    """Smallest two-sided binomial chance of the counts beyond 0, 1/2, .., 6 on either side."""
    counts = drawn.counts.sum(0)
    chances = []
    for bound in np.arange(0, 6.5, 0.5):
        p = stats.norm.sf(bound)
        for side in (counts, counts[::-1]):
            found = side[int((bound + REACH) * PER_UNIT) :].sum()
            law = stats.binom(counts.sum(), p)
            chances.append(2 * min(law.cdf(found), law.sf(found - 1)))
    return float(min(chances))


def pair_chance(drawn: Drawn, name: str) -> float:
    """Chance of the sum of all squared scores of a kind of pairs."""
    scores = drawn.scores(name)
    return float(stats.chi2.sf((scores**2).sum(), scores.size))


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return collect(draw, BLOCKS)


def test_there_are_a_hundred_million(drawn: Drawn) -> None:
    assert drawn.counts.sum() == SIZE * ROWS * BLOCKS > 1e8
    assert (drawn.counts.sum(1) == drawn.counts.sum() // 4).all()


def test_distribution_function(drawn: Drawn) -> None:
    assert smallest_chance(drawn) > CHANCE


def test_moments(drawn: Drawn) -> None:
    assert np.abs(moment_scores(drawn)).max() < SCORE


def test_tails(drawn: Drawn) -> None:
    assert tail_chance(drawn) > CHANCE


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_uncorrelated(drawn: Drawn, name: str) -> None:
    assert np.abs(drawn.scores(name)).max() < SCORE
    assert pair_chance(drawn, name) > CHANCE


def from_words(change: Callable[[Tensor], Tensor]) -> Draw:
    """Draw from changed words [ROWS, SIZE // 4, 4]."""

    def source(place: Place) -> Tensor:
        drawn = words(*indices(place), place.stream, SIZE).view(ROWS, -1, 4)
        pairs = change(drawn).reshape(ROWS, -1, 2)
        out = torch.empty(pairs.shape)
        radius, angle = (word.contiguous() for word in pairs.unbind(-1))
        return box_muller(radius, angle, out).view(ROWS, SIZE)

    return source


def without(name: str, value: int) -> Draw:
    """Draw from a generator that ignores a word of its place."""
    return lambda place: draw(replace(place, **{name: value}))


BROKEN: dict[str, Draw] = {
    "tails": from_words(lambda w: w & ~0xFFFF),
    "moments": lambda place: draw(place) * 1.003,
    "distribution": lambda place: draw(place) + 0.005,
    "lanes": from_words(lambda w: w[..., [0, 1, 0, 3]]),
    "counters": from_words(lambda w: w[:, torch.arange(SIZE // 4) // 2]),
    "samples": lambda place: draw(replace(place, first=place.first // 2**32 * 2**32))[
        torch.zeros(ROWS, dtype=torch.long)
    ],
    "seed": without("seed", 11),
    "high word of the seed": lambda place: draw(replace(place, seed=place.seed % 2**32)),
    "step": without("step", 0),
    "stream": without("stream", 0),
    "high word of the sample": lambda place: draw(replace(place, first=place.first % 2**32)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_generator_is_noticed(name: str) -> None:
    drawn = collect(BROKEN[name], FEW_BLOCKS)
    if name == "tails":
        assert tail_chance(drawn) < CHANCE
    elif name == "moments":
        assert np.abs(moment_scores(drawn)).max() > SCORE
    elif name == "distribution":
        assert smallest_chance(drawn) < CHANCE
    else:
        assert np.abs(drawn.scores(name)).max() > SCORE
        assert pair_chance(drawn, name) < CHANCE
