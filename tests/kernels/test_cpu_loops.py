"""The loops that numba compiles: torch's bits, and sums within a rounding or two of float64."""

# Gradients in torch are called without types of their own.
# mypy: disable-error-code="no-untyped-call"

import platform
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.kernels import affine_tiles, compiled, squared_errors
from ddpm.kernels.affine_step import COLUMNS
from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.q_sample import drawing, mix, q_sample
from ddpm.kernels.samples import PART
from ddpm.kernels.squared_errors import PREDICTIONS, Loss
from ddpm.kernels.streams import Stream
from ddpm.reference import philox
from tests.kernels.batches import Array, Batch, column, exact, make_batch, poisoned
from tests.kernels.steps import ROWS, as_step, make_step

affine = pytest.importorskip("ddpm.kernels.cpu.affine")
bound = pytest.importorskip("ddpm.kernels.cpu.bound")
noising = pytest.importorskip("ddpm.kernels.cpu.noising")
squares = pytest.importorskip("ddpm.kernels.cpu.squares")

# One block and its neighbours, two blocks and their end, and less than a vector.
SIZES = (1, 7, 2047, 2048, 2049, 4099)
# Guidance for all or each, history, the estimate kept, noise: every pair of choices in some row.
STEPS = [
    (None, False, False, False), ("all", True, True, True), ("each", True, False, False),
    (None, True, True, False), ("all", False, False, True), ("each", False, True, True),
    (None, False, True, True), ("all", False, True, False), ("each", True, False, True),
]  # fmt: skip
SPECIAL = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 3e38, 1e-42])


def by_both(call: Callable[[], Any]) -> tuple[Any, Any]:
    """Results of the compiled loops and of torch, into memory full of NaN."""
    assert compiled.ready()
    with poisoned(), pytest.MonkeyPatch.context() as patch:
        loops = call()
        patch.setattr(compiled, "available", lambda: False)
        return loops, call()


def assert_same_bits(got: Tensor, want: Tensor) -> None:
    """Compare zeros with their signs too, and NaN with any NaN."""
    assert got.dtype == want.dtype
    assert torch.equal(got.isnan(), want.isnan())
    one, other = (x.nan_to_num(0.0, torch.inf, -torch.inf).view(torch.int32) for x in (got, want))
    different = (one != other).nonzero()
    assert not len(different), (different[:5], got[one != other][:5], want[one != other][:5])


def spoiled(x: Tensor) -> Tensor:
    """With a number in each sample that is hard to compute with, another in each."""
    x = x.clone()
    rows = x.view(len(x), -1)
    for i in range(len(rows)):
        rows[i, (7 * i) % rows.shape[1]] = SPECIAL[i % len(SPECIAL)]
    return x


@pytest.mark.parametrize(("guidance", "history", "keep", "draw"), STEPS)
@pytest.mark.parametrize("many", [False, True])
def test_steps(guidance: str | None, history: bool, keep: bool, draw: bool, many: bool) -> None:
    for size in SIZES:
        step = make_step(
            (7, size), seed=size, many=many, clip=0.7 * (size % 2), draw=draw,
            guided=guidance is not None, history=history,
        )  # fmt: skip
        if guidance is not None:
            each = torch.linspace(-1, 3, 7)
            step["guidance_scale"] = each if guidance == "each" else each[5]
        for name in ("x", "pred"):
            step[name] = spoiled(step[name])
        got, want = by_both(partial(affine_tiles.step, as_step(step), keep))
        for one, other in zip(got, want, strict=True):
            assert_same_bits(one, other)
        assert len(got) == 1 + keep
        assert got[0].isnan().any()


