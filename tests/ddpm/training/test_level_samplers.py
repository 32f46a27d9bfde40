"""Laws of the levels: exact marginals, and draws that no split of a batch changes."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.errors import InputError
from ddpm.keys import Key, draw_levels
from ddpm.reference.level_sampling import stratified_level
from ddpm.training.level_samplers import (
    LevelSampler,
    LevelSampling,
    StratifiedLevels,
    UniformLevels,
    level_sampler,
    stratified_levels,
)
from ddpm.training.loss_aware import LossAwareLevels
from ddpm.verify.strategies import seeds
from tests.ddpm.laws import STEPS, WORDS, Z, counts, experienced
from tests.devices.pretend import GPU, pretend_gpu

KINDS: tuple[LevelSampling, ...] = ("uniform", "low_discrepancy", "loss_aware")


def law_of(kind: LevelSampling) -> LevelSampler:
    return experienced() if kind == "loss_aware" else level_sampler(kind, STEPS)


@given(seeds(), st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 2**31 - 1))
def test_uniform_levels_are_those_of_the_keys(
    seed: int, update: int, batch: int, steps: int
) -> None:
    t, weight = UniformLevels(steps).draw(seed, update, slice(0, batch), batch)
    assert torch.equal(t, draw_levels(Key.of(seed, range(batch), update), steps))
    assert t.dtype == torch.int64
    assert torch.equal(weight, torch.ones(batch))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(seed=seeds(), update=st.integers(0, 2**32 - 1), cuts=st.sets(st.integers(0, 24)))
def test_parts_of_a_batch_are_parts_of_the_draw(
    kind: LevelSampling, seed: int, update: int, cuts: set[int]
) -> None:
    law, edges = law_of(kind), sorted({0, 24} | cuts)
    whole = law.draw(seed, update, slice(0, 24), 24)
    parts = [law_of(kind).draw(seed, update, slice(a, b), 24) for a, b in pairwise(edges)]
    for field in ("t", "weight"):
        joined = torch.cat([getattr(part, field) for part in parts])
        assert torch.equal(joined, getattr(whole, field))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_differ_by_seed_and_update_and_belong_to_the_caller(kind: LevelSampling) -> None:
    law, rows = law_of(kind), slice(0, 64)
    first = law.draw(1, 5, rows, 64).t
    kept = first.clone()
    assert not torch.equal(first, law.draw(2, 5, rows, 64).t)
    assert not torch.equal(first, law.draw(1, 6, rows, 64).t)
    first.zero_()
    assert torch.equal(law.draw(1, 5, rows, 64).t, kept)


@pytest.mark.parametrize("batch", [1, 5, 4096, 5000, 2**18 + 1])
def test_how_many_updates_are_drawn_together_does_not_show(batch: int) -> None:
    law, rows = LossAwareLevels(1000), slice(batch - 1, batch)
    for update in (0, 63, 64, 2**32 - 1):
        want = draw_levels(Key.of(3, [batch - 1], update), 1000)
        assert law.draw(3, update, rows, batch).t.tolist() == want.tolist()


@pytest.mark.parametrize(
    ("batch", "steps"), [(1, 1), (1, 7), (8, 8), (7, 16), (16, 7), (128, 1000), (1000, 300)]
)
def test_every_row_of_a_stratified_batch_is_uniform(batch: int, steps: int) -> None:
    for row in {0, 1 % batch, batch // 2, batch - 1}:
        # Where u passes 1 the map falls back to level 1.
        wrap = -(-WORDS * (batch - row) // batch)
        index = torch.tensor(row)

        def level(word: Tensor, index: Tensor = index) -> Tensor:
            return stratified_levels(word, index, batch, steps)

        number = counts(level, steps, 0, wrap) + counts(level, steps, wrap, WORDS)
        assert int(number.sum()) == WORDS
        # Two pieces, each cut at whole words: one word too many or too few for each.
        assert float((number - WORDS / steps).abs().max()) < 2
        if WORDS % (steps * batch) == 0:
            assert number.tolist() == [WORDS // steps] * steps


@given(st.integers(0, WORDS - 1), st.integers(0, 10).map(lambda k: 2**k), st.integers(1, 1000))
def test_stratified_levels_against_the_reference(offset: int, batch: int, steps: int) -> None:
    # A power of two as the batch keeps the reference's floating-point numbers exact.
    got = stratified_levels(torch.tensor(offset), torch.arange(batch), batch, steps)
    assert got.tolist() == stratified_level(offset / WORDS, batch, steps).tolist()
    times = np.bincount(got.numpy(), minlength=steps + 1)[1:]
    assert math.floor(batch / steps) <= times.min() <= times.max() <= math.ceil(batch / steps)


@given(st.integers(0, WORDS - 1), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.data())
def test_stratified_levels_against_fractions(
    offset: int, batch: int, steps: int, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, batch - 1))
    got = stratified_levels(torch.tensor(offset), torch.tensor(row), batch, steps)
    u = (Fraction(offset, WORDS) + Fraction(row, batch)) % 1
    assert int(got) == 1 + math.floor(u * steps)


def test_one_offset_serves_a_stratified_batch() -> None:
    law = StratifiedLevels(1000)
    t = law.draw(4, 9, slice(0, 16), 16).t
    assert bool((t.sort().values.diff() - 62.5).abs().max() < 1)
    # Row 0 is the offset itself, drawn under the key of row 0.
    assert int(t[0]) == int(draw_levels(Key.of(4, [0], 9), 1000))


@pytest.mark.parametrize(("profile", "ratio"), [("falling", 0.5), ("steep", 0.3), ("valley", 0.1)])
def test_stratified_batches_vary_less_than_independent_ones(profile: str, ratio: float) -> None:
    steps, batch = 32, 8
    t = np.arange(1, steps + 1)
    loss = {"falling": 1.0 / t, "steep": 0.7**t, "valley": (t - 20.0) ** 2}[profile]
    # All words that differ: one in each of the T B equal parts of the circle.
    offsets = torch.arange(steps * batch) * (WORDS // (steps * batch))
    levels = stratified_levels(offsets[:, None], torch.arange(batch), batch, steps)
    means = loss[levels.numpy() - 1].mean(axis=1)
    assert means.mean() == pytest.approx(loss.mean(), rel=1e-12)
    assert means.var() < ratio * loss.var() / batch


@pytest.mark.parametrize("row", [0, 5, 12])
def test_a_row_of_stratified_draws_is_uniform_over_updates(row: int) -> None:
    law, updates = StratifiedLevels(STEPS), 3000
    t = [int(law.draw(8, update, slice(row, row + 1), 13).t) for update in range(updates)]
    found = np.bincount(t, minlength=STEPS + 1)[1:]
    chi2 = ((found - updates / STEPS) ** 2 * STEPS / updates).sum()
    assert (chi2 - (STEPS - 1)) / math.sqrt(2 * (STEPS - 1)) < Z


@pytest.mark.parametrize("kind", ["uniform", "low_discrepancy"])
def test_the_others_have_no_history(kind: LevelSampling) -> None:
    law, rows = level_sampler(kind, STEPS), slice(0, 9)
    before = law.draw(1, 2, rows, 9).t
    law.observe(before, torch.ones(9))
    assert law.tensors() == {}
    law.load({})
    assert torch.equal(law.draw(1, 2, rows, 9).t, before)
    with pytest.raises(InputError, match="tensor seen is unknown"):
        law.load({"seen": torch.zeros(1)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2**63, 0, slice(0, 1), 2), f"seed = {2**63}: allowed is a signed 64-bit integer"),
        ((0, -1, slice(0, 1), 2), "update = -1: allowed is 0 to"),
        ((0, 2**32, slice(0, 1), 2), "update = 4294967296"),
        ((0, 0, slice(0, 1), 0), "batch = 0: allowed is 1 to"),
        ((0, 0, slice(0, 3), 2), r"rows = slice\(0, 3, None\): allowed is a start and a stop"),
        ((0, 0, slice(-1, 2), 2), "rows = "),
        ((0, 0, slice(2, 1), 2), "rows = "),
        ((0, 0, slice(None, 2), 2), "rows = "),
        ((0, 0, slice(0, None), 2), "rows = "),
        ((0, 0, slice(0, 2, 2), 2), "rows = "),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_refused_draws(
    kind: LevelSampling, arguments: tuple[int, int, slice, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        level_sampler(kind, STEPS).draw(*arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_refused_numbers_of_levels(kind: LevelSampling) -> None:
    for steps in (0, 2**31):
        with pytest.raises(InputError, match=rf"steps = {steps}: allowed is 1 to 2\^31 - 1"):
            level_sampler(kind, steps)


def test_refused_laws() -> None:
    with pytest.raises(InputError, match="allowed is uniform, low_discrepancy, loss_aware"):
        level_sampler("random", 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="kept = 0: allowed is"):
        LossAwareLevels(3, kept=0)
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(InputError, match=f"share = {share}: allowed is"):
            LossAwareLevels(3, share=share)


def test_nothing_is_read_on_the_host() -> None:
    t = torch.ones(6, dtype=torch.int64, device=GPU)
    with pretend_gpu():
        law = LossAwareLevels(STEPS, GPU)
        law.observe(t, torch.ones(6, device=GPU))
        drawn = law.levels_of(t)
        stratified = stratified_levels(t[0], t - 1, 6, STEPS)
    assert drawn.t.device == drawn.weight.device == stratified.device == GPU
