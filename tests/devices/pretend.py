"""A GPU without values: what runs on it cannot have read a number on the host.

Tensors of torch's meta device have shapes and no contents. Inside `pretend_gpu` each op goes to
its launcher as on a GPU, the launcher's host code runs as it is, and kernels are noted instead of
launched. What would wait for a device raises: reading a value needs contents, and a copy between
the devices is refused. A loop that passes can be captured as a CUDA graph.
"""

# Modes and streams of torch have no types.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.jit import KernelInterface

from ddpm.kernels.gpu import launch

GPU = torch.device("meta")


class HostReadError(RuntimeError):
    """The host would wait for the device."""


class _ToLaunchers(TorchDispatchMode):
    """Sends the ops to their launchers and refuses what waits for a device or copies from one."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        devices = {x.device.type for x in inputs}
        if func.namespace == "ddpm" and "meta" in devices:
            with self:
                return OPDEFS[func.name()]._backend_fns["cuda"](*args, **kwargs)
        if "meta" in devices and _reads(func, inputs):
            raise HostReadError(f"{func} reads values on the host")
        output = func(*args, **kwargs)
        devices |= {x.device.type for x in tree_leaves(output) if isinstance(x, Tensor)}
        if len(devices) > 1:
            raise HostReadError(f"{func} goes from one device to another")
        return output


def _no_numbers(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Refuse tensors made from numbers, which begin on the host and are copied, out of any mode."""

    def refusing(*args: Any, **kwargs: Any) -> Tensor:
        made = make(*args, **kwargs)
        if made.device == GPU:
            raise HostReadError(f"{make.__name__} copies numbers to the device")
        return made

    return refusing


def _reads(func: Any, inputs: list[Tensor]) -> bool:
    """Whether the host needs values of the inputs, be it for the shape of the output."""
    if func is torch.ops.aten.index.Tensor:
        return any(x.dtype in (torch.bool, torch.uint8) for x in inputs[1:])
    waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return not waits.isdisjoint(func.tags)


@contextmanager
def pretend_gpu() -> Iterator[list[str]]:
    """Run what is inside as on a GPU, on tensors of the meta device.

    Yields:
        The names of the kernels launched so far.
    """
    launched: list[str] = []

    def noted(kernel: Any, grid: Any) -> Any:
        def start(*inputs: Any, **constants: Any) -> None:
            del inputs, constants
            assert all(size > 0 for size in grid)
            launched.append(kernel.fn.__name__)

        return start

    with (
        mock.patch.object(KernelInterface, "__getitem__", noted),
        mock.patch.object(launch, "architecture", return_value=launch.DEFAULT),
        mock.patch.object(torch, "tensor", _no_numbers(torch.tensor)),
        mock.patch.object(torch, "as_tensor", _no_numbers(torch.as_tensor)),
        mock.patch.object(Tensor, "new_tensor", _no_numbers(Tensor.new_tensor)),
        _ToLaunchers(),
    ):
        yield launched
