"""Variances of the reverse steps: fixed, learned, or the best constant."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ddpm.schedule import Schedule
from ddpm.variational import Learned as LearnedForm
from ddpm.variational import learned_step_columns

FixedVariance = Literal["posterior", "beta"]
LearnedVariance = Literal["learned", "learned_range", "learned_sigmoid"]
Variance = Literal[FixedVariance, LearnedVariance, "optimal"]
Learned = Literal["none", LearnedForm]


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
