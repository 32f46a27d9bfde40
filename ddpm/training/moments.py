"""State of AdamW as plain named tensors, for checkpoints: "I.step", "I.exp_avg", "I.exp_avg_sq"."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ddpm.training.parallel import local, placed_like

FIELDS = ("step", "exp_avg", "exp_avg_sq")


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state after at least one update, the tensors themselves; I counts the parameters."""
    state = optimiser.state_dict()["state"]
    return {f"{i}.{name}": value for i, part in state.items() for name, value in part.items()}


def empty_moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Zeros that lie in memory, and are sharded, as the state of the parameters does and is."""
    tensors: dict[str, Tensor] = {}
    for i, parameter in enumerate(_parameters(optimiser)):
        tensors[f"{i}.step"] = torch.zeros((), dtype=torch.float32)
        for name in FIELDS[1:]:
            tensors[f"{i}.{name}"] = torch.zeros_like(parameter, requires_grad=False)
    return tensors


@torch.no_grad()
def load_moments(optimiser: torch.optim.Optimizer, loaded: Mapping[str, Tensor]) -> None:
    """Take over a state with the names, shapes and dtypes of `empty_moments`.

    It is copied into tensors laid out like the parameters, because the fused update walks over all
    of them in the order of memory.
    """
    own = empty_moments(optimiser)
    for name, target in own.items():
        local(target).copy_(local(placed_like(loaded[name], target)))
    count = len(_parameters(optimiser))
    parts = {i: {name: own[f"{i}.{name}"] for name in FIELDS} for i in range(count)}
    optimiser.load_state_dict({**optimiser.state_dict(), "state": parts})


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
