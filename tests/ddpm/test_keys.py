import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm.keys import Key, draw_levels
from ddpm.reference import philox
from ddpm.verify.strategies import seeds

LEVEL_STREAM = 1
SAMPLES = st.lists(st.integers(0, 2**56 - 1), max_size=9)


@given(seeds(), SAMPLES, st.integers(0, 2**32 - 1), st.integers(1, 2**31 - 1))
def test_levels_against_the_reference(seed: int, samples: list[int], step: int, steps: int) -> None:
    got = draw_levels(Key.of(seed, samples, step), steps)
    want = philox.level(seed, LEVEL_STREAM, step, np.array(samples, np.int64), steps)
    assert got.dtype == torch.int64
    assert got.tolist() == want.tolist()


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_levels_are_uniform(steps: int) -> None:
    drawn = draw_levels(Key.of(3, range(100 * max(100, steps))), steps).numpy()
    counts = np.bincount(drawn, minlength=steps + 1)
    assert counts[0] == 0
    assert len(counts) == steps + 1
    assert counts[1] > 0
    assert counts[steps] > 0
    # One fixed seed: a fair generator fails once in ten thousand such choices.
    assert steps == 1 or stats.chisquare(counts[1:]).pvalue > 1e-4


@given(seeds(), st.integers(1, 30), st.integers(0, 30))
def test_levels_do_not_depend_on_the_batch(seed: int, batch: int, cut: int) -> None:
    whole = draw_levels(Key.of(seed, range(batch)), 1000).tolist()
    parts = [range(min(cut, batch)), range(min(cut, batch), batch)]
    split = [draw_levels(Key.of(seed, part), 1000).tolist() for part in parts]
    assert [*split[0], *split[1]] == whole
    assert draw_levels(Key.of(seed, range(batch)[::-1]), 1000).tolist() == whole[::-1]


def test_levels_change_with_seed_and_step() -> None:
    first = draw_levels(Key.of(1, range(64), 5), 1000)
    assert not torch.equal(first, draw_levels(Key.of(2, range(64), 5), 1000))
    assert not torch.equal(first, draw_levels(Key.of(1, range(64), 6), 1000))


@given(seeds(), SAMPLES, st.integers(0, 2**32 - 1))
def test_key_holds_what_it_was_given(seed: int, samples: list[int], step: int) -> None:
    key = Key.of(seed, iter(samples), step)
    assert (int(key.seed), int(key.step), key.sample.tolist()) == (seed, step, samples)
    for part in (key.seed, key.step, key.sample):
        assert part.dtype == torch.int64
        assert part.device == torch.device("cpu")
    assert key.seed.shape == key.step.shape == ()


def test_default_step_and_device() -> None:
    assert int(Key.of(1, [0]).step) == 0
    assert Key.of(1, [0], device="meta").sample.device.type == "meta"


@pytest.mark.parametrize("step", [-1, 2**32])
def test_step_out_of_range(step: int) -> None:
    with pytest.raises(ValueError, match=rf"step = {step}: allowed is 0 to 2\^32 - 1"):
        Key.of(1, [0], step)


@pytest.mark.parametrize("samples", [[-1], [0, 2**56], [3, -2, 1]])
def test_sample_out_of_range(samples: list[int]) -> None:
    with pytest.raises(ValueError, match=r"samples from .* to .*: allowed is 0 to 2\^56 - 1"):
        Key.of(1, samples)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed = {seed}: allowed is a signed 64-bit integer"):
        Key.of(seed, [0])


@pytest.mark.parametrize("steps", [0, -1, 2**31])
def test_levels_of_a_wrong_number_of_steps(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps = {steps}: allowed is 1 to 2\^31 - 1"):
        draw_levels(Key.of(1, [0]), steps)
