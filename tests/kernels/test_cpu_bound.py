"""The compiled bound: its sums near float64, the bits of torch in its gradient."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ddpm.kernels import variational_terms
from ddpm.kernels.squared_errors import PREDICTIONS
from ddpm.kernels.variational_terms import Terms
from tests.kernels.batches import Array, exact, make_batch
from tests.kernels.test_cpu_loops import SIZES, assert_same_bits, by_both, spoiled

# signal, sigma, root, d0, d1, half of each level; the first is at no level.
TABLE = torch.tensor(
    [
        [torch.nan] * 6, [0.99, 0.14, 0.9, -0.3, 0.8, 0.01], [0.8, 0.6, 0.2, 0.1, 1.3, 0.0],
        [0.6, 0.8, 1.7, 0.0, 1.0, 0.0], [0.1, 0.99, 0.4, -1.2, -0.7, 0.0],
    ]
)  # fmt: skip


def make_terms(
    batch: int, size: int, prediction: str, drawn: bool = False, lowest: int = 2
) -> Terms:
    made = make_batch((batch, 1, size), seed=3)
    raw = torch.from_numpy(np.random.default_rng(4).standard_normal((batch, 1, size))).float()
    t = torch.arange(batch) % (len(TABLE) - lowest) + lowest
    x0, noise = made.x0.clamp(-1, 1), None if drawn else made.noise
    seed, step, sample = made.place if drawn else (None, None, None)
    output = torch.cat([made.pred, raw], 1)
    return Terms(output, x0, noise, t, TABLE, seed, step, sample, prediction, "log")


def divergence(terms: Terms) -> tuple[Array, Array]:
    """Mean square and mean divergence of N(0, 1) from N(root e, v), v from its definition."""
    signal, sigma, root, d0, d1, _ = (exact(k)[:, None] for k in terms.table[terms.t].unbind(1))
    pred, raw = (exact(half) for half in terms.output.flatten(1).chunk(2, 1))
    eps, x0 = exact(terms.eps()), exact(terms.x0.flatten(1))
    target = {"eps": eps, "x0": x0, "v": signal * eps - sigma * x0, "score": -eps / sigma}
    error = target[terms.prediction] - pred
    variance = np.exp(d0 + d1 * raw)
    terms_of = np.log(variance) + (1 + (root * error) ** 2) / variance - 1
    return (error**2).mean(1), terms_of.mean(1) / 2


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("drawn", [False, True])
def test_bounds_are_those_of_float64(prediction: str, drawn: bool) -> None:
    for size in (*SIZES[1:], 2**16 + 5):
        terms = make_terms(5, size, prediction, drawn)
        want = divergence(terms)
        for got in by_both(partial(variational_terms.means, terms)):
            for mean, truth in zip(got, want, strict=True):
                np.testing.assert_allclose(exact(mean), truth, rtol=2e-6 if size < 9 else 1e-6)


def test_a_long_sample_loses_no_digits() -> None:
    made = make_terms(1, 2**20, "eps")
    assert made.noise is not None
    # Equal terms, whose roundings do not cancel one another.
    output = torch.cat([torch.full_like(made.noise, 0.1), torch.full_like(made.noise, 0.7)], 1)
    terms = replace(made, output=output, noise=torch.zeros_like(made.noise))
    for got, want in zip(variational_terms.means(terms), divergence(terms), strict=True):
        np.testing.assert_allclose(exact(got), want, rtol=3e-6)


@pytest.mark.parametrize("spread", [1e-5, 1e-3, 0.1, 0.3466, 0.5])
def test_little_is_left_near_the_true_variance_but_all_its_digits(spread: float) -> None:
    terms = make_terms(3, 3001, "eps")
    assert terms.noise is not None
    raw = torch.linspace(-spread, spread, 3001).expand(3, 1, -1)
    # The table has d0 = 0 and d1 = 1 there, and the prediction is perfect.
    exactly = replace(terms, output=torch.cat([terms.noise, raw], 1), t=torch.full((3,), 3))
    simple, got = variational_terms.means(exactly)
    log = exact(-raw[:, 0])
    # The first terms of exp's series, from which 1 and x are left out.
    series = sum(log**k / float(np.prod(np.arange(1, k + 1))) for k in range(2, 14))
    np.testing.assert_allclose(exact(got), np.asarray(series).mean(1) / 2, rtol=1e-6)
    assert not simple.any()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_gradients_of_the_bound(prediction: str, detach: bool, drawn: bool) -> None:
    for size in (*SIZES, 2**15 + 5):
        terms = make_terms(7, size, prediction, drawn, lowest=1)
        output = terms.output.clone()
        # Every exponent, and what is outside of those of float32.
        output[1:, 1] *= torch.tensor([1.0, 1e-3, 10.0, 60.0, 1e3, torch.inf]).view(6, 1)
        output[6, 0] = spoiled(output[6, :1])[0]
        terms = replace(terms, output=output)
        factors = torch.linspace(-1, 2, 7), torch.linspace(3, -2, 7)
        pair = by_both(partial(variational_terms.gradients, terms, *factors, detach))
        assert_same_bits(*pair)
        assert pair[0][:4].isfinite().all()


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_the_bound_of_other_dtypes_is_widened(prediction: str) -> None:
    narrow = make_terms(5, 2**14, prediction, drawn=True, lowest=1)
    narrow = replace(narrow, output=narrow.output.bfloat16(), x0=narrow.x0.half())
    wide = replace(narrow, output=narrow.output.float(), x0=narrow.x0.float())
    factors = torch.linspace(-1, 2, 5), torch.linspace(3, -2, 5)
    for got, want in zip(
        variational_terms.means(narrow), variational_terms.means(wide), strict=True
    ):
        assert_same_bits(got, want)
    got, want = (variational_terms.gradients(x, *factors, False) for x in (narrow, wide))
    assert torch.equal(got, want.bfloat16())


@pytest.mark.parametrize("raw", [-1e3, 1e3, -torch.inf, torch.inf])
def test_a_variance_that_is_far_off_costs_much(raw: float) -> None:
    terms = make_terms(3, 10, "eps")
    terms.output[:, 1] = raw
    for _, got in by_both(lambda: variational_terms.means(terms)):
        assert (got > 300).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_batch_of_64_is_64_batches_of_one(prediction: str) -> None:
    terms = make_terms(64, 4099, prediction, lowest=1)
    factor = torch.linspace(-1, 2, 64)
    together = variational_terms.means(terms)
    slopes = variational_terms.gradients(terms, factor, factor, False)
    for i in range(64):
        rows = slice(i, i + 1)
        one = terms.at(rows)
        for every, only in zip(together, variational_terms.means(one), strict=True):
            assert_same_bits(only, every[rows])
        slope = variational_terms.gradients(one, factor[rows], factor[rows], False)
        assert_same_bits(slope, slopes[rows])