def test_a_step_of_several_parts() -> None:
    step = make_step((5, PART // 4 + 3), many=True, guided=True, history=True)
    got, want = by_both(lambda: affine_tiles.step(as_step(step), True))
    for one, other in zip(got, want, strict=True):
        assert_same_bits(one, other)


def test_a_clip_of_nothing_is_no_clip() -> None:
    step = make_step((1, 2), clip=0.0, draw=False)
    step["table"] = torch.zeros(1, len(COLUMNS))
    step["table"][0, :3] = torch.tensor([0.0, 1.0, 1.0])
    step["levels"], step["row"] = torch.tensor([1]), torch.tensor(0)
    step["pred"] = torch.tensor([[3e38, torch.inf]])
    (got,) = affine_tiles.step(as_step(step), False)
    assert got.tolist() == step["pred"].tolist()


@pytest.mark.parametrize("row", [-1, ROWS, 2**40])
def test_a_row_outside_takes_no_step(row: int) -> None:
    step = make_step((2, 5), many=True, history=True)
    step["row"] = torch.tensor([0, row])
    assert affine.noise_of(as_step(step)) == 0
    with pytest.raises(ValueError, match=f"row contains {row}; allowed: 0..{ROWS - 1}"):
        affine_tiles.step(as_step(step), True)


def test_a_history_that_is_weighed_must_be_there() -> None:
    step = make_step((2, 5), many=True, history=True)
    step["row"] = torch.tensor([0, 1])
    step["table"][0, COLUMNS.index("c")] = 0.0
    assert affine.noise_of(as_step(step))
    del step["history"]
    assert affine.noise_of(as_step(step)) == 0
    with pytest.raises(ValueError, match="table has c != 0 in the row of a step without history"):
        affine_tiles.step(as_step(step), False)


def test_noise_is_drawn_where_any_row_adds_it() -> None:
    step = make_step((3, 5), many=True)
    step["table"][:, COLUMNS.index("sd")] = 0.0
    step["row"] = torch.tensor([1, 0, 2])
    assert affine.noise_of(as_step(step)) == affine.NOTHING
    step["table"][2, COLUMNS.index("sd")] = 0.1
    assert affine.noise_of(as_step(step)) == affine.DRAWS


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), *((7, size) for size in SIZES), (5, PART // 4)])
@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_noising(shape: tuple[int, ...], velocity: bool, drawn: bool) -> None:
    batch = make_batch(shape)
    x0 = spoiled(batch.x0) if batch.x0.numel() else batch.x0
    noise = drawing(x0, *batch.place) if drawn else batch.noise

    def noised() -> tuple[Tensor, Tensor]:
        v = torch.full_like(x0, 9.0)
        return mix(x0, noise, *batch.tables, v if velocity else None), v

    for one, other in zip(*by_both(noised), strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("level", [-1, 11, 2**40])
def test_a_level_outside_writes_nothing(level: int) -> None:
    batch = replace(make_batch((2, 5)), t=torch.tensor([3, level]))
    x0, noise, weight = batch.x0, batch.noise, batch.weight
    out, v, each = torch.full((2, 5), 9.0), torch.full((2, 5), 9.0), torch.full((2,), 9.0)
    errors = (batch.pred, noise, x0, *batch.tables, weight, False)
    assert not noising.mix(x0, noise, *batch.tables, out, v)
    assert not squares.losses(errors, each)
    assert not squares.gradient(errors, weight, out)
    assert all(bool((written == 9.0).all()) for written in (out, v, each))
    given = Loss(*loss_arguments(batch, "v", drawn=False))
    for call in (
        lambda: q_sample(x0, noise, *batch.tables),
        lambda: squared_errors.losses(given),
        lambda: squared_errors.gradient(weight, given),
    ):
        with pytest.raises(ValueError, match=f"t contains {level}; allowed: 0..10"):
            call()


def loss_arguments(batch: Batch, prediction: str, drawn: bool) -> tuple[Any, ...]:
    noise = None if drawn else batch.noise
    return (batch.pred, batch.x0, noise, *batch.tables, batch.weight, *batch.place, prediction)


def noise_of(batch: Batch, drawn: bool) -> Array:
    if not drawn:
        return exact(batch.noise)
    seed, step, sample = int(batch.seed), int(batch.step), batch.sample.numpy()
    z = philox.normals(seed, Stream.TRAINING_NOISE, step, sample, batch.x0[0].numel())
    return np.asarray(z.reshape(batch.x0.shape))


def targets(batch: Batch, prediction: str, drawn: bool) -> Array:
    eps, x0 = noise_of(batch, drawn), exact(batch.x0)
    signal, sigma = (column(k[batch.t], batch.x0) for k in (batch.signal, batch.sigma))
    chosen: Array = {
        "eps": eps, "x0": x0, "v": signal * eps - sigma * x0, "score": -eps / sigma
    }[prediction]  # fmt: skip
    return chosen


def loss_batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Batch:
    batch = make_batch(shape, dtype)
    # Clean data has no score.
    return replace(batch, t=batch.t.clamp(min=1))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("drawn", [False, True])
def test_gradients_of_the_loss(prediction: str, drawn: bool) -> None:
    incoming = torch.linspace(-2, 3, 14)
    for size in SIZES:
        batch = loss_batch((7, size))
        given = Loss(*loss_arguments(replace(batch, pred=spoiled(batch.pred)), prediction, drawn))
        for grad in (incoming[:7], incoming[::2], incoming[3].expand(7)):
            gradients = by_both(partial(squared_errors.gradient, grad, given))
            assert_same_bits(*gradients)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_a_loss_of_several_parts(prediction: str, dtype: torch.dtype) -> None:
    given = Loss(*loss_arguments(loss_batch((5, PART // 4 + 3), dtype), prediction, drawn=True))
    got, want = by_both(lambda: squared_errors.gradient(torch.linspace(-2, 3, 5), given))
    assert_same_bits(got.float(), want.float())


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("size", "drawn"), [(1, False), (2049, True), (PART // 4, True)])
def test_losses_are_those_of_float64(prediction: str, size: int, drawn: bool) -> None:
    batch = loss_batch((5, size))
    got = by_both(lambda: squared_errors.losses(Loss(*loss_arguments(batch, prediction, drawn))))
    error = targets(batch, prediction, drawn) - exact(batch.pred)
    want = exact(batch.weight) * (error**2).mean(1)
    for losses in got:
        np.testing.assert_allclose(exact(losses), want, rtol=1e-6, atol=1e-6 / size)


def test_a_long_sample_loses_no_digits() -> None:
    batch = loss_batch((1, 2**20))
    # Equal squares, whose roundings do not cancel one another.
    even = replace(batch, pred=torch.full((1, 2**20), 0.1), noise=torch.zeros(1, 2**20))
    got = squared_errors.losses(Loss(*loss_arguments(even, "eps", drawn=False)))
    np.testing.assert_allclose(exact(got), exact(batch.weight) * 0.01, rtol=3e-6)


def test_the_second_derivative_of_the_loss_is_refused() -> None:
    batch = make_batch((2, 5))
    pred = batch.pred.clone().requires_grad_()
    loss = diffusion_loss(pred, None, batch.noise, *batch.tables, batch.weight)
    (slope,) = torch.autograd.grad(loss.sum(), pred, create_graph=True)
    with pytest.raises(
        ValueError, match=r"ddpm\.diffusion_loss_backward\.default has no derivative"
    ):
        torch.autograd.grad(slope.sum(), pred)


@pytest.mark.parametrize("name", ["noise", "weight", "t"])
def test_what_the_gradient_needs_must_not_change(name: str) -> None:
    batch = make_batch((2, 5))
    pred = batch.pred.clone().requires_grad_()
    loss = diffusion_loss(pred, None, batch.noise, *batch.tables, batch.weight)
    getattr(batch, name).mul_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_batch_of_64_is_64_batches_of_one(prediction: str) -> None:
    given = Loss(*loss_arguments(loss_batch((64, 4099)), prediction, drawn=False))
    factor = torch.linspace(-1, 2, 64)
    losses, slopes = squared_errors.losses(given), squared_errors.gradient(factor, given)
    names = ("pred", "x0", "noise", "t", "weight", "sample")
    for i in range(64):
        one = given._replace(**{name: getattr(given, name)[i : i + 1] for name in names})
        assert_same_bits(squared_errors.losses(one), losses[i : i + 1])
        slope = squared_errors.gradient(factor[i : i + 1], one)
        assert_same_bits(slope, slopes[i : i + 1])


def code_of(loop: Any) -> tuple[str, str]:
    """The assembly of a loop and what LLVM made that of."""
    return "".join(loop.inspect_asm().values()), "".join(loop.inspect_llvm().values())


def test_every_operation_rounds_and_works_on_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    # Code that comes from a cache cannot be looked at.
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    # Sums first: functions that the gradient shares with them must not share their flags.
    summed = [code_of(squares._losses.__wrapped__(True)), code_of(bound._means.__wrapped__(True))]
    exactly = [
        code_of(affine._loop.__wrapped__(True, True, True, True)),
        code_of(noising._loop.__wrapped__(True)),
        code_of(squares._gradient.__wrapped__(True)),
        code_of(bound._gradients.__wrapped__(True)),
    ]
    for assembly, intermediate in exactly:
        assert not re.search(r"\b(reassoc|contract|fast|nnan|ninf|nsz|arcp|afn)\b", intermediate)
        assert not re.search(r"vfn?m|fmla|fmadd", assembly)
    for assembly, _ in (*exactly, *summed):
        assert platform.machine() != "x86_64" or "mulps" in assembly
