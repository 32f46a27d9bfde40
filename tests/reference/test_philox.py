from collections import Counter

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm.reference.philox import (
    half_turns,
    level,
    normals,
    permutation,
    philox4x32,
    uniform,
    words,
)
from ddpm.verify.strategies import seeds

MASK = 0xFFFFFFFF
WORDS = st.integers(0, MASK)

# The vectors "philox4x32 10" of Random123's tests/kat_vectors: counter, key, result.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def parse(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def encrypt(counter: list[int], key: tuple[int, int]) -> list[int]:
    return [int(word) for word in philox4x32(np.array(counter, dtype=np.uint32), key)]


def decrypt(block: list[int], key: tuple[int, int]) -> list[int]:
    """Undo the rounds from the last to the first, dividing by the odd multipliers."""
    x0, x1, x2, x3 = block
    for turn in reversed(range(10)):
        key0, key1 = (key[0] + turn * 0x9E3779B9) & MASK, (key[1] + turn * 0xBB67AE85) & MASK
        old2 = x1 * pow(0xCD9E8D57, -1, 2**32) & MASK
        old0 = x3 * pow(0xD2511F53, -1, 2**32) & MASK
        old1 = x0 ^ key0 ^ (old2 * 0xCD9E8D57 >> 32)
        old3 = x2 ^ key1 ^ (old0 * 0xD2511F53 >> 32)
        x0, x1, x2, x3 = old0, old1, old2, old3
    return [x0, x1, x2, x3]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_published_known_answers(counter: str, key: str, result: str) -> None:
    first, second = parse(key)
    assert encrypt(parse(counter), (first, second)) == parse(result)


@given(st.lists(WORDS, min_size=4, max_size=4), st.tuples(WORDS, WORDS))
def test_decryption_returns_the_counter(counter: list[int], key: tuple[int, int]) -> None:
    assert decrypt(encrypt(counter, key), key) == counter


