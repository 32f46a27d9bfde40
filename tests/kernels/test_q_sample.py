"""Noising against the reference in float64, and the Triton kernel against torch bit for bit."""

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
from ddpm.kernels.philox import normals
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.samples import PART
from ddpm.kernels.streams import Stream
from ddpm.reference import forward, philox
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


def truth(batch: Batch, noise: np.ndarray) -> np.ndarray:
    """The formula of the reference, on the very tables of the op."""
    signal, sigma = exact(batch.signal[batch.t]), exact(batch.sigma[batch.t])
    # Rounded tables satisfy signal^2 + sigma^2 = 1 to 1e-7 only; the reference takes both.
    return forward.q_sample(exact(batch.x0), signal**2, noise, sigma**2)


def drawn_noise(batch: Batch) -> np.ndarray:
    size = batch.x0[0].numel() if len(batch.x0) else 0
    seed, step = int(batch.seed), int(batch.step)
    z = philox.normals(seed, Stream.TRAINING_NOISE, step, batch.sample.numpy(), size)
    return np.asarray(z.reshape(batch.x0.shape))


@given(shapes(), dtypes(), SEEDS)
def test_given_noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> None:
    batch = make_batch(shape, dtype, seed)
    got = q_sample(batch.x0, batch.noise, *batch.tables)
    assert got.dtype == dtype
    assert_close(got, truth(batch, exact(batch.noise)), "cpu")


@given(shapes(), dtypes(), SEEDS)
def test_drawn_noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> None:
    batch = make_batch(shape, dtype, seed)
    got = q_sample_drawn(batch.x0, *batch.tables, *batch.place)
    assert_close(got, truth(batch, drawn_noise(batch)), "cpu")


