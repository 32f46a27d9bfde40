"""What a network is trained for: the simple loss with any weighting, the hybrid loss, the bound."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ddpm.kernels.diffusion_loss import diffusion_loss
from ddpm.kernels.variational_loss import variational_loss
from ddpm.keys import Key
from ddpm.predictions import TRAINABLE, Prediction
from ddpm.samplers.variances import Variance, learned_form
from ddpm.schedule import Schedule
from ddpm.variational import variational_table
from ddpm.weightings import weight_table

Objective = Literal["simple", "hybrid", "vlb"]


class Tables(NamedTuple):
    """What a loss reads by level, float32 [T + 1, ...] on one device."""

    signal: Tensor
    sigma: Tensor
    weight: Tensor | None
    bound: Tensor | None


class Loss:
    """Loss of an output of the network, one number a sample.  K-79, G-45, G-45-T.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        variance: Variance of the reverse steps.
        weighting: Weight of the squared error by level: a name that `weight_table` knows, or its
            result, float64 [T + 1]. The bound has no other weight than its own.
        objective: "simple", the weighted squared error of the prediction, where the variance is
            fixed. Where it is learned "hybrid", which adds bound_rate T times the term of the bound
            as a function of the variance alone. "vlb" is T times the term of the bound; where the
            variance is fixed, its decoder has a density in place of probabilities, see "snr_drop"
            of `weight_table`. None is "simple" or "hybrid".
        bound_rate: Share lambda of the bound in the hybrid loss, at least 0.
        grey_levels: Number of grey levels of the images on [-1, 1], for the term of level 1.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        schedule: Schedule,
        prediction: Prediction,
        variance: Variance,
        weighting: str | Tensor,
        objective: Objective | None,
        bound_rate: float,
        grey_levels: int,
    ) -> None:
        self.prediction, self.learned = prediction, learned_form(variance)
        self.objective = _objective(objective, self.learned != "none")
        if not 0 <= bound_rate < float("inf"):
            raise ValueError(f"bound_rate = {bound_rate}: allowed is a finite number of at least 0")
        self._share = 1.0 if self.objective == "vlb" else bound_rate
        self._simple = 0.0 if self.objective == "vlb" else 1.0
        self._steps = schedule.steps
        weight = self._weights(schedule, weighting)
        bound = None
        if self.learned != "none" and prediction in TRAINABLE:
            signed = variance == "learned_range"
            bound = variational_table(
                schedule, prediction, self.learned, grey_levels, signed=signed
            )
        weight, bound = (None if x is None else x.float() for x in (weight, bound))
        host = Tables(schedule.signal, schedule.sigma, weight, bound)
        self._on = {torch.device("cpu"): host}

    def _weights(self, schedule: Schedule, weighting: str | Tensor) -> Tensor | None:
        """Weight of the squared error by level, float64 [T + 1], or None for ones."""
        named = isinstance(weighting, str)
        if self.objective == "vlb" and not (named and weighting == "simple"):
            raise ValueError(
                f"weighting = {weighting if named else 'a table'}: allowed with objective 'vlb' is "
                "'simple', because the bound has no weight but its own"
            )
        if not isinstance(weighting, str):
            return _check_weights(weighting, schedule.steps)
        if self.objective == "vlb" and self.learned == "none":
            if self.prediction not in TRAINABLE:
                return None
            return weight_table(schedule, self.prediction, "snr_drop") * schedule.steps
        if weighting == "simple":
            return None
        return weight_table(schedule, self.prediction, weighting)

    def tables(self, device: torch.device) -> Tables:
        """The tables on a device, copied there once; call it before a graph is captured there."""
        if device not in self._on:
            signal, sigma, *rest = self._on[torch.device("cpu")]
            weight, bound = (None if x is None else x.to(device) for x in rest)
            self._on[device] = Tables(signal.to(device), sigma.to(device), weight, bound)
        return self._on[device]

    def check_trainable(self) -> None:
        """Refuse a prediction that no loss knows.

        Raises:
            ValueError: naming it and what is allowed.
        """
        if self.prediction not in TRAINABLE:
            raise ValueError(
                f"prediction = {self.prediction!r}: allowed for training is one of {TRAINABLE}"
            )

    def __call__(
        self,
        output: Tensor,
        x_start: Tensor,
        noise: Tensor | None,
        t: Tensor,
        key: Key | None,
        weight: Tensor | None,
    ) -> Tensor:
        """Loss of each sample, float32 [B].

        Args:
            output: What the network returned, [B, ...], or [B, 2 C, ...] with a learned variance.
            x_start: Clean images [B, ...].
            noise: Standard normal noise like x_start, or None to draw it again under `key`.
            t: Levels, int64 [B], in 1..T.
            key: Where the noise was drawn when none is given.
            weight: float32 [B], a factor of the whole loss, or None for ones.

        Raises:
            ValueError: the prediction is "mean", or an argument is unfit.
        """
        self.check_trainable()
        tables = self.tables(x_start.device)
        one = torch.ones(len(x_start), device=x_start.device) if weight is None else weight
        # On a GPU a level outside is not looked for, and must not be read.
        by_level = one if tables.weight is None else one * tables.weight[t.clamp(0, self._steps)]
        seed, step, sample = (key.seed, key.step, key.sample) if key else (None, None, None)
        if tables.bound is None:
            # Noise that is given has the shape of the images, and is checked in their place.
            read = noise is None or self.prediction in ("x0", "v")
            clean = x_start if read else None
            return diffusion_loss(
                output, clean, noise, t, tables.signal, tables.sigma, by_level,
                seed, step, sample, self.prediction,
            )  # fmt: skip
        loss, _, _ = variational_loss(
            output, x_start, noise, t, tables.bound, by_level * self._simple,
            one * (self._share * self._steps), seed, step, sample, self.prediction, self.learned,
            self.objective == "hybrid",
        )  # fmt: skip
        return loss

    def bound_terms(self, output: Tensor, x_start: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The bound's term of each sample, float32 [B] in nats per dimension.  G-45, L-2.12, K-63.

        Args:
            output: What the network returned, [B, 2 C, ...].
            x_start: Clean images [B, ...].
            noise: Standard normal noise like x_start.
            t: Levels, int64 [B], in 1..T.

        Raises:
            ValueError: the variance is not learned, or an argument is unfit.
        """
        table = self.tables(x_start.device).bound
        if table is None:
            raise ValueError("the variance is fixed: allowed is one that the network predicts")
        zero, one = (torch.full((len(t),), value, device=t.device) for value in (0.0, 1.0))
        loss, _, _ = variational_loss(
            output, x_start, noise, t, table, zero, one, None, None, None,
            self.prediction, self.learned, False,
        )  # fmt: skip
        return loss


def _objective(objective: Objective | None, learned: bool) -> Objective:
    allowed: tuple[Objective, ...] = ("hybrid", "vlb") if learned else ("simple", "vlb")
    if objective is None:
        return allowed[0]
    if objective not in allowed:
        kind = "learned" if learned else "fixed"
        raise ValueError(
            f"objective = {objective!r}: allowed with a {kind} variance is {' or '.join(allowed)}"
        )
    return objective


def _check_weights(weight: Tensor, steps: int) -> Tensor:
    if weight.dtype != torch.float64 or weight.shape != (steps + 1,):
        raise ValueError(
            f"weighting = {weight.dtype} {tuple(weight.shape)}: allowed is a name or "
            f"torch.float64 ({steps + 1},)"
        )
    return weight.detach()
