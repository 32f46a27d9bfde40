"""Noising with its velocity: both against the reference, and the map as the rotation it is."""

# Gradients in torch and kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ddpm.kernels.gpu import q_sample as gpu
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.q_sample_v import q_sample_v
from ddpm.kernels.samples import PART
from ddpm.reference.chain import Chain
from ddpm.reference.parameterisations import predict_eps, predict_x0
from tests.kernels.batches import (
    Batch,
    assert_close,
    assert_same,
    column,
    dtypes,
    exact,
    make_batch,
    poisoned,
    shapes,
)
from tests.kernels.test_philox import SEEDS
from tests.kernels.test_q_sample import drawn_noise, truth


def arguments(batch: Batch, drawn: bool) -> tuple[Any, ...]:
    place = batch.place if drawn else (None, None, None)
    return (batch.x0, None if drawn else batch.noise, *batch.tables, *place)


@given(shapes(), dtypes(), st.booleans(), SEEDS)
def test_pair_of_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, drawn: bool, seed: int
) -> None:
    batch = make_batch(shape, dtype, seed)
    x_t, v = q_sample_v(*arguments(batch, drawn))
    assert x_t.dtype == v.dtype == dtype
    noise = drawn_noise(batch) if drawn else exact(batch.noise)
    assert_close(x_t, truth(batch, noise), "cpu")
    # The velocity is the noised sample a quarter turn on: what noises eps with -x_0.
    signal, sigma = (exact(table[batch.t]) for table in (batch.signal, batch.sigma))
    turned = np.reshape(
        [a * z - b * x for a, b, z, x in zip(signal, sigma, noise, exact(batch.x0), strict=True)],
        noise.shape,
    )
    assert_close(v, turned, "cpu")


@given(shapes(), dtypes(), st.booleans(), SEEDS)
@settings(max_examples=60)
def test_triton_is_torch(
    shape: tuple[int, ...], dtype: torch.dtype, drawn: bool, seed: int
) -> None:
    inputs = arguments(make_batch(shape, dtype, seed), drawn)
    with poisoned():
        got = gpu.q_sample_v(*inputs)
    for mine, want in zip(got, q_sample_v(*inputs), strict=True):
        assert_same(mine, want)


@given(shapes(), dtypes(), SEEDS)
@settings(max_examples=30)
def test_noised_sample_is_that_of_q_sample(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int
) -> None:
    batch = make_batch(shape, dtype, seed)
    given_noise, drawn = (q_sample_v(*arguments(batch, drawn))[0] for drawn in (False, True))
    assert torch.equal(given_noise, q_sample(batch.x0, batch.noise, *batch.tables))
    assert torch.equal(drawn, q_sample_drawn(batch.x0, *batch.tables, *batch.place))


def test_velocity_gives_the_pair_back() -> None:
    chain = Chain([0.1, 0.3, 0.6, 1.0])
    batch = make_batch((4, 9), steps=4)
    signal, sigma = (torch.from_numpy(table).float() for table in (chain.c, chain.d))
    t = torch.tensor([1, 2, 3, 4])
    x_t, v = q_sample_v(batch.x0, batch.noise, t, signal, sigma)
    for restore, want in ((predict_x0, batch.x0), (predict_eps, batch.noise)):
        got = restore("v", exact(v), exact(x_t), chain, t.numpy())
        np.testing.assert_allclose(got, exact(want), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(67, 1, 4096), (2, PART + 8)])
def test_large_batches_are_made_of_parts(shape: tuple[int, ...]) -> None:
    batch = make_batch(shape)
    with poisoned():
        together = q_sample_v(*arguments(batch, drawn=False))
    one = slice(1, 2)
    alone = q_sample_v(batch.x0[one], batch.noise[one], batch.t[one], batch.signal, batch.sigma)
    for all_samples, sample in zip(together, alone, strict=True):
        assert all_samples.isfinite().all()
        assert torch.equal(all_samples[one], sample)


@given(SEEDS, dtypes())
@settings(max_examples=6)
def test_one_batch_of_64_is_64_batches_of_one(seed: int, dtype: torch.dtype) -> None:
    batch = make_batch((64, 33), dtype, seed)
    together = q_sample_v(*arguments(batch, drawn=True))
    for i in range(64):
        one = slice(i, i + 1)
        alone = q_sample_v(
            batch.x0[one], None, batch.t[one], batch.signal, batch.sigma, batch.seed, batch.step,
            batch.sample[one],
        )  # fmt: skip
        assert all(torch.equal(a[one], b) for a, b in zip(together, alone, strict=True))


