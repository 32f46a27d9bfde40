"""The ops under torch.func: vmap against a loop, and grad in any nesting against autograd."""

# The tests of an op call torch functions that have no types.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from tests.kernels.operations import (
    CASES,
    IDS,
    VARIANTS,
    Variant,
    arguments,
    differentiable,
    flexible,
    op_of,
    per_sample,
    public,
    results,
    shared,
)

COPIES = 3
Function = Callable[..., tuple[Tensor, ...]]

every_case = pytest.mark.parametrize(("op", "chosen"), CASES, ids=IDS)
SMOOTH = [case for case in CASES if differentiable(*case)]
every_gradient = pytest.mark.parametrize(
    ("op", "chosen"), SMOOTH, ids=[i for i, case in zip(IDS, CASES, strict=True) if case in SMOOTH]
)


def of_names(call: Callable[..., Any], made: dict[str, Any], names: list[str]) -> Function:
    """The op as a function of some of its arguments."""

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        return results(call(**{**made, **dict(zip(names, values, strict=True))}))

    return function


def stacked(op: str, chosen: Variant, names: list[str], dim: int = 0) -> list[Tensor]:
    """The named arguments of COPIES different calls."""
    calls = [arguments(op, chosen, seed=seed) for seed in range(COPIES)]
    return [torch.stack([call[name] for call in calls], dim) for name in names]


