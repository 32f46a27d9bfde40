"""The clean image that a network sees at any log-SNR, between its levels too.

Networks know a level by its number t. Between two levels they are asked at the t between them at
which the schedule's log-SNR, drawn as straight lines, has the wanted value. What a network that was
trained at whole levels says there is its interpolation by the code of t, which is smooth.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddpm.diffusion import GaussianDiffusion
from ddpm.learned_schedule import ScheduledNetwork
from ddpm.models.untied import Untied
from ddpm.predictions import x0_coefficients_at
from ddpm.samplers.levels import check_levels
from ddpm.samplers.loop import Guidance, Model, caller
from ddpm.schedule import Schedule

WHOLE_ONLY = {
    Untied: "it is another network at each whole level, with none between",
    ScheduledNetwork: "it returns losses; the network inside it, .network, has a code of the level",
}


def check_between(model: Model) -> None:
    """Refuse networks of ours that know whole levels alone; others are known when called.

    Raises:
        ValueError: naming the network and what is allowed.
    """
    for part in model.modules() if isinstance(model, nn.Module) else ():
        for kind, reason in WHOLE_ONLY.items():
            if isinstance(part, kind):
                raise ValueError(
                    f"model has a network {kind.__name__}: allowed between levels is one with a "
                    f"smooth code of the level, as UNet, Transformer and MLP; {reason}"
                )


class ContinuousDenoiser:
    """A network as a function of (x, log-SNR), with a count of its calls.

    The network is called in the dtype of its parameters; a module without any, as
    `ddpm.analytic.AnalyticNetwork`, in that of x; another callable in float32. It is asked at t in
    float64 where that is float64, and in float32 elsewhere.

    Args:
        diffusion: Schedule, prediction and form of the variance.
        model: The network.
        conditions: Passed to the network, or None.
        clip_denoised: Whether estimates are clipped to [-1, 1].
        guidance: Classifier-free guidance, or None; its two calls are counted as one.

    Raises:
        ValueError: the prediction is "mean", or the network knows whole levels alone.
    """

    def __init__(
        self,
        diffusion: GaussianDiffusion,
        model: Model,
        conditions: Mapping[str, Any] | None = None,
        clip_denoised: bool = False,
        guidance: Guidance | None = None,
    ) -> None:
        x0_coefficients_at(diffusion.prediction, torch.zeros((), dtype=torch.float64))
        check_between(model)
        self.diffusion, self.model, self.guidance = diffusion, model, guidance
        self.conditions, self.clip_denoised = dict(conditions or {}), clip_denoised
        self.calls = 0

    def x0_hat(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """The estimated clean image.

        Args:
            x: [B, ...], floating.
            log_snr: float64 [], between those of levels T and 1; finite.

        Returns:
            Like x.

        Raises:
            ValueError: the log-SNR lies outside, the guidance does not fit the conditions, or a
                gradient is asked for and the network gives none.
        """
        log_snr = log_snr.detach().to("cpu", torch.float64)
        dtype = self._dtype(x)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        t = self.diffusion.schedule.level_of(log_snr).to(x.device, wide)
        call = caller(self.model, self.guidance, self.conditions, len(x))
        output, uncond = call(x.to(dtype), t)
        self.calls += 1
        if torch.is_grad_enabled() and x.requires_grad and not output.requires_grad:
            raise ValueError(
                "model returns a tensor without a gradient: allowed where one is needed is a "
                "network that is differentiable in x, not called under no_grad"
            )
        if uncond is not None and self.guidance is not None:
            scale = torch.as_tensor(self.guidance.guidance_scale, device=x.device)
            scale = scale.to(output.dtype).reshape(-1, *[1] * (x.ndim - 1))
            output = uncond + scale * (output - uncond)
        if self.diffusion.learned != "none":
            output = output.chunk(2, dim=1)[0]
        k_x, k_out = x0_coefficients_at(self.diffusion.prediction, log_snr)
        clean = float(k_x) * x + float(k_out) * output.to(x.dtype)
        return clean.clamp(-1, 1) if self.clip_denoised else clean

    def _dtype(self, x: Tensor) -> torch.dtype:
        if not isinstance(self.model, nn.Module):
            return torch.float32
        kinds = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        return next(kinds, x.dtype)


class Flow:
    """Drift of the equations that turn noise into data, in the time lambda = log-SNR / 2.

    With alpha = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar) the probability flow is

        dx / dlambda = alpha (x0_hat - alpha x),

    and the reverse stochastic equation, whose marginal laws are the same,

        dx = (2 alpha x0_hat - (1 + alpha^2) x) dlambda + sqrt(2) sigma dw.

    Both are those of Song et al. (2021), equations (13) and (6), for a variance-preserving process:
    there beta dt is 2 sigma^2 dlambda, and the score (alpha x0_hat - x) / sigma^2.

    Args:
        denoiser: x0_hat.
        start: Level with the least SNR that is met, at least 1 and with signal.
        end: Level with the highest, at most start.
    """

    def __init__(self, denoiser: ContinuousDenoiser, start: int, end: int) -> None:
        self.denoiser = denoiser
        table = denoiser.diffusion.schedule.log_snr.detach().double().cpu()
        self.ends = table[start], table[end]

    def velocity(self, time: Tensor, x: Tensor) -> Tensor:
        """The right side of the probability flow, like x [B, ...], at a time []."""
        clean, alpha = self._at(time, x)
        return alpha * (clean - alpha * x)

    def reverse_drift(self, time: Tensor, x: Tensor) -> Tensor:
        """Drift of the reverse stochastic equation, like x [B, ...], at a time []."""
        clean, alpha = self._at(time, x)
        return 2 * alpha * clean - (1 + alpha**2) * x

    def diffusion(self, time: Tensor) -> float:
        """Its factor of the Brownian motion."""
        return math.sqrt(2 * float(torch.sigmoid(-self.log_snr(time))))

    def log_snr(self, time: Tensor) -> Tensor:
        """Log-SNR at a time, float64 [], which solvers round and overshoot: never outside."""
        return (2 * time.detach().double().cpu()).clamp(*self.ends)

    def _at(self, time: Tensor, x: Tensor) -> tuple[Tensor, float]:
        """The estimated clean image, and alpha."""
        log_snr = self.log_snr(time)
        return self.denoiser.x0_hat(x, log_snr), math.sqrt(float(torch.sigmoid(log_snr)))


def times_of(schedule: Schedule, levels: Sequence[int]) -> Tensor:
    """Times lambda of all levels of a sequence but its last, which is 0; float64, ascending.

    Raises:
        ValueError: the levels are not allowed, or begin where no signal is left, at -inf.
    """
    check_levels(levels, schedule.steps)
    table = schedule.log_snr.detach().double().cpu()
    if bool(table[levels[0]].isneginf()):
        raise ValueError(
            f"levels begin at {levels[0]}: allowed in continuous time is a level with signal, at "
            f"most {schedule.steps - 1}; zero SNR lies infinitely far away in log-SNR"
        )
    return table[list(levels[:-1])] / 2
