"""Samplers as tables: each step of any sampler is one affine map with noise.

The step from level t to level s computes x0_hat = k_x x_t + k_pred output, clips it, and returns

    a x0_hat + b x_t + c history + noise,

where history is the x0_hat of the row before and the noise is sd z, with a factor that depends on
the network's output where the variance is learned. A sampler is the table of these numbers, one row
a step, computed in float64; the fused kernel reads its row on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ddpm.levels import check_levels
from ddpm.predictions import Prediction, x0_coefficients
from ddpm.schedule import Schedule
from ddpm.variational import Learned as LearnedForm
from ddpm.variational import learned_step_columns

FixedVariance = Literal["posterior", "beta"]
LearnedVariance = Literal["learned", "learned_range", "learned_sigmoid"]
Variance = Literal[FixedVariance, LearnedVariance, "optimal"]
Learned = Literal["none", LearnedForm]


@dataclass(frozen=True, eq=False)
class StepTable:
    """Coefficients of a sequence of steps.

    Attributes:
        coefficients: float32 [K, 8] rows (k_x, k_pred, a, b, c, sd, v0, v1).
        levels: int64 [K], the level of each row's input, at which the network is called; also the
            step of its random numbers.
        path: The same levels and a final 0, known to the host wherever the tensors live.
        noisy: Whether any row draws noise.
        learned: How the noise depends on the second half of the network's output: "none", "log"
            for a standard deviation exp(v0 + v1 raw), "sigmoid" for a variance
            v0 + v1 sigmoid(raw).
        reads_history: For each row, whether it reads the x0_hat of the row before.
    """

    coefficients: Tensor
    levels: Tensor
    path: tuple[int, ...]
    noisy: bool
    learned: Learned
    reads_history: tuple[bool, ...]

    @property
    def needs_history(self) -> bool:
        """Whether any row reads the x0_hat of the row before."""
        return any(self.reads_history)

    def to(self, device: torch.device | str) -> "StepTable":
        """The same table on another device."""
        coefficients, levels = self.coefficients.to(device), self.levels.to(device)
        return StepTable(
            coefficients, levels, self.path, self.noisy, self.learned, self.reads_history
        )


def check_variance(variance: str) -> None:
    """Refuse an unknown name of a variance.

    Raises:
        ValueError: naming it and what is allowed.
    """
    names = (*get_args(FixedVariance), *get_args(LearnedVariance), "optimal")
    if variance not in names:
        raise ValueError(f"variance = {variance!r}: allowed is one of {', '.join(names)}")


def learned_form(variance: Variance) -> Learned:
    """How a variance depends on the network's output.  G-44, T-fn24."""
    if variance == "learned_sigmoid":
        return "sigmoid"
    return "log" if variance in ("learned", "learned_range") else "none"


def learned_columns(
    schedule: Schedule, s: Tensor, t: Tensor, variance: Variance
) -> tuple[Tensor, Tensor]:
    """Columns v0 and v1 of a learned variance, float64; see `learned_step_columns`.  G-44, T-fn24.

    Args:
        schedule: The noise schedule.
        s: Target levels, int64, any shape, 0 <= s < t.
        t: Levels, int64, broadcast with s.
        variance: "learned", "learned_range" or "learned_sigmoid".
    """
    form: LearnedForm = "sigmoid" if variance == "learned_sigmoid" else "log"
    return learned_step_columns(schedule, s, t, form, signed=variance == "learned_range")


def ancestral_table(
    schedule: Schedule,
    prediction: Prediction,
    levels: Sequence[int],
    variance: Variance,
    error: Tensor | None = None,
) -> StepTable:
    """Steps of the reverse chain.  G-42, G-44, V-alg2, T-2.5-var1, T-2.5-var2, T-2.5-opt, T-fn24.

    On a subsequence beta is the noise between the two levels, not an entry of the training table.
    The last step, to level 0, returns the mean: under "beta" the noise left there would be beta_1.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        variance: "posterior" for that of q(x_s | x_t, x_0), "beta" for that of q(x_t | x_s);
            "learned" for beta^raw posterior^(1 - raw), "learned_range" for the same with
            (raw + 1) / 2 in place of raw, "learned_sigmoid" for the share sigmoid(raw) of beta;
            "optimal" for the best constant of each step.
        error: float64 [T + 1], mean squared error of x0_hat per dimension at each level; for
            "optimal" only.

    Raises:
        ValueError: the levels, the variance or the error are not allowed.
    """
    t, s = pairs(schedule, levels)
    a, b, _ = schedule.posterior(s, t)
    form = learned_form(variance)
    if form == "none":
        v, sd = None, fixed_variance(schedule, s, t, variance, error).sqrt()
    else:
        v0, v1 = learned_columns(schedule, s, t, variance)
        # A last step without noise must not meet the exponential of any number.
        v, sd = (torch.where(s > 0, v0, 0.0), torch.where(s > 0, v1, 0.0)), torch.ones_like(a)
    sd = torch.where(s > 0, sd, 0.0)
    return step_table(schedule, prediction, levels, a, b, sd=sd, v=v, learned=form)


