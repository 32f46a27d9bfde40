"""When an operation may be computed at once, and what differentiates it then.

Going through the registration of an op costs more than the arithmetic of a small image. Where
nothing watches the call, that is in plain eager mode on the CPU, its implementation is called
directly; the result is the same bits.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def at_once(x: Tensor) -> bool:
    """Whether x is a plain tensor of the CPU and no compiler, transform or mode is at work."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)
        and x.is_cpu
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
    )


def recorder(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """Give the apply of an autograd function, for calls that `at_once` has allowed.

    It is the one in C++: what the one in Python does before it concerns the transforms of
    torch.func, and takes longer than a small loss.
    """
    apply: Callable[..., Any] = super(torch.autograd.Function, function).apply  # type: ignore[misc]
    return apply


def differentiable(
    name: str,
    forward: Callable[..., Any],
    setup: Callable[[Any, tuple[Any, ...], Any], None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Make a function that computes at once and records its gradient only where one is wanted.

    Args:
        name: of the function, as autograd shows it.
        forward: the implementation.
        setup: saves for the gradient, called with (ctx, inputs, output).
        backward: maps (ctx, gradients of the outputs) to a gradient or None for every input.

    Returns:
        A function of the arguments of forward. Second derivatives are a RuntimeError.
    """

    def save(ctx: Any, *inputs: Any) -> Any:
        output = forward(*inputs)
        setup(ctx, inputs, output)
        return output

    parts = {"forward": staticmethod(save), "backward": staticmethod(once_differentiable(backward))}
    record = recorder(type(name, (torch.autograd.Function,), parts))

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs):
            return record(*inputs)
        return forward(*inputs)

    return call
