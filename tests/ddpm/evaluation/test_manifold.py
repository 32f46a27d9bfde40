"""Precision and recall on points anybody can place, and against loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.evaluation import manifold
from ddpm.evaluation.manifold import precision_and_recall


def line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float64)[:, None]


def test_points_on_a_line() -> None:
    # Each real point has a neighbour at distance 1, so the real manifold is [-1, 4]. The drawn
    # points have radii 3.25, 3.25 and 6.25: they cover everything real.
    found = precision_and_recall(line(0, 1, 2, 3), line(0.5, 3.75, 10), neighbour=1)
    assert found == (2 / 3, 1.0)


def test_what_is_far_away_or_the_same() -> None:
    real = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 4)))
    assert precision_and_recall(real, real) == (1, 1)
    assert precision_and_recall(real, real + 100) == (0, 0)


def test_a_generator_that_knows_few_pictures_is_precise_and_recalls_little() -> None:
    real = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 2)))
    few = real[:5].repeat(40, 1) + 1e-6 * torch.arange(200)[:, None]
    precision, recall = precision_and_recall(real, few)
    assert precision > 0.99
    assert recall < 0.1


def by_loops(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    inside = 0
    for point in points:
        for i, centre in enumerate(centres):
            others = sorted(math.dist(centre, o) for j, o in enumerate(centres) if j != i)
            if math.dist(point, centre) <= others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@given(
    seed=st.integers(0, 1000), n=st.integers(5, 12), m=st.integers(5, 12), k=st.integers(1, 4),
    chunk=st.integers(1, 20),
)  # fmt: skip
@settings(deadline=None, max_examples=25)
def test_loops_agree(seed: int, n: int, m: int, k: int, chunk: int) -> None:
    generator = np.random.default_rng(seed)
    real, drawn = generator.normal(size=(n, 3)), 0.7 + generator.normal(size=(m, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifold, "CHUNK", chunk)
        found = precision_and_recall(torch.from_numpy(real), torch.from_numpy(drawn), k)
    assert found == (by_loops(drawn, real, k), by_loops(real, drawn, k))


@pytest.mark.parametrize(
    ("real", "drawn", "word"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), r"\(9, 2\), \(9, 3\)"),
        (torch.zeros(9), torch.zeros(9), r"\(9,\)"),
        (torch.zeros(9, 2), torch.zeros(3, 2), "neighbour = 3: allowed is 1 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(real: torch.Tensor, drawn: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        precision_and_recall(real, drawn)
