"""Noise schedules, held as the log signal-to-noise ratio of every level.

A schedule with T levels is a table of T + 1 log-SNRs indexed by the level t = 0..T; level 0 is
clean data with log-SNR +inf. Everything else follows from it without subtracting nearly equal
numbers: alpha_bar = sigmoid(log_snr), 1 - alpha_bar = sigmoid(-log_snr). Steps far smaller than
the log-SNR itself keep their digits because a schedule of betas carries what rounding took.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

ScheduleKind = Literal["log_snr_linear", "linear", "cosine"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much signal is left at each level t = 0..T.

    Args:
        log_snr: float64 [T + 1] with T >= 1, strictly decreasing, first entry +inf. The last entry
            may be -inf (zero terminal SNR). May require grad, as a learned schedule does.
        rounding: float64 [T + 1], finite: what the exact log-SNR has beyond log_snr, up to one
            number for all levels; None for zeros. Only differences of two levels see it.

    Raises:
        TypeError: log_snr is not a float64 tensor.
        ValueError: log_snr has the wrong shape, or is not strictly decreasing from +inf.
    """

    log_snr: Tensor
    rounding: Tensor | None = None

    def __post_init__(self) -> None:
        if self.log_snr.dtype != torch.float64:
            raise TypeError(f"log_snr has dtype {self.log_snr.dtype}: allowed is torch.float64")
        if self.log_snr.dim() != 1 or len(self.log_snr) < 2:
            raise ValueError(
                f"log_snr has shape {tuple(self.log_snr.shape)}: allowed is [T + 1] with T >= 1"
            )
        values, t = self.log_snr.detach(), torch.arange(1, len(self.log_snr))
        if not torch.isposinf(values[0]) or not bool((self.fall(t - 1, t) > 0).all()):
            raise ValueError(
                f"log_snr = {values.tolist()[:4]}...: allowed is a strictly decreasing table "
                "that starts at +inf for level 0"
            )

    @staticmethod
    def log_snr_linear(
        steps: int, log_snr_max: float = 9.2, log_snr_min: float = -9.2
    ) -> "Schedule":
        """Log-SNR falling by equal amounts from level 1 to level T.  T-2.6-logsnr.

        Every level then carries the same mass of the continuous bound (T-2.6-inv), and the simple
        loss on eps is the variational bound up to one constant (V-eq7).

        Args:
            steps: Number of levels T, at least 1.
            log_snr_max: Log-SNR of level 1, in nats.
            log_snr_min: Log-SNR of level T, in nats, below log_snr_max; unused when T = 1.

        Raises:
            ValueError: steps < 1, or the end points are not finite and decreasing.
        """
        _check_steps(steps)
        if not math.inf > log_snr_max > log_snr_min > -math.inf:
            raise ValueError(
                f"log_snr_max, log_snr_min = {log_snr_max}, {log_snr_min}: "
                "allowed are finite numbers, the first above the second"
            )
        levels = torch.linspace(log_snr_max, log_snr_min, steps, dtype=torch.float64)
        return Schedule(_with_clean(levels))

    @staticmethod
    def from_betas(betas: Tensor | Sequence[float]) -> "Schedule":
        """Schedule of a chain with the given noise per step.  T-fn7, K-15.

        Args:
            betas: [T] with T >= 1, each in (0, 1]; only the last may be 1.

        Raises:
            ValueError: a beta lies outside (0, 1], or a beta before the last is 1.
        """
        beta = torch.as_tensor(betas, dtype=torch.float64)
        if beta.dim() != 1 or len(beta) == 0:
            raise ValueError(f"betas has shape {tuple(beta.shape)}: allowed is [T] with T >= 1")
        wrong = ~((beta > 0) & (beta <= 1))
        wrong[:-1] |= beta[:-1] == 1
        if bool(wrong.any()):
            t = int(wrong.nonzero()[0]) + 1
            raise ValueError(
                f"betas[{t - 1}] = {float(beta[t - 1])} (level {t}): "
                "allowed is (0, 1], and 1 only at the last level"
            )
        kept = torch.log1p(-beta)
        log_alpha_bar, _ = _prefix_sums(kept)
        noise = -torch.expm1(log_alpha_bar)
        # What a step adds to log(1 - alpha_bar) and takes from log(alpha_bar) both lower the SNR.
        gained = torch.log1p(beta[1:] * log_alpha_bar[:-1].exp() / noise[:-1])
        log_snr = log_alpha_bar - noise.log()
        return Schedule(_with_clean(log_snr), _rounding(log_snr, gained - kept[1:]))

    @staticmethod
    def from_log_alpha_bar(log_alpha_bar: Tensor) -> "Schedule":
        """Schedule from log alpha_bar of levels 1..T: float64 [T], negative, decreasing."""
        return Schedule(_with_clean(log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))))

    @staticmethod
    def linear(steps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> "Schedule":
        """The thousand linear betas of the papers, read at any number of levels.  T-2.6-linear.

        With steps = 1000 these are the betas beta_start..beta_end exactly. Any other number reads
        the same curve of log alpha_bar at t / T, so that both ends of the SNR stay where they are.

        Args:
            steps: Number of levels T, at least 1.
            beta_start: First of the thousand betas, in (0, 1).
            beta_end: Last of the thousand betas, in (0, 1).

        Raises:
            ValueError: steps < 1, or an end point lies outside (0, 1).
        """
        _check_steps(steps)
        for name, value in (("beta_start", beta_start), ("beta_end", beta_end)):
            if not 0 < value < 1:
                raise ValueError(f"{name} = {value}: allowed is (0, 1)")
        betas = torch.linspace(beta_start, beta_end, 1000, dtype=torch.float64)
        curve = torch.cat([torch.zeros(1).double(), torch.cumsum(torch.log1p(-betas), dim=0)])
        position = torch.arange(1, steps + 1, dtype=torch.float64) * 1000 / steps
        left = position.long().clamp(max=999)
        between = torch.lerp(curve[left], curve[left + 1], position - left)
        return Schedule.from_log_alpha_bar(between)

    @staticmethod
    def cosine(steps: int, offset: float = 0.008, max_beta: float = 0.999) -> "Schedule":
        """Squared-cosine alpha_bar with clipped betas.  G-46, G-47, G-48, T-2.6-cosine.

        The clip shortens the last steps only; alpha_bar is recomputed from the clipped betas.

        Args:
            steps: Number of levels T, at least 1.
            offset: Shift s of the cosine, at least 0; it keeps the first betas from vanishing.
            max_beta: Largest beta, in (0, 1).

        Raises:
            ValueError: steps < 1, offset < 0, or max_beta outside (0, 1).
        """
        _check_steps(steps)
        if not 0 <= offset < math.inf:
            raise ValueError(f"offset = {offset}: allowed is a finite number of at least 0")
        if not 0 < max_beta < 1:
            raise ValueError(f"max_beta = {max_beta}: allowed is (0, 1)")
        position = torch.arange(steps + 1, dtype=torch.float64) / steps
        angle = (position + offset) / (1 + offset) * (math.pi / 2)
        log_curve = 2 * torch.log(torch.cos(angle).clamp_min(torch.finfo(torch.float64).tiny))
        beta = -torch.expm1(torch.diff(log_curve))
        return Schedule.from_betas(beta.clamp(max=max_beta))

    def with_zero_terminal_snr(self) -> "Schedule":
        """The same levels with no signal left at the last: it is pure noise, as samplers start.

        With c = sqrt(alpha_bar) level t gets c_1 (c_t - c_T) / (c_1 - c_T), after Lin et al.,
        "Common diffusion noise schedules and sample steps are flawed" (2024), equation (11) there:
        level 1 keeps its SNR, and the amplitudes between keep their proportions. Steps t - 1 to t
        keep the share c'_t / c'_(t-1) = 1 - lost(t-1, t) / lost(t-1, T), where lost(s, t) is
        1 - c_t / c_s, so that nothing here subtracts nearly equal numbers.

        Returns:
            A schedule with log-SNR -inf at level T; this one where it has that already.
        """
        last, t = torch.tensor(self.steps), torch.arange(1, self.steps)
        if bool(self.log_snr[-1].isneginf()):
            return self
        left = self._lost(t, last)
        # A level keeps the share left / left_1 of its amplitude; this is one minus that share.
        gone = (self._kept(t, last) * self._lost(torch.ones_like(t), t) / left[:1])[1:]
        share = left[1:] / left[:1]
        log_snr = self.log_snr[1:-1].clone()
        risen = log_snr[1:] + torch.log(gone * (1 + share))
        log_snr[1:] += 2 * share.log() - torch.logaddexp(torch.zeros_like(risen), risen)
        # How far each step falls: what it takes from log(alpha_bar), adds to log(1 - alpha_bar).
        lost = self._lost(t[:-1], t[1:]) / left[:-1]
        kept = self._kept(t[:-1], t[1:]) * left[1:] / left[:-1]
        taken = -2 * torch.where(lost < 0.5, torch.log1p(-lost), kept.log())
        fresh = log_snr[:-1] + torch.log(lost * (2 - lost))
        added = torch.logaddexp(torch.zeros_like(fresh), fresh)
        silent = log_snr.new_full((1,), -math.inf)
        rounding = torch.cat([_rounding(log_snr, taken + added), log_snr.new_zeros(1)])
        return Schedule(_with_clean(torch.cat([log_snr, silent])), rounding)

    @property
    def steps(self) -> int:
        """Number of levels T."""
        return len(self.log_snr) - 1

    def fall(self, s: Tensor, t: Tensor) -> Tensor:
        """How far log-SNR falls from level s to level t, float64, >= 0.  T-2.6-inv.

        Args:
            s: Levels, int64, any shape, 0 <= s <= t.
            t: Levels, int64, broadcast with s, at most T.
        """
        fall = self.log_snr[s] - self.log_snr[t]
        return fall if self.rounding is None else fall + (self.rounding[s] - self.rounding[t])

    def log_snr_at(self, t: Tensor) -> Tensor:
        """Log-SNR at levels that may lie between two others: straight lines from one to the next.

        Args:
            t: Levels, any shape, floating in [1, T].

        Returns:
            float64 like t, at whole levels the table's own numbers; -inf above level T - 1 where
            level T has zero SNR.

        Raises:
            ValueError: a level lies outside.
        """
        place = t.double()
        if not bool(((place >= 1) & (place <= self.steps)).all()):
            span = f"{float(place.min())} to {float(place.max())}"
            raise ValueError(f"t from {span}: allowed is 1 to T = {self.steps}")
        below = place.floor().long()
        share, end = place - below, self.log_snr[(below + 1).clamp(max=self.steps)]
        start = self.log_snr[below]
        # A share of zero must not meet an infinite end.
        return torch.where(share > 0, (1 - share) * start + share * end, start)

    def level_of(self, log_snr: Tensor) -> Tensor:
        """The level, whole or between two others, at which `log_snr_at` has a value.

        Args:
            log_snr: float64, any shape, between the log-SNRs of levels T and 1, -inf excluded.

        Returns:
            float64 like log_snr, in [1, T].

        Raises:
            ValueError: a log-SNR lies outside, or is -inf.
        """
        table, value = self.log_snr[1:].detach(), log_snr.double()
        if not bool(((value <= table[0]) & (value >= table[-1]) & value.isfinite()).all()):
            span = f"{float(value.min())} to {float(value.max())}"
            raise ValueError(
                f"log_snr from {span}: allowed is {float(table[-1])} to {float(table[0])}, finite"
            )
        # The last level whose log-SNR is not below the value, counted from level 1.
        index = torch.searchsorted(-table, -value.detach(), right=True) - 1
        start, end = self.log_snr[1 + index], self.log_snr[(2 + index).clamp(max=self.steps)]
        return 1 + index + torch.where(value < start, (start - value) / (start - end), 0.0)

    @property
    def alpha_bar(self) -> Tensor:
        """Signal power at levels 0..T, float64 [T + 1].  K-15."""
        return torch.sigmoid(self.log_snr)

    @property
    def one_minus_alpha_bar(self) -> Tensor:
        """Noise variance at levels 0..T, float64 [T + 1], accurate near zero."""
        return torch.sigmoid(-self.log_snr)

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio at levels 0..T, float64 [T + 1], +inf at level 0.  T-SNR."""
        return torch.exp(self.log_snr)

    @property
    def snr_drop(self) -> Tensor:
        """SNR(t - 1) - SNR(t) >= 0 at index t, float64 [T + 1]; +inf at 1, nan at 0.  T-fn28."""
        # Level 0 stays out of the product: its infinite SNR would turn gradients into nan.
        t = torch.arange(2, self.steps + 1)
        drop = self.snr[1:-1] * -torch.expm1(-self.fall(t - 1, t))
        return torch.cat([drop.new_tensor([math.nan, math.inf]), drop])

    @property
    def beta(self) -> Tensor:
        """Noise of the step from t - 1 to t, float64 [T + 1]; nan at index 0.  T-2.6-logsnr."""
        t = torch.arange(1, self.steps + 1)
        return _with_nan(self.step_beta(t - 1, t))

    @cached_property
    def signal(self) -> Tensor:
        """float32 [T + 1] table of sqrt(alpha_bar), rounded once from float64."""
        return self.alpha_bar.detach().sqrt().float()

    @cached_property
    def sigma(self) -> Tensor:
        """float32 [T + 1] table of sqrt(1 - alpha_bar), rounded once from float64."""
        return self.one_minus_alpha_bar.detach().sqrt().float()

    def posterior(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients (a, b, variance) of q(x_s | x_t, x_0) = N(a x_0 + b x_t, variance I).

        Sources: T-eq2, T-fn20, K-59, K-60, L-post, G-35, G-43.

        Args:
            s: Target levels, int64, any shape, 0 <= s < t.
            t: Levels of x_t, int64, broadcast with s, at most T.

        Returns:
            Three float64 tensors; exactly (1, 0, 0) at s = 0.
        """
        fresh = -torch.expm1(-self.fall(s, t))
        signal_s, noise_s = self.alpha_bar[s].sqrt(), self.one_minus_alpha_bar[s]
        shrink = self._kept(s, t)
        return signal_s * fresh, shrink * noise_s / self.one_minus_alpha_bar[t], noise_s * fresh

    def step_beta(self, s: Tensor, t: Tensor) -> Tensor:
        """Noise 1 - alpha_bar_t / alpha_bar_s added between levels s < t, float64.  K-8."""
        return -torch.expm1(-self.fall(s, t)) * self.one_minus_alpha_bar[t]

    def _kept(self, s: Tensor, t: Tensor) -> Tensor:
        """Square root of alpha_bar_t / alpha_bar_s, also where both are too small for a float64."""
        noise = self.one_minus_alpha_bar[t]
        return (self.alpha_bar[t] + noise * torch.exp(-self.fall(s, t))).sqrt()

    def _lost(self, s: Tensor, t: Tensor) -> Tensor:
        """One minus that square root."""
        return self.step_beta(s, t) / (1 + self._kept(s, t))


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps = {steps}: allowed is an integer T of at least 1")


def _prefix_sums(terms: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the first 1, 2, ... terms, rounded, and what rounding took; by doubling strides."""
    total, error, stride = terms, torch.zeros_like(terms), 1
    while stride < len(terms):
        left, right = total[:-stride], total[stride:]
        new = left + right
        part = new - left
        lost = (left - (new - part)) + (right - part)
        # The last term may be -inf; there nothing is lost.
        lost = torch.where(new.isfinite(), lost, 0.0) + error[:-stride] + error[stride:]
        total, error = torch.cat([total[:stride], new]), torch.cat([error[:stride], lost])
        stride *= 2
    rounded = total + error
    return rounded, torch.where(rounded.isfinite(), error - (rounded - total), 0.0)


def _rounding(log_snr: Tensor, falls: Tensor) -> Tensor:
    """What rounding took from the log-SNRs of levels 1..T, given their T - 1 differences.

    Returns:
        float64 [T + 1], 0 at level 0 and where the log-SNR is infinite.
    """
    # The sum of the steps knows their differences best, and the logarithms each value.
    by_steps, remainder = _prefix_sums(torch.cat([log_snr[:1], -falls]))
    rounding = torch.where(log_snr.isfinite(), by_steps - log_snr + remainder, 0.0)
    return torch.cat([rounding.new_zeros(1), rounding])


def _with_clean(log_snr: Tensor) -> Tensor:
    return torch.cat([log_snr.new_full((1,), math.inf), log_snr])


def _with_nan(values: Tensor) -> Tensor:
    return torch.cat([values.new_full((1,), math.nan), values])
