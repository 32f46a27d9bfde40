"""Loss-aware levels: least variance, unbiased weights, one history on every rank."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm.errors import InputError
from ddpm.reference.level_sampling import LossHistory
from ddpm.training.level_samplers import UniformLevels
from ddpm.training.loss_aware import LossAwareLevels
from tests.ddpm.laws import STEPS, WORDS, Z, experienced, numbers, probabilities


def test_loss_aware_levels_are_uniform_until_every_level_has_its_history() -> None:
    law, uniform, rows = LossAwareLevels(7, kept=2), UniformLevels(7), slice(0, 50)
    t = torch.arange(1, 8)
    for update, seen in enumerate([t, t[:-1], t[:-1], t[-1:]]):
        got, want = law.draw(1, update, rows, 50), uniform.draw(1, update, rows, 50)
        assert torch.equal(got.t, want.t)
        assert torch.equal(got.weight, want.weight)
        law.observe(seen, 1.0 / seen)
    assert law.draw(1, 9, rows, 50).weight.ne(1).all()


@settings(max_examples=30)
@given(
    steps=st.integers(1, 40),
    kept=st.integers(1, 4),
    share=st.sampled_from([1e-6, 0.001, 0.3, 1.0]),
    updates=st.integers(4, 7),
    seed=st.integers(0, 99),
)
def test_probabilities_against_the_reference_and_weights_that_undo_them(
    steps: int, kept: int, share: float, updates: int, seed: int
) -> None:
    law, reference = LossAwareLevels(steps, kept=kept, share=share), LossHistory(steps, kept, share)
    t = torch.arange(1, steps + 1)
    for update in range(updates):
        losses = numbers(steps, seed=seed + update) ** 4 / t
        law.observe(t, losses)
        reference.record(t.numpy(), losses.double().numpy())
    assert reference.filled
    p, weight = probabilities(law)
    assert p.sum() == 1
    # Each probability is rounded to words: by one for the floor, one for what is left over.
    np.testing.assert_allclose(p, reference.probabilities, rtol=0, atol=(steps + 2) / WORDS)
    # float32 weights; the sum is what the gradient sees, so nothing of the rounding above is left.
    np.testing.assert_allclose(p * weight * steps, np.ones(steps), rtol=2**-23)
    loss = numbers(steps, seed=-1).double().numpy()
    assert (p * weight * loss).sum() == pytest.approx(loss.mean(), rel=2**-23)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_loss_aware_levels_vary_less_than_uniform_ones(spread: float) -> None:
    """A synthetic profile: level t loses (1 + spread) / t^2 or (1 - spread) / t^2, each by half."""
    steps = 20
    t = torch.arange(1, steps + 1)
    profile = (1.0 / t.double() ** 2).numpy()
    law = LossAwareLevels(steps, kept=2)
    for sign in (1, -1):
        law.observe(t, torch.from_numpy(profile * (1 + sign * spread)))
    p, weight = probabilities(law)
    squares = profile**2 * (1 + spread**2)
    mean = profile.mean()
    uniform = squares.mean() - mean**2
    aware = (p * weight**2 * squares).sum() - mean**2
    # By Cauchy and Schwarz no law has less; the share of the uniform law costs a little.
    least = np.sqrt(squares).mean() ** 2 - mean**2
    assert least - 1e-9 < aware < 1.05 * least + 1e-3 * uniform
    assert aware < (0.01 if spread == 0 else 0.1) * uniform


def test_draws_of_a_batch_follow_the_probabilities() -> None:
    law = experienced()
    p, _ = probabilities(law)
    drawn = [law.draw(8, update, slice(0, 512), 512) for update in range(40)]
    t = torch.cat([draw.t for draw in drawn])
    expected = len(t) * p
    found = np.bincount(t.numpy(), minlength=STEPS + 1)[1:]
    chi2 = ((found - expected) ** 2 / expected).sum()
    freedom = STEPS - 1
    assert (chi2 - freedom) / math.sqrt(2 * freedom) < Z
    loss = np.arange(1.0, STEPS + 1) ** 2
    weighted = torch.cat([draw.weight for draw in drawn]).double().numpy() * loss[t.numpy() - 1]
    assert abs(weighted.mean() - loss.mean()) < Z * weighted.std() / math.sqrt(len(t))


OBSERVED = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.one_of(st.floats(0, 100, width=32), st.sampled_from([math.inf, math.nan, -0.5])),
    ),
    max_size=24,
)


@settings(max_examples=40)
@given(st.lists(OBSERVED, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_last_digit_of_a_loss_changes_no_more_than_itself(
    updates: list[list[tuple[int, float]]], random: Any
) -> None:
    """Ranks that share a batch in another way round sums in another way."""
    laws = LossAwareLevels(4, kept=3), LossAwareLevels(4, kept=3)
    for pairs in updates:
        t = torch.tensor([level for level, _ in pairs], dtype=torch.int64)
        losses = torch.tensor([loss for _, loss in pairs], dtype=torch.float32)
        ends = [torch.tensor(random.choice([-1.0, 1.0]) * math.inf) for _ in pairs]
        near = torch.nextafter(losses, torch.stack(ends)) if pairs else losses
        # The largest numbers have no neighbours that are finite.
        laws[0].observe(t, losses)
        laws[1].observe(t, torch.where(losses.isfinite(), near, losses))
    first, second = (law.tensors() for law in laws)
    assert torch.equal(first["seen"], second["seen"])
    torch.testing.assert_close(first["squares"], second["squares"], rtol=1e-6, atol=1e-80)


def test_the_first_rows_are_kept_where_there_are_too_many() -> None:
    law = LossAwareLevels(2, kept=2)
    law.observe(torch.tensor([1, 2, 1, 1]), torch.tensor([3.0, 5.0, 1.0, 2.0]))
    assert law.tensors()["squares"].tolist() == [[9.0, 1.0], [25.0, 0.0]]
    law.observe(torch.tensor([1, 2]), torch.tensor([4.0, 6.0]))
    assert law.tensors()["squares"].tolist() == [[16.0, 1.0], [25.0, 36.0]]


@given(OBSERVED, OBSERVED)
def test_each_level_keeps_its_last_finite_losses(
    early: list[tuple[int, float]], late: list[tuple[int, float]]
) -> None:
    kept, law = 3, LossAwareLevels(4, kept=3)
    for pairs in (early, late):
        t = torch.tensor([level for level, _ in pairs], dtype=torch.int64)
        law.observe(t, torch.tensor([loss for _, loss in pairs], dtype=torch.float32))
    squares = law.tensors()["squares"].tolist()
    for level in range(1, 5):
        first, second = (
            [loss**2 for t, loss in pairs if t == level and math.isfinite(loss)]
            for pairs in (early, late)
        )
        left = squares[level - 1]
        # All of the second update that fit, then of the first, then nothing.
        new = min(kept, len(second))
        old = min(kept - new, len(first))
        assert int(law.tensors()["seen"][level - 1]) == min(kept, len(first)) + new
        rest = left.copy()
        for value in second:
            if value in rest:
                rest.remove(value)
        assert len(left) - len(rest) >= new
        known = sorted(first + second)
        assert all(value in known or value == 0 for value in left)
        assert sum(value == 0 for value in left) >= kept - new - old


def test_what_an_update_keeps_of_many_losses_is_not_the_largest() -> None:
    """The kept tenth of ten thousand losses has their second moment."""
    law, losses = LossAwareLevels(1, kept=1000), numbers(10_000, seed=2)
    law.observe(torch.ones(10_000, dtype=torch.int64), losses)
    law.observe(torch.ones(500, dtype=torch.int64), 1 + numbers(500, seed=3))
    squares = law.tensors()["squares"][0]
    early = squares[squares < 1]
    assert len(early) == 500
    # E u^4 - (E u^2)^2 = 4 / 45 for u uniform.
    assert abs(float(early.mean()) - 1 / 3) < Z * math.sqrt(4 / 45 / 500)


def test_levels_without_losses_and_losses_of_nothing() -> None:
    law = LossAwareLevels(3, kept=1)
    t = torch.arange(1, 4)
    law.observe(t[:0], torch.zeros(0))
    law.observe(t, torch.zeros(3))
    np.testing.assert_allclose(probabilities(law)[0], np.full(3, 1 / 3), atol=4 / WORDS)
    law.observe(t, torch.tensor([0.0, 1.0, 0.0]))
    p, weight = probabilities(law)
    np.testing.assert_allclose(p, [0.001 / 3, 1 - 0.002 / 3, 0.001 / 3], atol=4 / WORDS)
    np.testing.assert_allclose(weight * p, np.full(3, 1 / 3), rtol=2**-23)


def test_a_history_survives_a_checkpoint() -> None:
    law, t = experienced(), torch.arange(1, STEPS + 1)
    saved = law.tensors()
    other = LossAwareLevels(STEPS, kept=3)
    other.load(saved)
    for tensor in saved.values():
        tensor.zero_()
    for update in range(5):
        one, two = (which.draw(3, update, slice(0, 40), 40) for which in (law, other))
        assert torch.equal(one.t, two.t)
        assert torch.equal(one.weight, two.weight)
        for which in (law, other):
            which.observe(t, numbers(STEPS, seed=update))
    assert all(torch.equal(law.tensors()[n], other.tensors()[n]) for n in saved)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seen", None, "tensor seen is missing"),
        ("more", torch.zeros(1), "tensor more is unknown"),
        ("squares", torch.zeros(STEPS, 4, dtype=torch.float64), r"squares has shape \[10, 4\]"),
        ("squares", torch.zeros(STEPS, 3), r"type torch.float32: allowed is \[10, 3\]"),
        ("seen", torch.full((STEPS,), -1), "seen: allowed are numbers from 0 to"),
        ("seen", torch.full((STEPS,), 2**63 - 1), "seen: allowed are numbers from 0 to"),
        *[
            ("squares", torch.full((STEPS, 3), value, dtype=torch.float64), "squares: allowed")
            for value in (math.nan, math.inf, -1.0, 1e78)
        ],
    ],
)
def test_a_damaged_history_is_refused(name: str, value: Tensor | None, message: str) -> None:
    law = experienced()
    before, tensors = law.tensors(), law.tensors()
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    with pytest.raises(InputError, match=message):
        law.load(tensors)
    assert all(torch.equal(before[n], law.tensors()[n]) for n in before)


@pytest.mark.parametrize(
    ("t", "losses", "message"),
    [
        (torch.tensor([1.0]), torch.ones(1), r"t has shape \[1\] and type torch.float32"),
        (torch.tensor(1), torch.ones(()), r"t has shape \[\]"),
        (torch.tensor([1, 2]), torch.ones(1), r"losses have shape \[1\]"),
        (torch.tensor([1]), torch.ones(1).long(), "type torch.int64: allowed are floating-point"),
        (torch.tensor([1, 0]), torch.ones(2), r"t lies in 0\.\.1: allowed is 1\.\.3"),
        (torch.tensor([4, 1]), torch.ones(2), r"t lies in 1\.\.4"),
    ],
)
def test_refused_losses(t: Tensor, losses: Tensor, message: str) -> None:
    law = LossAwareLevels(3)
    with pytest.raises(ValueError, match=message):
        law.observe(t, losses)
    assert not law.tensors()["seen"].any()
