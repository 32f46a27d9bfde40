"""Scaling of the loss for float16, whose gradients would vanish otherwise."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from ddpm.errors import InputError, check
from ddpm.runs.checkpoint import check_fit

SKIPPED_AT_MOST = 24
"""Skipped updates in a row after which training stops; the scale has then fallen to 2^-8."""
READ_EVERY = 8
"""Updates after which the count of skipped ones is read from a device other than the CPU."""


class Scaling:
    """Dynamic scale of the loss: halved where a gradient is not finite, doubled now and then.

    An update with such a gradient leaves the weights as they are and counts as an update. Ranks
    have the same gradients, or under FSDP agree on what was found in them, and so the same scale.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._scaler = GradScaler(device.type)
        self._one = torch.ones((), device=device)
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._read_every = 1 if device.type == "cpu" else READ_EVERY
        self._steps = 0

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the scale."""
        scaled: Tensor = self._scaler.scale(loss)
        return scaled

    def unscale(self, optimiser: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale and look for what is not finite, on the device."""
        self._scaler.unscale_(optimiser)

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """Update the weights if all gradients are finite, then the scale.

        Raises:
            InputError: SKIPPED_AT_MOST updates in a row were skipped.
        """
        before = self.scale(self._one)
        self._scaler.step(optimiser)
        self._scaler.update()
        # Only a skipped update lowers the scale; asked in this way, the device is not waited for.
        self._skipped = (self._skipped + 1) * (self.scale(self._one) < before)
        self._steps += 1
        if self._steps % self._read_every == 0 and int(self._skipped) >= SKIPPED_AT_MOST:
            raise InputError(
                f"precision = 'float16': the last {int(self._skipped)} updates had gradients that "
                f"are not finite, although the loss was scaled by as little as "
                f"{self._scaler.get_scale():g}; "
                "use bfloat16 or float32, a lower learning rate, or look for values in the data "
                "or network that are not finite"
            )

    def tensors(self) -> dict[str, Tensor]:
        """The scale, float32, and the updates since it changed and since one was not skipped."""
        growth = self._scaler.state_dict()["_growth_tracker"]
        return {
            "scale": self.scale(self._one).clone(),
            "growth": torch.tensor(growth),
            "skipped": self._skipped.clone(),
        }

    def load(self, tensors: Mapping[str, Tensor], source: Path) -> None:
        """Take over what `tensors` gave.

        Raises:
            InputError: naming what is missing, unknown or unfit.
        """
        own = self.tensors()
        check_fit(own, tensors, source)
        scale, growth, skipped = (tensors[n].item() for n in ("scale", "growth", "skipped"))
        most = self._scaler.get_growth_interval()
        unread = SKIPPED_AT_MOST + READ_EVERY
        ranges = {
            "scale": (0 < scale < float("inf"), scale, "a positive number"),
            "growth": (0 <= growth < most, growth, f"0 to {most - 1}"),
            "skipped": (0 <= skipped < unread, skipped, f"0 to {unread - 1}"),
        }
        for name, (right, value, allowed) in ranges.items():
            check(right, f"{source}: {name}", value, allowed)
        state = {**self._scaler.state_dict(), "scale": scale, "_growth_tracker": growth}
        self._scaler.load_state_dict(state)
        self._skipped = tensors["skipped"].to(self._skipped.device)
