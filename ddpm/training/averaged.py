"""The averaged network of a checkpoint, and the model that it is."""

from pathlib import Path

import torch
from torch import nn

from ddpm.config import RunConfig
from ddpm.errors import InputError
from ddpm.processes.base import Trained
from ddpm.processes.choose import process_of
from ddpm.runs import checkpoint

PROCESS = "process"
"""Part of a checkpoint that holds what the process took from the data."""


def has_dropout(config: RunConfig) -> bool:
    """Whether the network of a configuration drops activations; some kinds never do."""
    return getattr(config.model, "dropout", 0.0) > 0


def ema_part(config: RunConfig, rate: float) -> str:
    """Name of the part of a checkpoint that holds the average with some rate."""
    return "ema" if rate == config.optimiser.ema_decay else f"ema-{rate}"


def averaged_network(
    config: RunConfig, folder: Path, device: torch.device, part: str = "ema"
) -> nn.Module:
    """The averaged network of a checkpoint, in evaluation mode.

    Args:
        config: The run.
        folder: The checkpoint.
        device: Where the network lives.
        part: Which average, see `ema_part`.

    Raises:
        InputError: the checkpoint is damaged or belongs to another network.
    """
    state, source = checkpoint.load(folder, (part,)), checkpoint.part_path(folder, part)
    process = process_of(config)
    with torch.device("meta"):
        model = process.trainable(config.network())
    # A configuration that is not the checkpoint's is refused before memory is taken for it.
    checkpoint.check_fit(model.state_dict(), state.tensors[part], source)
    model.to_empty(device="cpu")
    checkpoint.restore(model, state.tensors[part], source)
    return model.to(device).eval()


def open_trained(config: RunConfig, folder: Path, model: nn.Module) -> Trained:
    """The model that an averaged network is, with what its process took from the data.

    Args:
        config: The run.
        folder: The checkpoint.
        model: What `averaged_network` gave.

    Raises:
        InputError: the checkpoint is damaged.
    """
    process = process_of(config)
    if process.needs_data:
        state, source = checkpoint.load(folder, (PROCESS,)), checkpoint.part_path(folder, PROCESS)
        try:
            process.load(state.tensors[PROCESS])
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
    return process.trained(model)
