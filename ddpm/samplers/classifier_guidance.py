r"""Classifier guidance: the slope of a classifier moves what the network estimates.

With p(x_t) p(c | x_t)^w in place of p(x_t) the score gains w grad log p(c | x_t), and the estimate
of the clean image (x_t + sigma^2 score) / alpha becomes

    x0_hat + w sigma^2 / alpha grad log p(c | x_t).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import InputError, check
from ddpm.predictions import x0_coefficients
from ddpm.samplers.loop import Model, tensor_of

Classifier = Callable[[Tensor, Tensor], Tensor]
"""A function of noisy images [B, ...] and their levels t, int64 [B], to logits [B, classes]. No
image may change the logits of another, as under batch normalisation in training mode."""


def classifier_guided(
    diffusion: GaussianDiffusion,
    model: Model,
    classifier: Classifier,
    scale: float,
    *,
    classes: bool = False,
) -> Model:
    """The network of the images of one class, from that of all images and a classifier.

    Its prediction p becomes p + g(t) scale grad log p(c | x_t), with g = -sigma for eps, 1 for the
    score, sigma^2 / alpha for x0: Dhariwal & Nichol (2021), equation (14) and algorithm 2, for any
    prediction and so for any sampler. At scale 1 and with the exact classifier it is the exact
    network of the class. The shift of the mean in their equation (10) and algorithm 1 is the same
    to first order in the noise of a step. A learned variance is left alone.

    Args:
        diffusion: The process that the network was trained with.
        model: The network.
        classifier: Trained on noisy images; differentiable in them.
        scale: w, finite. Above 1 is for pictures more typical of their class than real ones.
        classes: Whether the network has classes itself and is passed the labels, too.

    Returns:
        A network of the same prediction with one more condition, labels: int64 [B]. It works under
        `torch.no_grad`, as in a sampling loop, and does not wait for the device; its table is
        copied to a device at the first call there.

    Raises:
        InputError: scale is not finite, or no signal is left at the last level.
    """
    check(math.isfinite(scale), "scale", scale, "a finite number")
    if bool(diffusion.schedule.log_snr[-1].isneginf()):
        raise InputError(
            "a schedule with zero terminal SNR: allowed for classifier guidance is one with signal "
            "left at the last level, since there sigma^2 / alpha is infinite"
        )
    schedule = diffusion.schedule
    _, k_out = x0_coefficients(schedule, diffusion.prediction, torch.arange(1, schedule.steps + 1))
    # One unit of the slope moves the estimate by sigma^2 / alpha, one of the output by k_out.
    unit = schedule.one_minus_alpha_bar[1:] / schedule.alpha_bar[1:].sqrt()
    factor = (scale * unit / k_out).detach()
    table = torch.cat([factor.new_zeros(1), factor]).float()
    learned = diffusion.learned != "none"
    return _Guided(model, classifier, {table.device: table}, learned, classes)


@dataclass(frozen=True, eq=False)
class _Guided:
    """The guided network; see `classifier_guided`.

    Attributes:
        factors: float32 [T + 1], what the slope is multiplied with, for each device.
    """

    model: Model
    classifier: Classifier
    factors: dict[torch.device, Tensor] = field(repr=False)
    learned: bool
    classes: bool

    def __call__(self, x: Tensor, t: Tensor, *, labels: Tensor, **conditions: Any) -> Tensor:
        """The network's output, its prediction moved."""
        own = {"labels": labels} if self.classes else {}
        output = tensor_of(self.model(x, t, **conditions, **own))
        if x.device not in self.factors:
            self.factors[x.device] = self.factors[torch.device("cpu")].to(x.device)
        factor = self.factors[x.device][t].reshape(-1, *[1] * (x.ndim - 1))
        shift = (factor * slope(self.classifier, x, t, labels)).to(output.dtype)
        if not self.learned:
            return output + shift
        prediction, raw = output.chunk(2, dim=1)
        return torch.cat([prediction + shift, raw], dim=1)


def slope(classifier: Classifier, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """Gradient of log p(c | x_t) in x_t.

    Args:
        classifier: See `Classifier`.
        x: Noisy images [B, ...].
        t: Their levels, int64 [B].
        labels: Classes c, int64 [B], in 0..classes - 1.

    Returns:
        Like x.
    """
    with torch.enable_grad():
        moved = x.detach().requires_grad_()
        logs = torch.log_softmax(classifier(moved, t), dim=1)
        # Each logarithm depends on its own image alone, so that one call gives every gradient.
        total = logs.gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(total, moved)
    return gradient
