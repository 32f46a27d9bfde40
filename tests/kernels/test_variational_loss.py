"""The loss against the reference in float64, its gradient as a slope, and Triton against torch."""

# Gradients in torch and kernels in triton are called without types of their own.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ddpm.kernels.gpu import variational_loss as gpu
from ddpm.kernels.squared_errors import CHUNK
from ddpm.kernels.variational_loss import LEARNED, PREDICTIONS, variational_loss
from tests.kernels.batches import Array, assert_close, assert_same, exact, poisoned
from tests.kernels.variational_examples import Example, examples, halves, make, reference

backward = torch.ops.ddpm.variational_loss_backward

NAMES = (
    "output", "x0", "noise", "t", "table", "weight", "bound_weight", "seed", "step", "sample",
    "prediction", "learned", "detach_mean",
)  # fmt: skip


def numpy_exp(x: Tensor, out: Tensor | None = None) -> Tensor:
    """The exp of Triton's interpreter."""
    value = torch.from_numpy(np.asarray(np.exp(x.numpy())))
    return value if out is None else out.copy_(value)


@contextmanager
def torch_with_numpy_exp() -> Iterator[None]:
    """What torch computes, with another exp: nothing but that differs from the kernels of a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddpm.kernels.compiled.available", lambda: False)
        patch.setattr("torch.exp", numpy_exp)
        patch.setattr("ddpm.kernels.variational_terms.exponential", numpy_exp)
        yield


def flushed(x: Tensor) -> Tensor:
    """Without subnormal numbers, which some processors drop on the way to bfloat16."""
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, torch.zeros_like(x), x)


def assert_near(got: Tensor, want: Array) -> None:
    """Two roundings of 6e-8 in a table grow by D or by root^2 e^2 <= the bound; sums add theirs."""
    assert_close(got, want, "cpu", scale=2)


@given(examples())
def test_loss_of_the_reference(example: Example) -> None:
    got = variational_loss(*example.arguments)
    assert all(x.dtype == torch.float32 and x.shape == example.t.shape for x in got)
    pred, raw = halves(exact(example.output))
    simple, bound = reference(example, pred, pred, raw)
    weights = exact(example.weight), exact(example.bound_weight)
    for value, want in zip(
        got, (weights[0] * simple + weights[1] * bound, simple, bound), strict=True
    ):
        assert_near(value, want)


@given(examples(min_batch=1))
@settings(max_examples=60)
def test_gradient_is_the_slope(example: Example) -> None:
    output = example.output.requires_grad_()
    incoming = torch.linspace(-1, 2, len(output))
    variational_loss(*example.arguments)[0].backward(incoming)
    assert output.grad is not None
    assert output.grad.dtype == output.dtype
    base = exact(output)
    tangent = np.random.default_rng(0).standard_normal(base.shape)
    sides = []
    for shift in (1e-5, -1e-5):
        pred, raw = halves(base + shift * tangent)
        bound_pred = halves(base)[0] if example.detach_mean else pred
        simple, bound = reference(example, pred, bound_pred, raw)
        sides.append(exact(example.weight) * simple + exact(example.bound_weight) * bound)
    slope = (sides[0] - sides[1]) / 2e-5 * exact(incoming)
    inner = (exact(output.grad) * tangent).reshape(len(base), -1)
    # One rounding per element, six in front of it, and those of the difference of two losses.
    scale = np.abs(inner).sum(1)
    unit = torch.finfo(output.dtype).eps + 2e-6
    difference = 1e-9 * (np.abs(sides[0]) + 1) * np.abs(exact(incoming))
    # The third derivative of the loss makes its slope and the difference quotient differ.
    bound_ = unit * scale + difference + 1e-6 * np.abs(slope) + 6e-8 * inner.shape[1]
    assert (np.abs(inner.sum(1) - slope) <= bound_).all(), (inner.sum(1), slope)


@given(examples())
@settings(max_examples=30)
def test_triton_is_torch(example: Example) -> None:
    arguments = example.arguments
    # Gradients of unlikely grey levels may exceed float16, where both give infinity.
    with poisoned(), np.errstate(over="ignore"):
        results = gpu.variational_loss(*arguments[:-1])
        grad = gpu.variational_loss_backward(example.weight, *arguments)
    with torch_with_numpy_exp():
        want = variational_loss(*arguments)
        # The same terms in another order.
        for value, other in zip(results, want, strict=True):
            assert_close(value, exact(other), "interpreter")
        assert_same(flushed(grad), flushed(backward(example.weight, *arguments)))


@pytest.mark.parametrize("size", [CHUNK, CHUNK + 300])
def test_samples_of_more_than_one_chunk(size: int) -> None:
    example = replace(make((2, 1, size), levels=256), t=torch.tensor([1, 3]))
    pred, raw = halves(exact(example.output))
    want = reference(example, pred, pred, raw)
    for got, truth in zip(variational_loss(*example.arguments)[1:], want, strict=True):
        assert_near(got, truth)


@pytest.mark.parametrize("size", [512, 513, 1200])
def test_chunks_are_added_in_the_same_launch(size: int) -> None:
    example = replace(make((2, 1, size)), t=torch.tensor([1, 3]))
    want = variational_loss(*example.arguments)
    with poisoned(), mock.patch.object(gpu, "CHUNK", 512):
        results = [gpu.variational_loss(*example.arguments[:-1]) for _ in range(2)]
    for got, again, value in zip(*results, want, strict=True):
        assert_close(got, exact(value), "interpreter")
        assert torch.equal(got, again)


def test_samples_are_worked_on_a_few_at_a_time() -> None:
    example = make((30, 1, 3000), levels=256, detach_mean=False)
    assert {1, 2, 6} <= set(example.t.tolist())
    pred, raw = halves(exact(example.output))
    results = variational_loss(*example.arguments)[1:]
    for got, want in zip(results, reference(example, pred, pred, raw), strict=True):
        assert_near(got, want)


@pytest.mark.parametrize("learned", LEARNED)
@pytest.mark.parametrize("value", [-3e4, -300.0, -90.0, 90.0, 300.0])
def test_variances_far_off_give_finite_or_infinite_numbers(learned: str, value: float) -> None:
    example = make((2, 1, 8), learned=learned)
    output = example.output.clone()
    output[:, 1:] = value
    arguments = replace(example, output=output, t=torch.tensor([1, 3])).arguments
    with np.errstate(over="ignore"):
        interpreted = gpu.variational_loss(*arguments[:-1])
        gradient = gpu.variational_loss_backward(example.weight, *arguments)
    for grad in (gradient, backward(example.weight, *arguments)):
        assert not bool(grad.isnan().any())
    for results in (variational_loss(*arguments), interpreted):
        assert not any(bool(x.isnan().any()) for x in results)
        assert bool((results[2] >= 0).all())


def test_nan_passes() -> None:
    example = make((2, 1, 8))
    for place in (0, 1):
        output = example.output.clone()
        output[:, place, 3] = torch.nan
        broken = replace(example, output=output, t=torch.tensor([1, 3])).arguments
        assert bool(variational_loss(*broken)[0].isnan().all())
        assert bool(gpu.variational_loss(*broken[:-1])[0].isnan().all())


def test_only_the_loss_is_differentiable() -> None:
    example = make((2, 1, 5))
    example.output.requires_grad_()
    loss, simple, bound = variational_loss(*example.arguments)
    assert (loss.requires_grad, simple.requires_grad, bound.requires_grad) == (True, False, False)
    for other in (simple, bound):
        with pytest.raises(RuntimeError, match="does not require grad"):
            other.sum().backward()


@pytest.mark.parametrize(("prediction", "drawn"), [("eps", False), ("v", True)])
def test_opcheck(prediction: str, drawn: bool) -> None:
    example = make((2, 1, 5), prediction=prediction, drawn=drawn, learned=LEARNED[drawn])
    arguments = example.arguments
    torch.library.opcheck(backward.default, (example.weight, *arguments))
    example.output.requires_grad_()
    torch.library.opcheck(torch.ops.ddpm.variational_loss.default, arguments)


def test_compiles_once_for_all_levels_steps_and_seeds() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    arguments = make((3, 1, 5), prediction="v", drawn=True).arguments

    def loss(output: Tensor, t: Tensor, *place: Tensor) -> Tensor:
        inputs = (output, *arguments[1:3], t, *arguments[4:7], *place, *arguments[10:])
        return 2 * variational_loss(*inputs)[0].sum()

    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for change in range(3):
        output = arguments[0].clone().requires_grad_()
        other = arguments[0].clone().requires_grad_()
        place = (torch.tensor(change), torch.tensor(change * 7), arguments[9] + change)
        t = (arguments[3] + change) % 6 + 1
        got, want = compiled(output, t, *place), loss(other, t, *place)
        assert torch.equal(got, want)
        got.backward()
        want.backward()
        assert output.grad is not None
        assert other.grad is not None
        assert torch.equal(output.grad, other.grad)
    assert counter.frame_count == 1


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("learned", LEARNED)
def test_one_batch_of_64_is_64_batches_of_one(prediction: str, learned: str) -> None:
    example = make((64, 1, 1033), prediction=prediction, learned=learned, drawn=True)
    arguments = example.arguments
    together = variational_loss(*arguments)
    gradient = backward(example.weight, *arguments)
    assert 1 in example.t.tolist()
    for i in range(64):
        row = slice(i, i + 1)
        one: list[Any] = [x[row] if isinstance(x, Tensor) and x.ndim and len(x) == 64 else x
               for x in arguments]  # fmt: skip
        for all_of_them, alone in zip(together, variational_loss(*one), strict=True):
            assert torch.equal(all_of_them[row], alone)
        assert torch.equal(gradient[row], backward(example.weight[row], *one))


def test_a_step_of_its_own_for_each_sample() -> None:
    example = make((2, 1, 9), drawn=True)
    steps = torch.tensor([5, 11])
    arguments = replace(example, step=steps).arguments
    together = variational_loss(*arguments)
    for got, other in zip(together, gpu.variational_loss(*arguments[:-1]), strict=True):
        assert_close(other, exact(got), "interpreter")
    for i, step in enumerate(steps):
        alone = variational_loss(*replace(example, step=step).arguments)
        assert torch.equal(together[0][i], alone[0][i])


@pytest.mark.parametrize("level", [-1, 0, 7])
def test_a_level_outside_gives_nan_on_a_gpu(level: int) -> None:
    example = replace(make((2, 1, 5)), t=torch.tensor([3, level]))
    loss, _, bound = gpu.variational_loss(*example.arguments[:-1])
    assert loss.isnan().tolist() == bound.isnan().tolist() == [False, True]


META = torch.device("meta")
BAD: list[tuple[str, Any, str]] = [
    ("output", lambda x: x.double(), "output has dtype torch.float64; allowed: torch.float32"),
    (
        "output",
        lambda x: x[:, :3].contiguous(),
        r"output has shape \(2, 3, 3\); allowed: \(2, 4, 3\)",
    ),
    ("output", lambda x: x.mT.contiguous().mT, "output has strides"),
    ("x0", lambda x: x[:, 0, 0].clone(), r"x0 has shape \(2,\); allowed: \[B, C, ...\]"),
    ("x0", lambda x: x.int(), "x0 has dtype torch.int32"),
    ("x0", lambda x: x.clone().requires_grad_(), "x0 has requires_grad=True"),
    ("noise", lambda _: torch.zeros(2, 2, 4), r"noise has shape \(2, 2, 4\); allowed: \(2, 2, 3\)"),
    ("noise", lambda _: torch.zeros(2, 3, 2).mT, "noise has strides"),
    ("noise", lambda _: torch.zeros(2, 2, 3, requires_grad=True), "noise has requires_grad=True"),
    ("t", lambda t: t * 0, "t contains 0; allowed: 1..6"),
    ("t", lambda t: t * 0 + 7, "t contains 7; allowed: 1..6"),
    ("t", lambda t: t.to(META), "t is on device meta; allowed: cpu"),
    ("t", lambda t: t[:1], r"t has shape \(1,\); allowed: \(2,\)"),
    ("table", lambda x: x.double(), "table has dtype torch.float64; allowed: torch.float32"),
    (
        "table",
        lambda x: x[:, :5].contiguous(),
        r"table has shape \(7, 5\); allowed: \[T \+ 1, 6\] with T >= 1",
    ),
    ("table", lambda x: x[:1], r"table has shape \(1, 6\); allowed: \[T \+ 1, 6\] with T >= 1"),
    ("table", lambda x: x.mT.contiguous().mT, "table has strides"),
    ("table", lambda x: x.clone().requires_grad_(), "table has requires_grad=True"),
    ("weight", lambda w: w[:1], r"weight has shape \(1,\); allowed: \(2,\)"),
    ("weight", lambda w: w.clone().requires_grad_(), "weight has requires_grad=True"),
    ("bound_weight", lambda w: w.double(), "bound_weight has dtype torch.float64"),
    ("bound_weight", lambda w: w.clone().requires_grad_(), "bound_weight has requires_grad=True"),
    ("seed", lambda _: None, "seed is None; allowed where noise is None: a tensor"),
    ("step", lambda _: None, "step is None"),
    ("sample", lambda _: None, "sample is None"),
    ("sample", lambda s: s.int(), "sample has dtype torch.int32"),
    ("prediction", lambda _: "mean", "prediction is 'mean'; allowed: eps, x0, v, score"),
    ("learned", lambda _: "none", "learned is 'none'; allowed: log, sigmoid"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_input_is_refused(name: str, change: Any, message: str) -> None:
    good = dict(zip(NAMES, make((2, 2, 3), prediction="v", drawn=True).arguments, strict=True))
    with pytest.raises(ValueError, match=message):
        variational_loss(**{**good, name: change(good[name])})


def test_the_table_reaches_the_op_without_a_gradient() -> None:
    example = make((2, 1, 6))
    example.output.requires_grad_()
    inputs = list(example.arguments)
    inputs[5] = example.weight.clone().requires_grad_()
    with pytest.raises(ValueError, match="weight has requires_grad=True"):
        torch.ops.ddpm.variational_loss(*inputs)


def test_the_gradient_of_the_losses_is_checked() -> None:
    example = make((2, 1, 6))
    with pytest.raises(ValueError, match=r"grad has shape \(1,\); allowed: \(2,\)"):
        backward(example.weight[:1], *example.arguments)
