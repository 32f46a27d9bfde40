"""The generator: published vectors, the float64 oracle, no bit that depends on the batch.

Every test runs twice: by torch operations, and compiled by numba where that is installed.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddpm.kernels import philox
from ddpm.kernels.philox import box_muller, normals, philox4x32, words
from ddpm.reference import philox as reference

M = 2**32 - 1
# Published with Random123 (kat_vectors, philox4x32 with 10 rounds): counter, key, output.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((M, M, M, M), (M, M), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
# Ends of the range, the sign bit of the angle, and the borders of its quadrants.
EDGES = sorted(
    {
        (border + offset) % 2**32
        for border in (0, 2**24, 2**30, 2**31, 3 * 2**30, 2**32, 0xB504F334)
        for offset in (-257, -2, -1, 0, 1, 2, 128)
    }
)
SEEDS = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module", autouse=True, params=["torch", "numba"])
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    compiled = philox._compiled() if request.param == "numba" else None
    if request.param == "numba" and compiled is None:
        pytest.skip("numba is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(philox, "_compiled", lambda: compiled)
        yield request.param


def as_tensor(value: int) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.int64)


def oracle(radius_word: np.ndarray, angle_word: np.ndarray) -> np.ndarray:
    """The definition of the transform, in float64 after the two roundings that belong to it."""
    u = radius_word.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    low = (2 * angle_word % 2**32).astype(np.uint32).view(np.int32).astype(np.float32)
    theta = np.pi * ((angle_word >> 31) + low.astype(np.float64) * 2.0**-32)
    radius = np.sqrt(-2 * np.log(u.astype(np.float64)))
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], -1)


def transform(radius_word: np.ndarray, angle_word: np.ndarray) -> np.ndarray:
    out = torch.empty(*radius_word.shape, 2)
    box_muller(torch.from_numpy(radius_word), torch.from_numpy(angle_word.copy()), out)
    return out.double().numpy()


@pytest.mark.parametrize(("counter", "key", "want"), VECTORS)
def test_published_vectors(
    counter: tuple[int, ...], key: tuple[int, ...], want: tuple[int, ...]
) -> None:
    got = philox4x32(torch.tensor(counter), torch.tensor(key))
    assert tuple(got.tolist()) == want


@given(
    SEEDS,
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**56 - 1), max_size=4),
    st.integers(0, 255),
    st.integers(0, 40),
)
@example(-1, 2**32 - 1, [2**56 - 1, 2**32, 2**32 - 1, 0], 255, 9)
def test_words_and_normals_of_the_reference(
    seed: int, step: int, samples: list[int], stream: int, size: int
) -> None:
    place = (as_tensor(seed), as_tensor(step), torch.tensor(samples, dtype=torch.int64))
    index = np.array(samples, dtype=np.int64)
    want = reference.words(seed, stream, step, index, size)
    np.testing.assert_array_equal(words(*place, stream, size).numpy(), want)
    z = normals(*place, stream, size)
    exact = reference.normals(seed, stream, step, index, size)
    np.testing.assert_allclose(z.double().numpy(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [3 * 15 * 2**12 + 5, 15 * 2**12, 4])
def test_blocks_leave_no_trace(size: int) -> None:
    # Sizes above one cache block, equal to it and far below it.
    batch = 3 if size > 4 else 20_000
    samples = torch.arange(batch) + 2**33
    got = words(as_tensor(7), as_tensor(8), samples, 9, size)
    rows = [0, batch - 1]
    want = reference.words(7, 9, 8, samples[rows].numpy(), size)
    np.testing.assert_array_equal(got[rows].numpy(), want)


@given(SEEDS, st.integers(0, 2**20), st.sampled_from([1, 4, 5, 63, 64]))
@settings(max_examples=20)
def test_one_batch_of_64_is_64_batches_of_one(seed: int, step: int, size: int) -> None:
    samples = torch.arange(1000, 1064)
    together = normals(as_tensor(seed), as_tensor(step), samples, 3, size)
    alone = [normals(as_tensor(seed), as_tensor(step), s[None], 3, size) for s in samples]
    assert torch.equal(together, torch.cat(alone))


def test_a_step_for_each_sample() -> None:
    steps = torch.tensor([5, 0, 2**32 - 1])
    samples = torch.tensor([4, 4, 9])
    together = normals(as_tensor(1), steps, samples, 3, 10)
    alone = [
        normals(as_tensor(1), step, s[None], 3, 10) for step, s in zip(steps, samples, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("size", [1, 6, 64])
def test_numbers_go_into_the_tensor_that_is_given(size: int) -> None:
    samples = torch.tensor([4, 9, 2**40])
    place = (as_tensor(1), torch.tensor([7, 8, 9]), samples, 3, size)
    buffer = torch.full((5, size), torch.nan)
    got = normals(*place, out=buffer[1:4])
    assert got.data_ptr() == buffer[1:4].data_ptr()
    assert torch.equal(got, normals(*place))
    assert buffer[[0, 4]].isnan().all()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.empty(2, 4, dtype=torch.float64), "out has dtype torch.float64; allowed"),
        (torch.empty(4, 2), r"out has shape \(4, 2\); allowed: \(2, 4\)"),
        (torch.empty(4, 2).T, r"out has strides \(1, 2\)"),
        (torch.empty(2, 4, device="meta"), "out is on device meta; allowed: cpu"),
        (torch.empty(2, 4, requires_grad=True), "out has requires_grad=True"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(out: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normals(as_tensor(1), as_tensor(2), torch.arange(2), 3, 4, out)


def test_adversarial_words_stay_within_the_bound() -> None:
    edges = np.array(EDGES)
    radius, angle = (grid.ravel() for grid in np.meshgrid(edges, edges))
    assert np.abs(transform(radius, angle) - oracle(radius, angle)).max() <= 1e-6


@pytest.mark.parametrize("bits", [4, 8, 12, 20, 26, 32])
def test_random_words_stay_within_the_bound(bits: int) -> None:
    # Small first words give the tails, where errors are largest: half an ulp of 6 is 2.4e-7.
    rng = np.random.default_rng(bits)
    radius = rng.integers(0, 2**bits, 2**18)
    angle = rng.integers(0, 2**32, 2**18)
    exact = oracle(radius, angle)
    error = np.abs(transform(radius, angle) - exact).max(-1)
    assert error.max() <= 1e-6
    # Three to four roundings of the radius, of 6e-8 each: a wrong coefficient shows near zero.
    reach = np.maximum(1, np.hypot(exact[:, 0], exact[:, 1]))
    assert (error / reach).max() <= 2.5e-7


def test_reach_of_the_tails() -> None:
    zero = np.array([0])
    assert transform(zero, zero)[0, 0] == pytest.approx(np.sqrt(66 * np.log(2)), abs=1e-6)
    # The largest word gives u = 1 exactly, and a radius of zero, not NaN.
    np.testing.assert_array_equal(transform(np.array([M]), zero), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": torch.tensor(-1)}, "step contains -1; allowed: 0..4294967295"),
        ({"step": torch.tensor(2**32)}, "step contains 4294967296"),
        ({"sample": torch.tensor([2**56])}, "sample contains 72057594037927936"),
        ({"sample": torch.tensor([-3])}, "sample contains -3"),
        ({"sample": torch.tensor(3)}, "sample has shape"),
        ({"sample": torch.tensor([1.0])}, "sample has dtype torch.float32"),
        ({"seed": torch.tensor([1])}, "seed has shape"),
        ({"seed": torch.tensor(1, dtype=torch.int32)}, "seed has dtype torch.int32"),
        ({"seed": torch.tensor(1, device="meta")}, "seed is on device meta; allowed: cpu"),
        ({"stream": 256}, "stream is 256; allowed: 0..255"),
        ({"size": -1}, "size is -1"),
    ],
)
def test_bad_places_are_refused(change: dict[str, object], message: str) -> None:
    good = {"seed": torch.tensor(1), "step": torch.tensor(2), "sample": torch.tensor([3])}
    for draw in (words, normals):
        with pytest.raises(ValueError, match=message):
            draw(**{**good, "stream": 1, "size": 4, **change})  # type: ignore[arg-type]


def test_a_number_is_not_a_tensor() -> None:
    with pytest.raises(TypeError, match="seed is int"):
        words(1, torch.tensor(2), torch.tensor([3]), 1, 4)  # type: ignore[arg-type]