@given(shapes(), dtypes(), SEEDS)
@settings(max_examples=60)
def test_triton_is_torch(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> None:
    batch = make_batch(shape, dtype, seed)
    with poisoned():
        given_noise = gpu.q_sample(batch.x0, batch.noise, *batch.tables)
        drawn = gpu.q_sample_drawn(batch.x0, *batch.tables, *batch.place)
    assert_same(given_noise, q_sample(batch.x0, batch.noise, *batch.tables))
    assert_same(drawn, q_sample_drawn(batch.x0, *batch.tables, *batch.place))
    assert_close(drawn, truth(batch, drawn_noise(batch)), "interpreter")


@given(shapes(), dtypes(), st.booleans(), SEEDS)
@settings(max_examples=30)
def test_at_once_and_by_the_op_are_the_same_bits(
    shape: tuple[int, ...], dtype: torch.dtype, drawn: bool, seed: int
) -> None:
    batch = make_batch(shape, dtype, seed)
    x0, again = batch.x0.requires_grad_(), batch.x0.detach().clone().requires_grad_()
    if drawn:
        at_once = q_sample_drawn(x0, *batch.tables, *batch.place)
        by_op = torch.ops.ddpm.q_sample_drawn(again, *batch.tables, *batch.place)
    else:
        at_once = q_sample(x0, batch.noise, *batch.tables)
        by_op = torch.ops.ddpm.q_sample(again, batch.noise, *batch.tables)
    assert torch.equal(at_once, by_op)
    at_once.backward(batch.pred)
    by_op.backward(batch.pred)
    assert x0.grad is not None
    assert again.grad is not None
    assert torch.equal(x0.grad, again.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(67, 1, 4096), (3, PART // 2 + 1), (2, PART + 8)])
def test_large_batches_are_made_of_parts(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch = make_batch(shape, dtype)
    with poisoned():
        got = q_sample(batch.x0, batch.noise, *batch.tables)
        drawn = q_sample_drawn(batch.x0, *batch.tables, *batch.place)
    assert_close(got, truth(batch, exact(batch.noise)), "cpu")
    assert_close(drawn, truth(batch, drawn_noise(batch)), "cpu")
    one = slice(1, 2)
    alone = q_sample(batch.x0[one], batch.noise[one], batch.t[one], batch.signal, batch.sigma)
    assert torch.equal(got[one], alone)


@pytest.mark.parametrize("size", [6, PART // 3 + 3])
def test_a_step_for_each_sample(size: int) -> None:
    batch = make_batch((3, size))
    steps = torch.tensor([7, 2**32 - 1, 0])
    got = q_sample_drawn(batch.x0, *batch.tables, batch.seed, steps, batch.sample)
    if size == 6:
        with poisoned():
            interpreted = gpu.q_sample_drawn(
                batch.x0, *batch.tables, batch.seed, steps, batch.sample
            )
        assert_same(interpreted, got)
    for i, step in enumerate(steps):
        one = slice(i, i + 1)
        alone = q_sample_drawn(
            batch.x0[one], batch.t[one], batch.signal, batch.sigma, batch.seed, step,
            batch.sample[one],
        )  # fmt: skip
        assert torch.equal(got[one], alone)


@pytest.mark.parametrize("level", [-1, 11, 2**40])
def test_a_level_outside_gives_nan_on_a_gpu(level: int) -> None:
    batch = make_batch((2, 5))
    t = torch.tensor([3, level])
    got = gpu.q_sample(batch.x0, batch.noise, t, batch.signal, batch.sigma)
    assert got[0].isfinite().all()
    assert got[1].isnan().all()


def test_first_and_last_level() -> None:
    batch = make_batch((2, 7))
    t = torch.tensor([0, 10])
    got = q_sample(batch.x0, batch.noise, t, batch.signal, batch.sigma)
    assert torch.equal(got[0], batch.x0[0])
    assert torch.equal(got[1], batch.noise[1])


def test_small_noise_survives_bfloat16() -> None:
    # In bfloat16 arithmetic sqrt(1 - 1e-5) rounds to 1 and the noise of a tiny level vanishes.
    signal, sigma = torch.tensor([1.0, 1.0 - 5e-6]), torch.tensor([0.0, 3e-3])
    zero, t = torch.zeros(1, 64, dtype=torch.bfloat16), torch.tensor([1])
    noise = torch.ones_like(zero)
    got = q_sample(zero, noise, t, signal, sigma)
    torch.testing.assert_close(got.float(), torch.full((1, 64), 3e-3), rtol=2**-8, atol=0)


@given(SEEDS, dtypes())
@settings(max_examples=10)
def test_one_batch_of_64_is_64_batches_of_one(seed: int, dtype: torch.dtype) -> None:
    batch = make_batch((64, 3, 5), dtype, seed)
    together = q_sample_drawn(batch.x0, *batch.tables, *batch.place)
    for i in range(64):
        one = slice(i, i + 1)
        alone = q_sample_drawn(
            batch.x0[one], batch.t[one], batch.signal, batch.sigma, batch.seed, batch.step,
            batch.sample[one],
        )  # fmt: skip
        assert torch.equal(together[one], alone)


def test_more_than_65535_samples() -> None:
    batch = make_batch((65_537, 1))
    got = q_sample_drawn(batch.x0, *batch.tables, *batch.place)
    assert_close(got, truth(batch, drawn_noise(batch)), "cpu")


@given(shapes(min_batch=1), dtypes(), st.booleans(), SEEDS)
@settings(max_examples=40)
def test_gradients(shape: tuple[int, ...], dtype: torch.dtype, drawn: bool, seed: int) -> None:
    batch = make_batch(shape, dtype, seed)
    x0, noise = batch.x0.requires_grad_(), batch.noise.requires_grad_()
    if drawn:
        out = q_sample_drawn(x0, *batch.tables, *batch.place)
    else:
        out = q_sample(x0, noise, *batch.tables)
    out.backward(batch.pred)
    assert x0.grad is not None
    # The op is linear: the gradient is the coefficient times what comes in.
    assert_close(x0.grad, column(batch.signal[batch.t], x0) * exact(batch.pred), "cpu")
    if not drawn:
        assert noise.grad is not None
        assert_close(noise.grad, column(batch.sigma[batch.t], x0) * exact(batch.pred), "cpu")


def test_gradient_is_the_slope() -> None:
    batch = make_batch((2, 9))
    tangent = batch.pred
    x0 = batch.x0.clone().requires_grad_()
    q_sample_drawn(x0, *batch.tables, *batch.place).sum().backward()
    assert x0.grad is not None
    ahead = q_sample_drawn(batch.x0 + tangent, *batch.tables, *batch.place)
    behind = q_sample_drawn(batch.x0 - tangent, *batch.tables, *batch.place)
    slope = (ahead - behind).double().sum() / 2
    # Linear, so the difference has rounding errors only: 18 of 6e-8 times values up to 4.
    assert float(slope) == pytest.approx(float((x0.grad * tangent).double().sum()), abs=1e-5)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(drawn: bool, dtype: torch.dtype) -> None:
    batch = make_batch((2, 5), dtype)
    x0 = batch.x0.requires_grad_()
    if drawn:
        arguments: tuple[Tensor, ...] = (x0, *batch.tables, *batch.place)
        torch.library.opcheck(torch.ops.ddpm.q_sample_drawn.default, arguments)
    else:
        arguments = (x0, batch.noise.requires_grad_(), *batch.tables)
        torch.library.opcheck(torch.ops.ddpm.q_sample.default, arguments)


def test_compiles_once_for_all_levels_steps_and_seeds() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def loss(x0: Tensor, t: Tensor, *place: Tensor) -> Tensor:
        return (2 * q_sample_drawn(x0, t, batch.signal, batch.sigma, *place)).sum()

    batch = make_batch((3, 5))
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for change in range(4):
        x0 = batch.x0.clone().requires_grad_()
        place = (torch.tensor(change), torch.tensor(change * 7), batch.sample + change)
        t = (batch.t + change) % 11
        got = compiled(x0, t, *place)
        assert torch.equal(got, loss(x0, t, *place))
        got.backward()
    assert counter.frame_count == 1


META = torch.device("meta")
BAD: list[tuple[str, Any, str]] = [
    ("x0", lambda x: x.double(), "x0 has dtype torch.float64; allowed: torch.float32"),
    ("x0", lambda x: x[:, ::2], "x0 has strides .* contiguous"),
    ("x0", lambda x: x[0, 0], r"x0 has shape \(\); allowed: \[B, ...\]"),
    ("x0", lambda x: x.to(META), "is on device cpu; allowed: meta"),
    ("noise", lambda x: x.half(), "noise has dtype torch.float16; allowed: torch.float32"),
    ("noise", lambda x: x[:1], r"noise has shape \(1, 6\); allowed: \(2, 6\)"),
    ("noise", lambda x: x.T.contiguous().T, "noise has strides"),
    ("noise", lambda x: x.to(META), "noise is on device meta; allowed: cpu"),
    ("t", lambda t: t.int(), "t has dtype torch.int32; allowed: torch.int64"),
    ("t", lambda t: t[:1], r"t has shape \(1,\); allowed: \(2,\)"),
    ("t", lambda t: t * 0 - 1, r"t contains -1; allowed: 0..10"),
    ("t", lambda t: t * 0 + 11, r"t contains 11; allowed: 0..10"),
    ("signal", lambda s: s.double(), "signal has dtype torch.float64; allowed: torch.float32"),
    ("signal", lambda s: s[:0], r"signal has shape \(0,\); allowed: a non-empty vector"),
    ("signal", lambda s: s.clone().requires_grad_(), "signal has requires_grad=True"),
    ("sigma", lambda s: s[1:], r"sigma has shape \(10,\); allowed: \(11,\)"),
    ("sigma", lambda s: s.clone().requires_grad_(), "sigma has requires_grad=True"),
    ("seed", lambda s: s[None], r"seed has shape \(1,\); allowed: \(\)"),
    ("step", lambda s: s * 0 - 1, "step contains -1; allowed: 0..4294967295"),
    ("step", lambda s: s.int(), "step has dtype torch.int32"),
    ("sample", lambda s: s[:1], r"sample has shape \(1,\); allowed: \(2,\)"),
    ("sample", lambda s: s.to(META), "sample is on device meta; allowed: cpu"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_input_is_refused(name: str, change: Any, message: str) -> None:
    batch = make_batch((2, 6))
    names = ("x0", "t", "signal", "sigma", "seed", "step", "sample")
    drawn = {key: getattr(batch, key) for key in names}
    given_noise = {key: getattr(batch, key) for key in ("x0", "noise", *names[1:4])}
    for call, arguments in ((q_sample_drawn, drawn), (q_sample, given_noise)):
        if name in arguments:
            with pytest.raises(ValueError, match=message):
                call(**{**arguments, name: change(arguments[name])})


def test_noise_is_that_of_the_training_stream() -> None:
    batch = make_batch((2, 6))
    noise = normals(*batch.place, Stream.TRAINING_NOISE, 6)
    want = q_sample(batch.x0, noise, *batch.tables)
    assert torch.equal(q_sample_drawn(batch.x0, *batch.tables, *batch.place), want)
