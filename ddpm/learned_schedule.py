r"""A noise schedule that is learned with its network, so that the bound's estimate is steady.

Between fixed ends the bound of many levels does not depend on the schedule, but the variance of its
estimate from one random level does (T-2.6-inv). With g_t = log SNR(t) and e_t the mean squared
error of the estimated clean image, that estimate in nats per dimension is

    l_t = T/2 (SNR(t - 1) - SNR(t)) e_t,   t = 2..T,

and since its mean stays where it is, the schedule with the least variance is that with the least
mean of l_t^2. The network is trained by another loss, on the same output.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ddpm.predictions import TRAINABLE, Prediction
from ddpm.samplers.loop import tensor_of
from ddpm.schedule import Schedule

NetworkObjective = Literal["simple", "vlb"]
"""What the network is trained for; the schedule is trained for the same in either case."""

FLOOR = 1e-3
"""Slope that the line keeps beside steps of height 1, so that no two levels can meet."""
SHARPNESS = 20.0
"""Inverse width of an untrained step of log-SNR, which goes over u in [0, 1]."""
MARGIN = 0.2
"""How far steps reach beyond the ends of u; without them the untrained ends would be too flat."""
GAIN = 10.0
"""What a parameter is multiplied by, so that the network's learning rate suits it too."""
TOGETHER = 4096
"""Levels of a table that are computed at a time, for the sake of memory."""


class MonotoneLogSnr(nn.Module):
    """Log-SNR as a strictly decreasing function of u in [0, 1] with fixed ends.  T-2.6-inv.

    A line plus `hidden` logistic steps of positive height and sharpness, scaled to the ends. All
    parameters begin at zero, where it falls evenly: to within one percent with some hundred steps.

    Args:
        log_snr_max: Value at u = 0, in nats.
        log_snr_min: Value at u = 1, in nats, below log_snr_max.
        hidden: Number of steps, at least 1.

    Raises:
        ValueError: an end is not finite, the ends do not decrease, or hidden < 1.
    """

    def __init__(self, log_snr_max: float, log_snr_min: float, hidden: int = 1024) -> None:
        super().__init__()
        if not math.inf > log_snr_max > log_snr_min > -math.inf:
            raise ValueError(
                f"log_snr_max, log_snr_min = {log_snr_max}, {log_snr_min}: "
                "allowed are finite numbers, the first above the second"
            )
        if hidden < 1:
            raise ValueError(f"hidden = {hidden}: allowed is an integer of at least 1")
        self.ends = float(log_snr_max), float(log_snr_min)
        self.slope = nn.Parameter(torch.zeros(1))
        self.sharpness = nn.Parameter(torch.zeros(hidden))
        self.shift = nn.Parameter(torch.zeros(hidden))
        self.height = nn.Parameter(torch.zeros(hidden))

    def forward(self, u: Tensor) -> Tensor:
        """Log-SNR at places u, differentiable in the parameters.

        Args:
            u: Floating point [N], in [0, 1].

        Returns:
            float64 [N], at u = 0 and u = 1 the ends exactly.
        """
        u = u.double()
        rise = self._rise(torch.cat([u, u.new_tensor([0.0, 1.0])]))
        fraction = (rise[:-2] - rise[-2]) / (rise[-1] - rise[-2])
        # Rounding must not move the ends, and no parameter does.
        share = torch.where(u <= 0, 0.0, torch.where(u >= 1, 1.0, fraction))
        highest, lowest = self.ends
        return highest * (1 - share) + lowest * share

    def table(self, levels: int) -> Tensor:
        """Log-SNR at levels 1..T, evenly spaced in u; float64 [T], differentiable.

        Args:
            levels: T, at least 2.

        Raises:
            ValueError: levels < 2.
        """
        _check_levels(levels)
        t = torch.arange(1, levels + 1, device=self.slope.device)
        return torch.cat([self(place(part, levels)) for part in torch.split(t, TOGETHER)])

    @torch.no_grad()
    def schedule(self, levels: int) -> Schedule:
        """The schedule as it is now, for evaluation and sampling.

        Args:
            levels: T, at least 2.

        Raises:
            ValueError: levels < 2, or a parameter is not finite.
        """
        table = self.table(levels).cpu()
        return Schedule(torch.cat([table.new_full((1,), math.inf), table]))

    def _rise(self, u: Tensor) -> Tensor:
        """An increasing function of u, float64 [N], up to its scale and offset."""
        count = len(self.height)
        index = torch.arange(count, dtype=torch.float64, device=u.device)
        centre = (index + 0.5) / count * (1 + 2 * MARGIN) - MARGIN
        steep = SHARPNESS * _positive(self.sharpness)
        offset = GAIN * self.shift.double() - steep * centre
        steps = torch.sigmoid(torch.addcmul(offset, u[:, None], steep))
        height = _positive(self.height)
        return (FLOOR + _positive(self.slope)) * u + steps @ (height / height.sum())