@given(shapes(min_batch=1), dtypes(), st.booleans(), SEEDS)
@settings(max_examples=40)
def test_gradients_turn_back(
    shape: tuple[int, ...], dtype: torch.dtype, drawn: bool, seed: int
) -> None:
    batch = make_batch(shape, dtype, seed)
    x0, noise = batch.x0.requires_grad_(), batch.noise.requires_grad_()
    x_t, v = q_sample_v(*arguments(batch, drawn))
    with_x, with_v = batch.pred, batch.noise.detach().flip(0)
    torch.autograd.backward([x_t, v], [with_x, with_v])
    # The op is linear in (x_0, eps), so that its slopes along unit vectors are its coefficients.
    signal, sigma = (column(table[batch.t], x0) for table in (batch.signal, batch.sigma))
    assert x0.grad is not None
    assert_close(x0.grad, signal * exact(with_x) - sigma * exact(with_v), "cpu")
    if not drawn:
        assert noise.grad is not None
        assert_close(noise.grad, sigma * exact(with_x) + signal * exact(with_v), "cpu")


@pytest.mark.parametrize("drawn", [False, True])
def test_gradient_is_the_slope(drawn: bool) -> None:
    batch = make_batch((2, 9))
    x0 = batch.x0.clone().requires_grad_()
    x_t, v = q_sample_v(x0, *arguments(batch, drawn)[1:])
    (x_t * v.detach() + v).sum().backward()
    assert x0.grad is not None
    tangent = batch.pred

    def along(side: float) -> Tensor:
        ahead = q_sample_v(batch.x0 + side * tangent, *arguments(batch, drawn)[1:])
        return (ahead[0] * v.detach() + ahead[1]).double().sum()

    # Linear in x_0, so the difference has rounding errors only: 18 of 6e-8 times values up to 10.
    slope = float(along(1.0) - along(-1.0)) / 2
    assert slope == pytest.approx(float((x0.grad * tangent).double().sum()), abs=2e-5)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(drawn: bool, dtype: torch.dtype) -> None:
    batch = make_batch((2, 5), dtype)
    batch.x0.requires_grad_()
    torch.library.opcheck(torch.ops.ddpm.q_sample_v.default, arguments(batch, drawn))


def test_compiles_once_for_all_levels_steps_and_seeds() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    batch = make_batch((3, 5))

    def loss(x0: Tensor, t: Tensor, *place: Tensor) -> Tensor:
        x_t, v = q_sample_v(x0, None, t, batch.signal, batch.sigma, *place)
        return (2 * x_t + v).sum()

    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for change in range(4):
        x0 = batch.x0.clone().requires_grad_()
        place = (torch.tensor(change), torch.tensor(change * 7), batch.sample + change)
        got = compiled(x0, (batch.t + change) % 11, *place)
        assert torch.equal(got, loss(x0, (batch.t + change) % 11, *place))
        got.backward()
    assert counter.frame_count == 1


META = torch.device("meta")
BAD: list[tuple[str, Any, str]] = [
    ("x0", lambda x: x.double(), "x0 has dtype torch.float64; allowed: torch.float32"),
    ("x0", lambda x: x[:, ::2], "x0 has strides .* contiguous"),
    ("noise", lambda x: x.half(), "noise has dtype torch.float16; allowed: torch.float32"),
    ("noise", lambda x: x.to(META), "noise is on device meta; allowed: cpu"),
    ("noise", lambda _: None, "seed is None; allowed where noise is None: a tensor"),
    ("t", lambda t: t * 0 + 11, r"t contains 11; allowed: 0..10"),
    ("signal", lambda s: s.clone().requires_grad_(), "signal has requires_grad=True"),
    ("sigma", lambda s: s[1:], r"sigma has shape \(10,\); allowed: \(11,\)"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_input_is_refused(name: str, change: Any, message: str) -> None:
    batch = make_batch((2, 6))
    good = {key: getattr(batch, key) for key in ("x0", "noise", "t", "signal", "sigma")}
    with pytest.raises(ValueError, match=message):
        q_sample_v(**{**good, name: change(good[name])})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("step", lambda _: None, "step is None"),
        ("sample", lambda _: None, "sample is None"),
        ("seed", lambda s: s[None], r"seed has shape \(1,\); allowed: \(\)"),
        ("sample", lambda s: s[:1], r"sample has shape \(1,\); allowed: \(2,\)"),
    ],
)
def test_bad_places_are_refused(name: str, change: Any, message: str) -> None:
    batch = make_batch((2, 6))
    good = {key: getattr(batch, key) for key in ("x0", "t", "signal", "sigma")}
    good |= {"noise": None, "seed": batch.seed, "step": batch.step, "sample": batch.sample}
    with pytest.raises(ValueError, match=message):
        q_sample_v(**{**good, name: change(good[name])})
