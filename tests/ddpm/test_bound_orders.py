"""The bound of the exact network against the exact likelihood and the exact reverse."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from benchmarks.sampler_orders.bound import (
    CHOICES,
    RATES,
    Choice,
    Nodes,
    exact_entropy,
    excess,
    excess_of_exact_reverse,
    leading_constant,
    schedule_of,
    terms,
)
from benchmarks.sampler_orders.subjects import LINE
from ddpm import likelihood
from ddpm.diffusion import GaussianDiffusion
from ddpm.likelihood import NATS_PER_BIT, level_bits_per_image
from ddpm.reference.continuous import information
from ddpm.reference.mixture import Mixture

NODES = Nodes.of_line()
STEPS = (16, 32, 64)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_bound_closes_as_the_exact_reverse_says(choice: Choice) -> None:
    found = []
    for steps in STEPS:
        schedule = schedule_of(steps)
        gap = excess(schedule, choice, NODES)
        assert gap > 0
        assert gap == pytest.approx(excess_of_exact_reverse(schedule, choice), abs=3e-7)
        found.append(gap * steps ** RATES[choice])
    # Two numbers of steps take the next order of 1 / n away.
    rough, better = (2 * many - few for few, many in pairwise(found))
    want = leading_constant(choice)
    assert better == pytest.approx(
        want, rel={"posterior": 0.02, "constant": 0.01, "exact": 0.08}[choice]
    )
    assert abs(better - want) < abs(rough - want)


def test_better_variances_make_a_tighter_bound() -> None:
    posterior, constant, exact = (excess(schedule_of(32), choice, NODES) for choice in CHOICES)
    assert posterior > 2 * constant > 4 * exact


def test_exact_entropy_by_what_the_data_tell() -> None:
    """h(x_1) is that of its noise and the information that x_1 holds of x_0."""
    schedule = schedule_of(8)
    law = [np.array(x) for x in (LINE.weights, LINE.means, LINE.variances)]
    noise = float(schedule.one_minus_alpha_bar[1])
    want = information(Mixture(*law), float(schedule.snr[1]))
    want += math.log(2 * math.pi * math.e * noise) / 2
    assert exact_entropy(schedule) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("t", [2, 5, 9])
def test_fixed_variances_have_the_same_terms(t: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`level_bits_per_image` on the nodes in place of the noise that it draws."""
    schedule = schedule_of(8)
    diffusion, network = GaussianDiffusion(schedule, "eps"), LINE.mixture.network(schedule, "eps")
    size = likelihood.BATCH
    order = iter(NODES.noise[first : first + size] for first in range(0, len(NODES.noise), size))

    def given(*_: Any) -> Tensor:
        return next(order)

    monkeypatch.setattr(likelihood, "normal", given)
    bits = level_bits_per_image(diffusion, network, NODES.clean, t, 0)
    got = float(NODES.weights @ bits) * NATS_PER_BIT
    assert got == pytest.approx(terms(schedule, "posterior", NODES)[t - 1], rel=1e-5)
