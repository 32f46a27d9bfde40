"""The loss against the reference in float64, its gradient as a slope, and Triton against torch."""

# Gradients in torch and kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.gpu import diffusion_loss as gpu
from ddpm.kernels.gpu import reduce
from ddpm.kernels.samples import PART
from ddpm.kernels.squared_errors import CHUNK, PREDICTIONS
from ddpm.kernels.streams import Stream
from ddpm.reference import objectives, philox
from tests.kernels.batches import (
    Array,
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

backward = torch.ops.ddpm.diffusion_loss_backward


def predictions() -> st.SearchStrategy[str]:
    return st.sampled_from(PREDICTIONS)


def arguments(batch: Batch, prediction: str, drawn: bool = True) -> tuple[Any, ...]:
    """All arguments of the op; what it must not read is left out."""
    x0 = batch.x0 if prediction in ("x0", "v") else None
    noise = None if drawn or prediction == "x0" else batch.noise
    place = batch.place if noise is None and prediction != "x0" else (None, None, None)
    return (batch.pred, x0, noise, *batch.tables, batch.weight, *place, prediction)


def loss_batch(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    seed: int,
    prediction: str,
    pred_dtype: torch.dtype | None = None,
) -> Batch:
    """A batch whose levels have the target: clean data has no score."""
    batch = make_batch(shape, dtype, seed, pred_dtype=pred_dtype)
    return replace(batch, t=batch.t.clamp(min=1)) if prediction == "score" else batch


def target(batch: Batch, prediction: str, drawn: bool = True) -> Array:
    noise = exact(batch.noise)
    if drawn:
        size = batch.x0[0].numel() if len(batch.x0) else 0
        seed, step = int(batch.seed), int(batch.step)
        z = philox.normals(seed, Stream.TRAINING_NOISE, step, batch.sample.numpy(), size)
        noise = np.asarray(z.reshape(batch.x0.shape))
    signal, sigma = column(batch.signal[batch.t], batch.x0), column(batch.sigma[batch.t], batch.x0)
    if prediction == "score":
        return np.asarray(-noise / sigma)
    v = signal * noise - sigma * exact(batch.x0)
    return {"eps": noise, "x0": exact(batch.x0), "v": np.asarray(v)}[prediction]


@given(shapes(), dtypes(), dtypes(), predictions(), st.booleans(), SEEDS)
def test_loss_of_the_reference(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    pred_dtype: torch.dtype,
    prediction: str,
    drawn: bool,
    seed: int,
) -> None:
    batch = loss_batch(shape, dtype, seed, prediction, pred_dtype)
    got = diffusion_loss(*arguments(batch, prediction, drawn))
    assert got.dtype == torch.float32
    want = objectives.weighted_loss(
        target(batch, prediction, drawn), exact(batch.pred), exact(batch.weight)
    )
    assert_close(got, want, "cpu")


@given(shapes(), dtypes(), dtypes(), predictions(), st.booleans(), SEEDS)
@settings(max_examples=60)
def test_triton_is_torch(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    pred_dtype: torch.dtype,
    prediction: str,
    drawn: bool,
    seed: int,
) -> None:
    batch = loss_batch(shape, dtype, seed, prediction, pred_dtype)
    inputs = arguments(batch, prediction, drawn)
    with poisoned():
        loss = gpu.diffusion_loss(*inputs)
        grad = gpu.diffusion_loss_backward(batch.weight, *inputs)
    # The same squares in another order.
    assert_close(loss, exact(diffusion_loss(*inputs)), "interpreter")
    assert_same(grad, backward(batch.weight, *inputs))


@pytest.mark.parametrize("size", [256 * 12, 256 * 9 + 77])
def test_a_sample_of_many_programs_is_one_launch(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduce, "_TICKETS", {})
    batch = make_batch((3, size))
    inputs = arguments(batch, "v")
    want = objectives.weighted_loss(target(batch, "v"), exact(batch.pred), exact(batch.weight))
    launches: list[int] = []
    run = gpu._diffusion_loss_kernel.run

    def counted(*given: Any, **options: Any) -> Any:
        launches.append(1)
        return run(*given, **options)

    monkeypatch.setattr(gpu._diffusion_loss_kernel, "run", counted)
    with poisoned():
        losses = [gpu.diffusion_loss(*inputs) for _ in range(2)]
    assert len(launches) == 2
    assert_close(losses[0], want, "interpreter")
    assert torch.equal(losses[0], losses[1])
    assert not reduce.tickets(torch.device("cpu"), 3).any()


@pytest.mark.parametrize("size", [CHUNK, CHUNK + 300, 3 * CHUNK])
def test_samples_of_more_than_one_chunk(size: int) -> None:
    batch = make_batch((2, size))
    inputs = arguments(batch, "v")
    want = objectives.weighted_loss(target(batch, "v"), exact(batch.pred), exact(batch.weight))
    assert_close(diffusion_loss(*inputs), want, "cpu")


@pytest.mark.parametrize("shape", [(70, 1, 4096), (3, PART // 2 + 1), (1, PART + 8)])
def test_large_batches_are_made_of_parts(shape: tuple[int, ...]) -> None:
    batch = make_batch(shape, pred_dtype=torch.bfloat16)
    inputs = arguments(batch, "v", drawn=False)
    want = objectives.weighted_loss(
        target(batch, "v", drawn=False), exact(batch.pred), exact(batch.weight)
    )
    losses = torch.ops.ddpm.diffusion_loss(*inputs)
    assert_close(losses, want, "cpu")
    gradient = backward(batch.weight, *inputs)
    one = tuple(x[:1] if isinstance(x, Tensor) and x.shape[0] == shape[0] else x for x in inputs)
    assert torch.equal(losses[:1], torch.ops.ddpm.diffusion_loss(*one))
    assert torch.equal(gradient[:1], backward(batch.weight[:1], *one))


@given(shapes(), dtypes(), dtypes(), predictions(), st.booleans(), SEEDS)
@settings(max_examples=40)
def test_at_once_and_by_the_op_are_the_same_bits(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    pred_dtype: torch.dtype,
    prediction: str,
    drawn: bool,
    seed: int,
) -> None:
    batch = loss_batch(shape, dtype, seed, prediction, pred_dtype)
    inputs = arguments(batch, prediction, drawn)
    pred = batch.pred.clone().requires_grad_()
    loss = diffusion_loss(pred, *inputs[1:])
    assert torch.equal(loss, torch.ops.ddpm.diffusion_loss(*inputs))
    incoming = torch.linspace(-1, 2, shape[0])
    loss.backward(incoming)
    assert pred.grad is not None
    assert torch.equal(pred.grad, backward(incoming, *inputs))


def test_a_step_for_each_sample() -> None:
    batch = make_batch((3, 6))
    steps = torch.tensor([7, 2**32 - 1, 0])
    place = (batch.seed, steps, batch.sample)
    inputs = (batch.pred, None, None, *batch.tables, batch.weight, *place, "eps")
    losses = diffusion_loss(*inputs)
    with poisoned():
        interpreted = gpu.diffusion_loss(*inputs)
    assert_close(interpreted, exact(losses), "interpreter")
    for i, step in enumerate(steps):
        one = slice(i, i + 1)
        alone = diffusion_loss(
            batch.pred[one], None, None, batch.t[one], batch.signal, batch.sigma,
            batch.weight[one], batch.seed, step, batch.sample[one],
        )  # fmt: skip
        assert torch.equal(alone, losses[one])


@given(shapes(min_batch=1), dtypes(), predictions(), SEEDS)
@settings(max_examples=40)
def test_gradient_is_the_slope(
    shape: tuple[int, ...], dtype: torch.dtype, prediction: str, seed: int
) -> None:
    batch = loss_batch(shape, dtype, seed, prediction)
    pred = batch.pred.requires_grad_()
    incoming = torch.linspace(-1, 2, shape[0])
    diffusion_loss(*arguments(batch, prediction)).backward(incoming)
    assert pred.grad is not None
    assert pred.grad.dtype == dtype
    # A central difference of the reference's float64 loss is exact: the loss is quadratic.
    aim, base = target(batch, prediction), exact(pred)
    tangent = np.random.default_rng(0).standard_normal(shape)
    ahead, behind = (
        objectives.weighted_loss(aim, base + side * tangent, exact(batch.weight))
        for side in (1.0, -1.0)
    )
    slope = (ahead - behind) / 2 * exact(incoming)
    inner = (exact(pred.grad) * tangent).reshape(shape[0], -1)
    # One rounding per element of a gradient whose absolute values sum to the scale below.
    unit = torch.finfo(dtype).eps
    bound = unit * np.abs(inner).sum(1) + 2e-6 * (1 + np.abs(slope)) + 6e-8 * inner.shape[1]
    assert (np.abs(inner.sum(1) - slope) <= bound).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("drawn", [False, True])
def test_opcheck(prediction: str, drawn: bool) -> None:
    batch = make_batch((2, 5))
    batch.pred.requires_grad_()
    inputs = arguments(batch, prediction, drawn)
    torch.library.opcheck(torch.ops.ddpm.diffusion_loss.default, inputs)
    batch.pred.requires_grad_(False)
    torch.library.opcheck(backward.default, (batch.weight, *inputs))


def test_compiles_once_for_all_levels_steps_and_seeds() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    batch = make_batch((3, 5))

    def loss(pred: Tensor, t: Tensor, *place: Tensor) -> Tensor:
        tables = (batch.signal, batch.sigma, batch.weight)
        inputs: tuple[Any, ...] = (pred, batch.x0, None, t, *tables, *place, "v")
        return 2 * diffusion_loss(*inputs).sum()

    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for change in range(3):
        pred = batch.pred.clone().requires_grad_()
        place = (torch.tensor(change), torch.tensor(change * 7), batch.sample + change)
        t = (batch.t + change) % 11
        got = compiled(pred, t, *place)
        got.backward()
        assert torch.equal(got, loss(pred, t, *place))
    assert counter.frame_count == 1


@given(SEEDS, predictions())
@settings(max_examples=6)
def test_one_batch_of_64_is_64_batches_of_one(seed: int, prediction: str) -> None:
    batch = make_batch((64, 33), seed=seed)
    inputs = arguments(batch, prediction)
    together = diffusion_loss(*inputs)
    gradient = backward(batch.weight, *inputs)
    for i in range(64):
        row = slice(i, i + 1)
        one: list[Any] = [x[row] if isinstance(x, Tensor) and len(x.shape) and len(x) == 64 else x
               for x in inputs]  # fmt: skip
        assert torch.equal(together[row], diffusion_loss(*one))
        assert torch.equal(gradient[row], backward(batch.weight[row], *one))


@pytest.mark.parametrize("level", [-1, 11])
def test_a_level_outside_gives_nan_on_a_gpu(level: int) -> None:
    batch = make_batch((2, 5))
    pred, x0, noise, _, *rest = arguments(batch, "v")
    got = gpu.diffusion_loss(pred, x0, noise, torch.tensor([3, level]), *rest)
    assert got.isnan().tolist() == [False, True]


META = torch.device("meta")
BAD: list[tuple[str, Any, str]] = [
    ("pred", lambda x: x.double(), "pred has dtype torch.float64; allowed: torch.float32"),
    ("pred", lambda x: x.T.contiguous().T, "pred has strides"),
    ("x0", lambda x: x[:1], r"x0 has shape \(1, 6\); allowed: \(2, 6\)"),
    ("x0", lambda _: None, "x0 is None; allowed for prediction 'v': a tensor"),
    ("x0", lambda x: x.clone().requires_grad_(), "x0 has requires_grad=True"),
    ("noise", lambda _: torch.zeros(2, 6).T.contiguous().T, "noise has strides"),
    ("noise", lambda _: torch.zeros(2, 6, requires_grad=True), "noise has requires_grad=True"),
    ("t", lambda t: t * 0 + 11, "t contains 11; allowed: 0..10"),
    ("t", lambda t: t.to(META), "t is on device meta; allowed: cpu"),
    ("signal", lambda s: s.clone().requires_grad_(), "signal has requires_grad=True"),
    ("sigma", lambda s: s.half(), "sigma has dtype torch.float16; allowed: torch.float32"),
    ("weight", lambda w: w[:1], r"weight has shape \(1,\); allowed: \(2,\)"),
    ("weight", lambda w: w.double(), "weight has dtype torch.float64"),
    ("weight", lambda w: w.clone().requires_grad_(), "weight has requires_grad=True"),
    ("seed", lambda _: None, "seed is None; allowed where noise is None: a tensor"),
    ("step", lambda _: None, "step is None"),
    ("sample", lambda _: None, "sample is None"),
    ("sample", lambda s: s.int(), "sample has dtype torch.int32"),
    ("prediction", lambda _: "mean", "prediction is 'mean'; allowed: eps, x0, v, score"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_input_is_refused(name: str, change: Any, message: str) -> None:
    names = ("pred", "x0", "noise", "t", "signal", "sigma", "weight", "seed", "step", "sample")
    good = dict(zip((*names, "prediction"), arguments(make_batch((2, 6)), "v"), strict=True))
    with pytest.raises(ValueError, match=message):
        diffusion_loss(**{**good, name: change(good[name])})


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        ("mean", "prediction is 'mean'; allowed: eps, x0, v, score"),
        ("v", "x0 is None; allowed for prediction 'v': a tensor"),
        ("x0", "x0 is None; allowed for prediction 'x0': a tensor"),
    ],
)
def test_given_noise_does_not_make_up_for_the_rest(prediction: str, message: str) -> None:
    batch = make_batch((2, 6))
    with pytest.raises(ValueError, match=message):
        diffusion_loss(
            batch.pred, None, batch.noise, *batch.tables, batch.weight, prediction=prediction
        )


def test_the_table_reaches_the_op_without_a_gradient() -> None:
    batch = make_batch((2, 6))
    batch.pred.requires_grad_()
    inputs = list(arguments(batch, "v"))
    inputs[6] = batch.weight.clone().requires_grad_()
    with pytest.raises(ValueError, match="weight has requires_grad=True"):
        torch.ops.ddpm.diffusion_loss(*inputs)


def test_the_gradient_of_the_losses_is_checked() -> None:
    batch = make_batch((2, 6))
    with pytest.raises(ValueError, match=r"grad has shape \(1,\); allowed: \(2,\)"):
        backward(batch.weight[:1], *arguments(batch, "v"))