class ScheduledNetwork(nn.Module):
    """A network and the schedule of its noise, trained together by one loss.

    The loss of a sample is that of the network under the schedule as it is, with the gradient that
    this has. The schedule's parameters receive another gradient from the same backward pass, that
    of the squared term l_t^2 of the bound. It takes both ways on which l_t depends on log-SNR: the
    drop of the SNR, and the error, through the noisy image that the network reads (and through
    the target, for v and the score). The network's knowledge of the level is its number t, which
    stays; where the network estimates best for that level, a small move of the level changes the
    error as it changes that of the best estimate, and later updates follow the move.

    Args:
        network: Any module of (x [B, C, ...], t int64 [B], conditions) with an output like x, each
            sample by itself.
        schedule: The schedule.
        levels: Number of levels T, at least 2.
        prediction: What the network outputs.
        objective: Loss of the network: "simple", the mean squared error of the prediction, or
            "vlb", T times the term of the bound, at level 1 that of a Gaussian decoder as in
            `ddpm.weightings.weight_table`.
        share: Factor of l_t^2 beside the network's loss, positive. Adam does not see it; the
            clipping of a norm over both gradients does, and by default leaves it the network's.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: MonotoneLogSnr,
        levels: int,
        prediction: Prediction = "eps",
        objective: NetworkObjective = "simple",
        share: float = 0.01,
    ) -> None:
        super().__init__()
        _check_levels(levels)
        if not 0 < share < math.inf:
            raise ValueError(f"share = {share}: allowed is a positive finite number")
        if prediction not in TRAINABLE:
            raise ValueError(f"prediction = {prediction!r}: allowed is one of {TRAINABLE}")
        if objective not in get_args(NetworkObjective):
            raise ValueError(f"objective = {objective!r}: allowed is 'simple' or 'vlb'")
        self.network = network
        self.schedule = schedule
        self.levels = levels
        self.prediction = prediction
        self.objective = objective
        self.share = share

    def forward(
        self,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor,
        *,
        weight: Tensor | None = None,
        **conditions: Any,
    ) -> Tensor:
        """Loss of the network for each sample, with the gradients of both.  K-79, T-2.6-inv.

        Args:
            x_start: Clean images [B, C, ...], float32.
            t: Levels, int64 [B], in 1..T.
            noise: Standard normal noise like x_start.
            weight: float32 [B], a factor of the loss and of l_t^2, or None for ones.
            conditions: Passed to the network.

        Returns:
            float32 [B].
        """
        log_snr, before, second = self._log_snrs(t)
        # A node of its own, at which the gradient that came through the network is rescaled.
        noising = log_snr.clone()
        error = self._error(x_start, t, noise, noising, conditions)
        rate = self._bound_rate(log_snr, before)
        own = torch.ones_like(rate)
        if self.objective == "vlb":
            own = torch.where(t > 1, rate, self._decoder_rate(log_snr, second)).detach()
        fixed_rate, fixed_error = rate.detach(), error.detach().double()
        doubled = 2 * self.share * fixed_rate * fixed_error
        if noising.requires_grad:
            # From the network's loss, own * error, to l^2, where d l^2 = 2 l rate d error ...
            noising.register_hook((doubled * fixed_rate / own).mul)  # type: ignore[no-untyped-call]
        # ... + 2 l error d rate, which adds nothing to the value.
        direct = doubled * fixed_error * rate
        loss = own.to(error.dtype) * error + (direct - direct.detach()).to(error.dtype)
        return loss if weight is None else weight * loss

    @torch.no_grad()
    def bound_terms(self, x_start: Tensor, t: Tensor, noise: Tensor, **conditions: Any) -> Tensor:
        """The estimates l_t of the bound, in nats per dimension, 0 at level 1.  V-eq6, T-fn28.

        Their mean over uniform t, noise and data is the sum of the bound's terms 2..T, and their
        variance what the schedule is learned for.

        Args:
            x_start: Clean images [B, C, ...], float32.
            t: Levels, int64 [B], in 1..T.
            noise: Standard normal noise like x_start.
            conditions: Passed to the network.

        Returns:
            float32 [B].
        """
        log_snr, before, _ = self._log_snrs(t)
        error = self._error(x_start, t, noise, log_snr, conditions)
        return (self._bound_rate(log_snr, before) * error).to(error.dtype)

    def _log_snrs(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-SNR of levels t and t - 1, float64 [B] each, and of level 2, [1].

        Level 1 stands for the level before it, so that its drop is 0 and has no gradient.
        """
        second = torch.full_like(t[:1], 2)
        levels = torch.cat([t, (t - 1).clamp(min=1), second])
        log_snr: Tensor = self.schedule(place(levels, self.levels))
        return log_snr[: len(t)], log_snr[len(t) : 2 * len(t)], log_snr[2 * len(t) :]

    def _error(
        self,
        x_start: Tensor,
        t: Tensor,
        noise: Tensor,
        log_snr: Tensor,
        conditions: dict[str, Any],
    ) -> Tensor:
        """Mean squared error of the prediction, float32 [B].  K-79."""
        column = (-1, *[1] * (x_start.dim() - 1))
        signal = torch.sigmoid(log_snr).sqrt().to(x_start.dtype).view(column)
        sigma = torch.sigmoid(-log_snr).sqrt().to(x_start.dtype).view(column)
        output = tensor_of(self.network(signal * x_start + sigma * noise, t, **conditions))
        if self.prediction == "eps":
            target = noise
        elif self.prediction == "x0":
            target = x_start
        elif self.prediction == "v":
            target = signal * noise - sigma * x_start
        else:
            target = -noise / sigma
        return (output - target).square().flatten(1).mean(dim=1)

    def _bound_rate(self, log_snr: Tensor, before: Tensor) -> Tensor:
        """The factor from the prediction's error to l_t, float64 [B].  T-eq3, V-eq6."""
        kept = -torch.expm1(log_snr - before)
        return self.levels / 2 * torch.exp(before) * kept * self._square(log_snr)

    def _decoder_rate(self, log_snr: Tensor, second: Tensor) -> Tensor:
        """The factor of level 1: T / (2 s2), s2 the posterior's variance of the step 2 to 1."""
        variance = torch.sigmoid(-log_snr) * -torch.expm1(second - self.schedule.ends[0])
        return self.levels / 2 / variance * self._square(log_snr)

    def _square(self, log_snr: Tensor) -> Tensor:
        """Squared error of the clean image over that of the prediction, float64 [B]."""
        if self.prediction == "eps":
            return torch.exp(-log_snr)
        if self.prediction == "v":
            return torch.sigmoid(-log_snr)
        if self.prediction == "score":
            return torch.sigmoid(-log_snr) * torch.exp(-log_snr)
        return torch.ones_like(log_snr)


def place(t: Tensor, levels: int) -> Tensor:
    """Where levels t in 1..T lie: u = (t - 1) / (T - 1), float64."""
    return (t - 1).double() / (levels - 1)


def _positive(raw: Tensor) -> Tensor:
    """A positive number from any, 1 from 0; float64."""
    positive: Tensor = softplus(GAIN * raw.double())
    return positive / math.log(2)


def _check_levels(levels: int) -> None:
    if levels < 2:
        raise ValueError(f"levels = {levels}: allowed is an integer T of at least 2")
