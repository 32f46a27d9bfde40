"""Weights as a pure function of the seed: built without memory, then filled from Philox."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ddpm.kernels.normal import normal
from ddpm.kernels.streams import Stream

Network = TypeVar("Network", bound=nn.Module)


def build(make: Callable[[], Network], seed: int, device: torch.device | str) -> Network:
    """Build a network and fill its weights from the seed, whatever the global generator holds.

    Weights of linear and convolutional layers are normal with variance 1 / (3 fan-in), which is
    that of torch's own uniform ones, or zero where the layer is marked so; biases are 0 and
    normalisation scales 1. The fan-in is the number of weights of a row, or what a layer that
    stacks several of one kind names as its `fan_in`. Parameter number i is sample i of the stream
    WEIGHTS.

    Args:
        make: Builds the network; called under the meta device, so it must not read tensor values.
        seed: Key of the generator, any int64.
        device: Where the network lives afterwards.

    Returns:
        The network, on the device, in float32.
    """
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    zero = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if getattr(module, "starts_at_zero", False)
    }
    fan_in = {
        f"{name}.weight": int(module.fan_in)
        for name, module in model.named_modules()
        if hasattr(module, "fan_in")
    }
    with torch.no_grad():
        for index, (name, parameter) in enumerate(model.named_parameters()):
            _fill(parameter, name, name in zero, fan_in.get(name), seed, index)
    return model.to(device)


def _fill(
    parameter: Tensor, name: str, zero: bool, fan_in: int | None, seed: int, index: int
) -> None:
    if parameter.dim() == 1 or name.endswith("bias"):
        parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    elif zero:
        parameter.zero_()
    else:
        inputs = parameter[0].numel() if fan_in is None else fan_in
        parameter.copy_(_draw(parameter.shape, seed, index) / math.sqrt(3 * inputs))


def _draw(shape: torch.Size, seed: int, index: int) -> Tensor:
    key, step, sample = torch.tensor(seed), torch.tensor(0), torch.tensor([index])
    return normal(key, step, sample, Stream.WEIGHTS, list(shape), torch.float32)[0]