@given(seeds(), st.integers(0, 255), WORDS, st.integers(0, 2**56 - 1), st.integers(0, 40))
def test_counter_layout(seed: int, stream: int, step: int, sample: int, element: int) -> None:
    got = words(seed, stream, step, np.array([sample]), element + 1)
    assert got.shape == (1, element + 1)
    assert got.dtype == np.uint32
    bits = seed % 2**64
    counter = [element // 4, sample % 2**32, step, stream + 256 * (sample // 2**32)]
    want = encrypt(counter, (bits % 2**32, bits // 2**32))
    assert got[0, element] == want[element % 4]


@given(seeds(), st.lists(st.integers(0, 2**56 - 1), max_size=5), st.integers(0, 9))
def test_a_sample_does_not_depend_on_its_batch(seed: int, batch: list[int], count: int) -> None:
    samples = np.array(batch, dtype=np.int64)
    together = normals(seed, 2, 3, samples, count)
    assert together.shape == (len(batch), count)
    for row, sample in zip(together, batch, strict=True):
        np.testing.assert_array_equal(row, normals(seed, 2, 3, [sample], count + 3)[0, :count])


def test_uses_do_not_share_words() -> None:
    def draw(seed: int = 1, stream: int = 2, step: int = 3, sample: int = 4) -> tuple[int, ...]:
        return tuple(words(seed, stream, step, [sample], 4)[0].tolist())

    draws = [
        draw(),
        draw(seed=2),
        draw(seed=1 + 2**32),
        draw(stream=3),
        draw(step=4),
        draw(sample=5),
        draw(sample=4 + 2**32),
        draw(seed=-1),
    ]
    assert len(set(draws)) == len(draws)
    assert draw(seed=-1) == draw(seed=2**64 - 1)


@given(st.lists(WORDS, min_size=1, max_size=8))
def test_uniform_rounds_twice_to_float32(values: list[int]) -> None:
    got = uniform(np.array(values, dtype=np.uint32))
    assert got.dtype == np.float32
    with mp.workprec(24):
        want = [mp.mpf(value) * mp.mpf(2) ** -32 + mp.mpf(2) ** -33 for value in values]
    assert got.tolist() == [float(value) for value in want]


def test_uniform_ends() -> None:
    ends = uniform(np.array([0, MASK], dtype=np.uint32))
    assert ends.tolist() == [2.0**-33, 1.0]


@given(WORDS)
def test_half_turns_cover_the_circle_once(value: int) -> None:
    got = float(half_turns(np.array([value], dtype=np.uint32))[0])
    assert -0.5 <= got <= 1.5
    # The word is a fraction of the circle, with the second and fourth quarters exchanged.
    exchanged = (value / 2**32 + (value >> 30) % 2 / 2) % 1
    turns = (got / 2 - exchanged + 0.5) % 1 - 0.5
    assert abs(turns) <= 2.0**-26


@given(seeds(), st.integers(0, 2**32 - 1))
def test_normals_are_the_pairs_of_box_and_muller(seed: int, step: int) -> None:
    row = normals(seed, 2, step, [5], 4)[0]
    word = words(seed, 2, step, [5], 4)[0]
    for pair in range(2):
        radius, angle = word[2 * pair : 2 * pair + 1], word[2 * pair + 1 : 2 * pair + 2]
        point = complex(row[2 * pair], row[2 * pair + 1])
        with mp.workdps(50):
            length = mp.sqrt(-2 * mp.log(mp.mpf(float(uniform(radius)[0]))))
            turned = length * mp.expjpi(mp.mpf(float(half_turns(angle)[0])))
        assert abs(point - complex(turned)) <= 1e-14 * (1 + abs(point))


def test_largest_normal() -> None:
    assert np.isclose(np.sqrt(-2 * np.log(2.0**-33)), 6.764, atol=1e-3)
    assert np.isfinite(np.log(uniform(np.zeros(1, dtype=np.uint32))[0]))


def test_normal_law() -> None:
    # A quarter of a million numbers with fixed seeds, z bound 5 on moments and tails.
    z = normals(2024, 2, 11, np.arange(512), 512)
    n = z.size
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - mean) < 5 * np.sqrt(variance / n)
    for bound in (2.0, 3.0, 4.0):
        p = 2 * stats.norm.sf(bound)
        assert abs((np.abs(z) > bound).mean() - p) < 5 * np.sqrt(p / n)


def test_normals_are_uncorrelated() -> None:
    z = normals(7, 3, 0, np.arange(256), 1024)
    for a, b in [
        (z[:, :-1], z[:, 1:]),
        (z[:, :-4], z[:, 4:]),
        (z[:-1], z[1:]),
        (z[:, ::2], z[:, 1::2]),
        (z[:, ::2] ** 2 - 1, z[:, 1::2] ** 2 - 1),
        (z, normals(7, 3, 1, np.arange(256), 1024)),
        (z, normals(8, 3, 0, np.arange(256), 1024)),
        (z, normals(7, 4, 0, np.arange(256), 1024)),
    ]:
        scale = np.sqrt((a**2).mean() * (b**2).mean() / a.size)
        assert abs((a * b).mean()) < 5 * scale


@given(seeds(), st.integers(1, 2**31))
def test_level_is_the_word_scaled(seed: int, steps: int) -> None:
    samples = np.arange(3)
    drawn = level(seed, 1, 9, samples, steps)
    first = words(seed, 1, 9, samples, 1)[:, 0].tolist()
    assert drawn.tolist() == [1 + word * steps // 2**32 for word in first]


def test_levels_are_uniform_with_both_ends() -> None:
    drawn = level(5, 1, 0, np.arange(20_000), 10)
    counts = Counter(drawn.tolist())
    assert set(counts) == set(range(1, 11))
    assert stats.chisquare([counts[t] for t in range(1, 11)]).pvalue > 1e-4


@given(seeds(), st.integers(0, 5), st.integers(0, 40))
def test_permutation_orders_every_item_once(seed: int, epoch: int, items: int) -> None:
    order = permutation(seed, epoch, items)
    assert sorted(order.tolist()) == list(range(items))
    pairs = words(seed, 0, epoch, np.arange(items), 2).tolist()
    keys = [(first << 31) + (second >> 1) for first, second in pairs]
    assert order.tolist() == sorted(range(items), key=keys.__getitem__)


def test_equal_first_words_are_ordered_by_the_second() -> None:
    # 200,000 items share about five first words; without any the test would prove nothing.
    pairs = words(1, 0, 0, np.arange(200_000), 2)
    assert np.unique(pairs[:, 0]).size < pairs.shape[0]
    want = np.lexsort((pairs[:, 1] >> np.uint32(1), pairs[:, 0]))
    np.testing.assert_array_equal(permutation(1, 0, 200_000), want)


def test_permutations_are_uniform() -> None:
    counts = Counter(tuple(permutation(3, epoch, 3).tolist()) for epoch in range(1200))
    assert len(counts) == 6
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2**64, 0, 0, [0], 1), rf"^seed must lie in {-(2**63)}\.\.{2**64 - 1}, got {2**64}$"),
        ((-(2**63) - 1, 0, 0, [0], 1), "^seed must lie"),
        ((0, 0, 0, [0], 2**34 + 1), rf"^count must lie in 0\.\.{2**34}, got {2**34 + 1}$"),
        ((0, 256, 0, [0], 1), "stream must lie"),
        ((0, 0, 2**32, [0], 1), "step must lie"),
        ((0, 0, 0, [2**56], 1), "samples must lie"),
        ((0, 0, 0, [-1], 1), "samples must lie"),
        ((0, 0, 0, [0.5], 1), "samples must be integers"),
        ((0, 0, 0, [[0]], 1), "samples must be integers"),
        ((0, 0, 0, [0], -1), "count must lie"),
    ],
)
def test_refused_arguments(arguments: tuple[int, int, int, list[int], int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        words(*arguments)


def test_refused_sizes() -> None:
    with pytest.raises(ValueError, match="steps must lie"):
        level(0, 1, 0, [0], 0)
    with pytest.raises(ValueError, match="items must be"):
        permutation(0, 0, -1)


def test_no_more_levels_than_a_word_can_tell_apart() -> None:
    level(0, 1, 0, np.arange(1), 2**31)
    with pytest.raises(ValueError, match="steps must lie"):
        level(0, 1, 0, np.arange(1), 2**31 + 1)