def fixed_variance(
    schedule: Schedule, s: Tensor, t: Tensor, variance: Variance, error: Tensor | None = None
) -> Tensor:
    """Variance of p(x_s | x_t) that does not depend on the network.  T-2.5-var1, T-2.5-opt, G-43.

    Args:
        schedule: The noise schedule.
        s: Target levels, int64, any shape, 0 <= s < t.
        t: Levels, int64, broadcast with s.
        variance: "posterior", "beta" or "optimal".
        error: See `ancestral_table`.

    Returns:
        float64, shape of the levels.

    Raises:
        ValueError: the variance is not one of these, or the error does not fit it.
    """
    check_variance(variance)
    check_error(schedule, variance, error)
    a, _, posterior = schedule.posterior(s, t)
    if variance == "beta":
        return schedule.step_beta(s, t)
    return posterior if error is None else posterior + a.square() * error[t]


def check_error(schedule: Schedule, variance: Variance, error: Tensor | None) -> None:
    """Require the errors that "optimal" needs, and refuse them elsewhere.

    Raises:
        ValueError: error is None where it is needed or given where it is not, or it is not a
            float64 table of finite numbers of at least 0 for the levels 1..T.
    """
    if variance != "optimal":
        if error is not None:
            raise ValueError(f"error is given: allowed for variance = {variance!r} is None")
        return
    size = schedule.steps + 1
    if error is None or error.dtype != torch.float64 or error.shape != (size,):
        found = None if error is None else f"{error.dtype} {tuple(error.shape)}"
        raise ValueError(f"error = {found}: allowed for variance 'optimal' is float64 ({size},)")
    wrong = ~((error[1:] >= 0) & error[1:].isfinite())
    if bool(wrong.any()):
        t = int(wrong.nonzero()[0]) + 1
        raise ValueError(
            f"error[{t}] = {float(error[t])}: allowed is a finite number of at least 0"
        )


def ddim_table(
    schedule: Schedule, prediction: Prediction, levels: Sequence[int], eta: float
) -> StepTable:
    """Steps of the DDIM family: eta = 0 is deterministic, eta = 1 ancestral.  L-2.13, L-tau.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        levels: Strictly decreasing, ending at 0.
        eta: Share of the posterior standard deviation that is drawn afresh, in [0, 1].

    Raises:
        ValueError: the levels or eta are not allowed.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta}: allowed is [0, 1]")
    t, s = pairs(schedule, levels)
    a, _, posterior_variance = schedule.posterior(s, t)
    kept = torch.exp(-schedule.fall(s, t))
    direction = (1 - eta**2) + eta**2 * kept
    # With n = 1 - alpha_bar these are b = sqrt((n_s - eta^2 s2) / n_t), s2 the posterior variance,
    # and a = sqrt(alpha_bar_s) - b sqrt(alpha_bar_t), without the two subtractions.
    b = (schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t] * direction).sqrt()
    a = a * (1 + eta**2 * kept) / (1 + (kept * direction).sqrt())
    return step_table(schedule, prediction, levels, a, b, sd=eta * posterior_variance.sqrt())


def pairs(schedule: Schedule, levels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Levels t and s of each step of a sequence, int64 [K] each.

    Raises:
        ValueError: the levels do not decrease strictly from T or below to 0.
    """
    check_levels(levels, schedule.steps)
    sequence = torch.tensor(levels, dtype=torch.int64)
    return sequence[:-1], sequence[1:]


def step_table(
    schedule: Schedule,
    prediction: Prediction,
    path: Sequence[int],
    a: Tensor,
    b: Tensor,
    *,
    c: Tensor | None = None,
    sd: Tensor | None = None,
    v: tuple[Tensor, Tensor] | None = None,
    learned: Learned = "none",
) -> StepTable:
    """Put the table together and round it once.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs.
        path: Level of each row's input and then 0, K + 1 integers.
        a: Weight of x0_hat, float64 [K], as all columns are; None means zeros.
        b: Weight of x.
        c: Weight of the x0_hat of the row before.
        sd: Standard deviation of the noise, or its factor where the variance is learned.
        v: Columns v0 and v1 of a learned variance.
        learned: See `StepTable`.
    """
    t = torch.tensor(path[:-1], dtype=torch.int64)
    k_x, k_pred = x0_coefficients(schedule, prediction, t)
    zero = torch.zeros_like(a)
    c, sd, (v0, v1) = zero if c is None else c, zero if sd is None else sd, v or (zero, zero)
    rows = torch.stack([k_x, k_pred, a, b, c, sd, v0, v1], dim=1).detach()
    reads = tuple(bool(weight) for weight in c.detach() != 0)
    return StepTable(rows.float(), t, tuple(path), bool((sd > 0).any()), learned, reads)
