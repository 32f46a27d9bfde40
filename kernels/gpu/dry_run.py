"""Run launchers without a card: what they would launch is compiled for a target, and kept.

The kernels are those that a card would get: the launcher chooses blocks, warps and constants, and
Triton specialises on the very tensors. Nothing runs, so that outputs keep whatever they held.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from tempfile import TemporaryDirectory
from typing import Any

import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from ddpm.kernels.gpu import launch

TARGETS = {
    "sm_80": ("cuda:80", GPUTarget("cuda", 80, 32)),
    "sm_90": ("cuda:90", GPUTarget("cuda", 90, 32)),
    "sm_100": ("cuda:100", GPUTarget("cuda", 100, 32)),
    "gfx942": ("hip:gfx942", GPUTarget("hip", "gfx942", 64)),
}
"""Architectures by their usual names: the row of the launch table, and Triton's target."""

# What allocates or looks at memory without a kernel.
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "view", "reshape", "detach", "select"}


@dataclass(frozen=True)
class Launched:
    """One kernel as a card would get it."""

    assembly: dict[str, Any]
    """Texts and binaries of all stages, by their names in Triton."""
    programs: int
    threads: int
    """Of one program."""
    shared_bytes: int


@dataclass(frozen=True)
class DryRun:
    """What a launcher does on a card."""

    kernels: tuple[Launched, ...]
    torch_kernels: tuple[str, ...]
    """Operations of torch on the way that would be kernels of their own."""


class _Driver:
    """As much of a driver as Triton asks for before it launches."""

    def __init__(self, arch: str) -> None:
        self.arch = arch

    def get_current_device(self) -> str:
        """Name the architecture: kernels are kept apart by it."""
        return self.arch

    def get_current_stream(self, _device: str) -> int:
        """Give the default stream."""
        return 0

    def get_current_target(self) -> GPUTarget:
        """Give what to compile for."""
        return TARGETS[self.arch][1]


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names of the operations that would be kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Note an operation and run it."""
        name = func.overloadpacket.__name__
        if name not in _FREE:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def refuse_interpreter() -> None:
    """Refuse a process in which Triton interprets kernels.

    Raises:
        RuntimeError: TRITON_INTERPRET is set.
    """
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise RuntimeError("TRITON_INTERPRET is set; allowed: unset, kernels must be compiled")


def dry_run(arch: str, call: Callable[[], object]) -> DryRun:
    """Compile what a launcher launches, without a card and without Triton's cache.

    Args:
        arch: key of `TARGETS`.
        call: calls launchers on tensors of the CPU, which stand for those of a card.

    Returns:
        The kernels in the order of their launches.

    Raises:
        RuntimeError: the process interprets kernels instead of compiling them.
    """
    refuse_interpreter()
    kernels: list[Launched] = []
    original = JITFunction.run
    name, target = TARGETS[arch]

    def run(self: Any, *args: Any, grid: Any, **kwargs: Any) -> Any:
        built = original(self, *args, grid=grid, **(kwargs | {"warmup": True}))
        threads = built.metadata.num_warps * target.warp_size
        kernels.append(Launched(built.asm, prod(grid), threads, built.metadata.shared))
        return built

    with (
        TemporaryDirectory() as empty,
        _replaced(triton.knobs.cache, "dir", empty),
        _replaced(JITFunction, "run", run),
        _replaced(triton.runtime.driver, "_active", _Driver(arch)),
        _replaced(launch, "architecture", lambda _device: name),
        _replaced(triton.knobs.compilation, "always_compile", True),
        _Counter() as counter,
        torch.no_grad(),
    ):
        call()
    return DryRun(tuple(kernels), tuple(counter.names))


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