def assert_equal(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def loop(function: Function, values: list[Tensor]) -> tuple[Tensor, ...]:
    calls = [function(*(value[i].contiguous() for value in values)) for i in range(COPIES)]
    return tuple(torch.stack(outputs) for outputs in zip(*calls, strict=True))


@every_case
@pytest.mark.parametrize("call", [op_of, public])
def test_vmap_is_a_loop(op: str, chosen: Variant, call: Any) -> None:
    made = arguments(op, chosen)
    names = [*per_sample(made), *(name for name in flexible(made) if made[name].ndim == 0)]
    function = of_names(call(op), made, names)
    values = stacked(op, chosen, names)
    assert_equal(vmap(function)(*values), loop(function, values))


@every_case
def test_vmap_of_one_argument_repeats_the_others(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    for name in {*per_sample(made), *flexible(made)}:
        function = of_names(public(op), made, [name])
        values = stacked(op, chosen, [name])
        assert_equal(vmap(function)(*values), loop(function, values))


@every_case
def test_vmap_over_the_samples(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    names = per_sample(made)
    whole = of_names(public(op), made, names)

    def one(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(output[0] for output in whole(*(value[None] for value in values)))

    values = [made[name] for name in names]
    assert_equal(vmap(one)(*values), whole(*values))


@every_case
def test_vmap_of_vmap_and_of_another_dimension(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    names = per_sample(made)
    function = of_names(public(op), made, names)
    values = stacked(op, chosen, names, dim=-1)
    once = vmap(function, in_dims=-1)
    assert_equal(once(*values), loop(function, [value.movedim(-1, 0) for value in values]))
    twice = [torch.stack([value, value.flip(0)]) for value in values]
    each = [once(*(value[i] for value in twice)) for i in range(2)]
    assert_equal(vmap(once)(*twice), tuple(torch.stack(out) for out in zip(*each, strict=True)))


@every_case
def test_what_samples_share_does_not_vary(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    for name in shared(made):
        value = torch.stack([made[name]] * 2)
        with pytest.raises(ValueError, match=f"{name} varies over the dimension of vmap; allowed"):
            vmap(of_names(public(op), made, [name]))(value)


@every_case
def test_a_sample_without_a_batch_is_refused(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    for name in set(per_sample(made)) - set(flexible(made)):
        with pytest.raises(ValueError, match=rf"{name} has shape \(\) under vmap; allowed: \[B, "):
            vmap(of_names(public(op), made, [name]))(torch.zeros_like(made[name].view(-1)[:2]))


def scalar(function: Function) -> Callable[..., Tensor]:
    """A number that depends on every output of a function, unevenly."""

    def total(*values: Tensor) -> Tensor:
        parts = [output.float().reshape(-1) for output in function(*values)]
        return sum((part * torch.linspace(-1, 2, len(part))).sum() for part in parts)  # type: ignore[return-value]

    return total


def slopes(function: Callable[..., Tensor], values: list[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of plain autograd."""
    leaves = [value.clone().requires_grad_() for value in values]
    return torch.autograd.grad(function(*leaves), leaves)


def every(names: list[str]) -> tuple[int, ...]:
    return tuple(range(len(names)))


@every_gradient
def test_grad_is_that_of_autograd(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    names = differentiable(op, chosen)
    values = [made[name] for name in names]
    total = scalar(of_names(public(op), made, names))
    assert_equal(grad(total, every(names))(*values), slopes(total, values))


@every_gradient
def test_grad_of_vmap_and_vmap_of_grad(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    names = differentiable(op, chosen)
    values = stacked(op, chosen, names)
    function = of_names(public(op), made, names)
    total = scalar(function)
    each = [slopes(total, [value[i] for value in values]) for i in range(COPIES)]
    want = tuple(torch.stack(found) for found in zip(*each, strict=True))
    assert_equal(vmap(grad(total, every(names)))(*values), want)

    def together(*stack: Tensor) -> Tensor:
        return vmap(total)(*stack).sum()

    assert_equal(grad(together, every(names))(*values), want)
    assert_equal(slopes(together, values), want)


@every_gradient
def test_gradient_of_one_sample_at_a_time(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    names, first = per_sample(made), differentiable(op, chosen)[0]
    whole = of_names(public(op), made, names)
    at = names.index(first)

    def one(*values: Tensor) -> Tensor:
        return sum(output.float().sum() for output in whole(*(v[None] for v in values)))  # type: ignore[return-value]

    def total(value: Tensor) -> Tensor:
        outputs = whole(*(value if name == first else made[name] for name in names))
        return sum(output.float().sum() for output in outputs)  # type: ignore[return-value]

    values = [made[name] for name in names]
    assert_equal((vmap(grad(one, at))(*values),), slopes(total, [made[first]]))


@every_gradient
def test_what_has_no_gradient_says_so(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    for name, x in made.items():
        if (
            isinstance(x, Tensor)
            and x.is_floating_point()
            and name not in differentiable(op, chosen)
        ):
            with pytest.raises(ValueError, match=f"{name} has requires_grad=True; allowed: False"):
                grad(scalar(of_names(public(op), made, [name])))(x)


SECOND = [case for case in SMOOTH if f"{case[0]}_backward" in VARIANTS]


# Forward mode makes torch load formulas of its own that it compiles in a way it has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize(("op", "chosen"), SECOND)
def test_second_and_forward_derivatives_are_refused(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    (name,) = differentiable(op, chosen)
    total = scalar(of_names(public(op), made, [name]))
    x = made[name].clone().requires_grad_()
    (first,) = torch.autograd.grad(
        scalar(lambda value: results(op_of(op)(*{**made, name: value}.values())))(x),
        x,
        create_graph=True,
    )
    message = rf"ddpm.{op}_backward.default has no derivative; allowed: first derivatives"
    with pytest.raises(ValueError, match=message):
        torch.autograd.grad(first.sum(), x)
    with pytest.raises(ValueError, match=message):
        grad(lambda value: grad(total)(value).sum())(made[name])
    with pytest.raises(ValueError, match=rf"ddpm.{op}.default has no forward-mode derivative"):
        jvp(total, (made[name],), (made[name],))


@pytest.mark.parametrize(("op", "chosen"), SECOND)
def test_a_second_derivative_is_right_or_refused(op: str, chosen: Variant) -> None:
    made = arguments(op, chosen)
    (name,) = differentiable(op, chosen)
    total = scalar(of_names(public(op), made, [name]))
    x = made[name].clone().requires_grad_()
    (first,) = torch.autograd.grad(total(x), x, create_graph=True)
    second = None
    with suppress(ValueError):
        (second,) = torch.autograd.grad(first.sum(), x)
    if second is not None:
        # The Hessian times ones is how fast the gradient moves along ones.
        ahead, behind = (slopes(total, [made[name] + side])[0] for side in (0.01, -0.01))
        torch.testing.assert_close(second, (ahead - behind) / 0.02, rtol=1e-2, atol=1e-3)
