"""Operations are computed at once only where nothing watches the call."""

# Gradients in torch are called without types of their own.
# mypy: disable-error-code="no-untyped-call"

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm.kernels import eager
from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.q_sample import q_sample, q_sample_drawn
from ddpm.kernels.q_sample_v import q_sample_v
from tests.kernels.batches import make_batch


class Names(TorchDispatchMode):
    """Notes the operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Marked(Tensor):
    """A tensor of another kind, which may want to see each operation."""


def test_plain_tensors_of_the_processor() -> None:
    x = torch.zeros(2)
    assert eager.at_once(x)
    assert eager.at_once(torch.nn.Parameter(x))
    assert not eager.at_once(x.to("meta"))
    assert not eager.at_once(x.as_subclass(Marked))
    with FakeTensorMode() as mode:
        assert not eager.at_once(mode.from_tensor(x))
    with Names():
        assert not eager.at_once(x)


def test_transforms_and_compilers_are_at_work() -> None:
    x, seen = torch.zeros(2), []

    def look(value: Tensor) -> Tensor:
        seen.append(eager.at_once(value))
        return value * 1

    torch.vmap(look)(x)
    torch.func.grad(lambda value: look(value).sum())(x)
    assert seen == [False, False]

    @torch.compile(fullgraph=True, backend="eager")
    def choose(value: Tensor) -> Tensor:
        return value + 1 if eager.at_once(value) else value + 2

    assert torch.equal(choose(x), x + 2)


def test_a_mode_sees_one_operation() -> None:
    batch = make_batch((2, 5))
    with Names() as names:
        q_sample(batch.x0, batch.noise, *batch.tables)
        q_sample_drawn(batch.x0, *batch.tables, *batch.place)
        q_sample_v(batch.x0, batch.noise, *batch.tables)
        diffusion_loss(batch.pred, None, batch.noise, *batch.tables, batch.weight)
    assert names.seen == [
        f"ddpm.{op}.default"
        for op in ("q_sample", "q_sample_drawn", "q_sample_v", "diffusion_loss")
    ]


def test_gradients_are_recorded_only_where_one_is_wanted() -> None:
    calls = []

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del ctx
        calls.append((len(inputs), output.shape))

    double = eager.differentiable("double", lambda x, _: 2 * x, setup, lambda _, g: (2 * g, None))
    x = torch.ones(3)
    assert torch.equal(double(x, None), 2 * x)
    with torch.no_grad():
        double(x.requires_grad_(), None)
    assert calls == []
    out = double(x, None)
    assert calls == [(2, (3,))]
    assert "double" in type(out.grad_fn).__name__
    (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    assert torch.equal(gradient, 8 * x)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()
