"""How an update is computed: precision, compilation, memory layout, repeated activations."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ddpm.allocator import keep_memory
from ddpm.config import ComputeConfig
from ddpm.errors import check
from ddpm.runs.checkpoint import check_fit
from ddpm.samplers.loop import tensor_of
from ddpm.training.scaling import Scaling

if TYPE_CHECKING:
    from torch.distributed.fsdp import MixedPrecisionPolicy

Network = Callable[..., Tensor]
SOURCE = Path("compute")
"""What errors call a state that was read from no file."""


class Compute:
    """What stands between a network and its update, the same for one device and for many.

    The order of use: `prepare` the plain network, wrap it by DDP or FSDP where there are ranks, and
    train what `compiled` makes of that. An update is `backward` of every part, `unscale`, clipping,
    `step`. With the default configuration each of these is the plain operation, bit for bit.

    Args:
        config: What is asked for.
        device: Where the network lives.

    Raises:
        InputError: the device or this machine cannot do what is asked for.
    """

    def __init__(self, config: ComputeConfig, device: torch.device) -> None:
        if config.compile:
            check_compiler(device)
        keep_memory(device)
        self.config = config
        self.device = device
        self.dtype: torch.dtype = getattr(torch, config.precision)
        self._scaling = Scaling(device) if config.precision == "float16" else None

    def prepare(self, model: nn.Module, *, sharded: bool = False) -> nn.Module:
        """Arrange the network in place, before it is wrapped and before its optimiser is made.

        Weights and the names of the state_dict stay as they are. Where channels come last, dropout
        falls on other activations, because torch draws it in the order of memory.

        Args:
            model: The network, on its device.
            sharded: Whether FSDP will wrap it, which knows no layout of weights but one; images
                have their channels last all the same.

        Returns:
            The same module.
        """
        if self.config.channels_last and not sharded:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.config.checkpoint_activations:
            for block in blocks(model) or [model]:
                _repeat_in_backward(block)
        return model

    def compiled(self, model: nn.Module) -> Network:
        """The network as the loss calls it: to contiguous float32, whatever it computes in.

        What is compiled is the network's forward pass, and with it its backward pass. The loss
        stays outside: it is one operation of its own already.

        Args:
            model: The prepared network, or DDP or FSDP around it.

        Returns:
            A function of what the network is a function of, the images first.
        """
        return partial(self._call, _compile(model) if self.config.compile else model)

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which matrix products and convolutions take the configured precision."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def fsdp_policy(self) -> "MixedPrecisionPolicy":
        """Precision of FSDP: weights are gathered in the reduced one, gradients summed in float32.

        `autocast` chooses the precision of each operation as on one rank, so that FSDP casts no
        input: a level given as a floating-point number would lose its digits.
        """
        from torch.distributed.fsdp import MixedPrecisionPolicy

        if self.config.precision == "float32":
            return MixedPrecisionPolicy(cast_forward_inputs=False)
        return MixedPrecisionPolicy(
            param_dtype=self.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, scaled in float16, to the parameters."""
        scaled = self._scaling.scale(loss) if self._scaling else loss
        scaled.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimiser: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, so that they can be clipped."""
        if self._scaling:
            self._scaling.unscale(optimiser)

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """Update the weights; in float16 leave them as they are where a gradient is not finite.

        Raises:
            InputError: in float16, after many such updates in a row.
        """
        if self._scaling:
            self._scaling.step(optimiser)
        else:
            optimiser.step()

    def tensors(self) -> dict[str, Tensor]:
        """State that a checkpoint must hold for a resumption to be exact; empty but for float16."""
        return self._scaling.tensors() if self._scaling else {}

    def load(self, tensors: Mapping[str, Tensor], source: Path = SOURCE) -> None:
        """Take over what `tensors` gave.

        Raises:
            InputError: naming what is missing, unknown or unfit.
        """
        if self._scaling:
            self._scaling.load(tensors, source)
        else:
            check_fit({}, tensors, source)

    def _call(self, network: Network, x: Tensor, *places: Tensor, **conditions: Tensor) -> Tensor:
        if self.config.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with self.autocast():
            output = network(x, *places, **conditions)
        return tensor_of(output).float().contiguous()


def blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network, outermost first, none inside another.

    A part is repeated if its class is that of an entry of a ModuleList and it has parts of its own;
    so a middle block outside the lists is one too. This suits the networks of several libraries,
    none of which says what its blocks are. Activations are repeated, weights sharded by block.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    kinds = {type(item) for items in lists for item in items if any(item.children())}
    kinds -= {nn.ModuleList}
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in model.modules():
        if module is not model and type(module) in kinds and module not in inside:
            found.append(module)
            inside.update(module.modules())
    return found


def check_compiler(device: torch.device) -> None:
    """Refuse compilation where there is no compiler, before torch finds out in the first update.

    Raises:
        InputError: naming what is missing.
    """
    if device.type == "cuda":
        check(find_spec("triton") is not None, "compile", True, "False where there is no triton")
        return
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    name = shlex.split(os.environ.get("CXX") or usual)[0]
    check(
        shutil.which(name) is not None, "compile", True,
        f"False where there is no C++ compiler: found no {name}, and $CXX may name another",
    )  # fmt: skip


def _repeat_in_backward(module: nn.Module) -> None:
    """Let a module compute its activations again in the backward pass.

    Its method is replaced and not the module, so that its class, and with it what a network does
    by class, and the names of its tensors stay as they are.
    """
    module.forward = partial(checkpoint, module.forward, use_reentrant=False)


def _compile(model: nn.Module) -> Network:
    """Compile a network; one that is sharded block by block, because FSDP works between them."""
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(model, FSDPModule):
        whole: Network = torch.compile(model)
        return whole
    from torch._dynamo import config

    parts = blocks(model) or [model]
    # Blocks of one class share their code, of which torch compiles eight versions unless told
    # otherwise, and then goes on without a word; the first block may need a second version.
    config.recompile_limit = max(config.recompile_limit, 2 * len(parts))
    for block in parts:
        block.forward = torch.compile(block.forward)
    return model
