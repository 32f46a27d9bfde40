"""The ops under the transforms of `torch.func`: vmap, grad and any nesting of the two.

A new leading dimension is more samples, so `torch.vmap` folds it into the batch and still launches
once. `torch.func.grad` does not go through the gradients of `register_autograd`, whose generated
functions have no setup_context of their own; each op therefore comes with a second way to call it,
taken while a transform is active.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef  # type: ignore[attr-defined]

SHARED = frozenset({"seed", "signal", "sigma", "table", "levels"})
"""Arguments that all samples of a call share."""
ONE_OR_PER_SAMPLE = frozenset({"step", "row", "guidance_scale"})
"""Arguments of shape [] or [B]."""

Setup = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., Any]
Dims = Sequence[int | None]


def register(
    op: CustomOpDef, setup: Setup | None = None, backward: Backward | None = None
) -> Callable[..., Any]:
    """Register the gradient of an op and its rule for vmap.

    Args:
        op: the op; every tensor but the shared ones has its samples along dimension 0, and so has
            every output.
        setup: saves for the gradient, called with (ctx, inputs, output).
        backward: maps (ctx, gradients of the outputs) to a gradient or None for every input; None
            refuses to differentiate the op.

    Returns:
        The op as it is to be called, with every argument, under any transform. Its errors are those
        of the op; besides, a shared argument that varies over a vmap is a ValueError.
    """
    names = [argument.name for argument in op._opoverload._schema.arguments]
    if backward is None:
        setup, backward = _keep_nothing, _refusal(op, "derivative")
    function = _function(op, names, setup or _keep_nothing, backward)
    op.register_autograd(backward, setup_context=setup)

    @op.register_vmap
    def _(info: Any, in_dims: Dims, *inputs: Any) -> tuple[Any, Any]:
        return _folded(op, names, info.batch_size, in_dims, inputs)

    def call(*inputs: Any) -> Any:
        # Calling the function without need would cost more than a step of a small image.
        if torch._C._are_functorch_transforms_active():
            return function.apply(*inputs)
        return op(*inputs)

    return call


def _function(op: CustomOpDef, names: Sequence[str], setup: Setup, backward: Backward) -> Any:
    """Make the autograd function of an op that all transforms of torch.func understand."""

    def forward(*inputs: Any) -> Any:
        return op(*inputs)

    def vmap(info: Any, in_dims: Dims, *inputs: Any) -> tuple[Any, Any]:
        return _folded(made.apply, names, info.batch_size, in_dims, inputs)

    parts: dict[str, Callable[..., Any]] = {
        "forward": forward,
        "setup_context": setup,
        "backward": backward,
        "jvp": _refusal(op, "forward-mode derivative"),
        "vmap": vmap,
    }
    made: Any = type(
        f"Transformed_{op._opoverload._opname}",
        (torch.autograd.Function,),
        {name: staticmethod(part) for name, part in parts.items()},
    )
    return made


def _folded(
    call: Callable[..., Any],
    names: Sequence[str],
    count: int,
    in_dims: Dims,
    inputs: tuple[Any, ...],
) -> tuple[Any, Any]:
    """Call with the mapped dimension folded into the samples, and unfold every output."""
    batch = _batch(names, in_dims, inputs)
    folded = [
        _fold(name, x, dim, count, batch) if isinstance(x, Tensor) else x
        for name, x, dim in zip(names, inputs, in_dims, strict=True)
    ]
    outputs = call(*folded)
    if isinstance(outputs, Tensor):
        return _unfold(outputs, count, batch), 0
    return tuple(_unfold(output, count, batch) for output in outputs), (0,) * len(outputs)


def _batch(names: Sequence[str], in_dims: Dims, inputs: tuple[Any, ...]) -> int:
    """Give the number of samples of one call inside the vmap."""
    for name, x, dim in zip(names, inputs, in_dims, strict=True):
        if isinstance(x, Tensor) and name not in SHARED | ONE_OR_PER_SAMPLE:
            shape = list(x.shape)
            if dim is not None:
                del shape[dim]
            if not shape:
                raise ValueError(f"{name} has shape () under vmap; allowed: [B, ...]")
            return shape[0]
    raise ValueError("no argument has samples")


def _fold(name: str, x: Tensor, dim: int | None, count: int, batch: int) -> Tensor:
    """Give x of all calls inside the vmap, one after the other."""
    if name in SHARED:
        if dim is not None:
            raise ValueError(
                f"{name} varies over the dimension of vmap; allowed: one {name} for all samples, "
                "with in_dims=None"
            )
        return x
    if dim is None and x.ndim == 0:
        return x
    every = x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0)
    if every.ndim == 1:
        if name not in ONE_OR_PER_SAMPLE:
            raise ValueError(f"{name} has shape () under vmap; allowed: [B, ...]")
        every = every[:, None].expand(count, batch)
    return every.flatten(0, 1).contiguous()


def _unfold(output: Tensor, count: int, batch: int) -> Tensor:
    """Give the outputs of all calls inside the vmap."""
    return output.view(count, batch, *output.shape[1:])


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del ctx, inputs, output


def _refusal(op: CustomOpDef, kind: str) -> Backward:
    """Give a derivative that says that there is none."""

    def refuse(ctx: Any, *given: Any) -> Any:
        del ctx, given
        raise ValueError(
            f"{op._opoverload} has no {kind}; allowed: first derivatives by autograd or "
            "torch.func.grad of the ops that document one"
        )

    return refuse
