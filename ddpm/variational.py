"""Tables for losses and samplers whose network predicts the variance of its steps too.

A step from level t to level s has a variance between the posterior's s2 and beta, the noise added
from s to t. For s >= 1 everything follows from their ratio,

    beta / s2 = 1 + alpha_bar_s beta / (1 - alpha_bar_s),

which holds no difference of nearly equal numbers. For s = 0, where s2 is 0, the posterior of the
step to level 1 (for t = 1 that from level 2) stands in.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ddpm.predictions import Prediction, check_prediction, x0_coefficients
from ddpm.schedule import Schedule

Learned = Literal["log", "sigmoid"]
"""What raw, the network's second output, becomes: beta^raw s2^(1 - raw), or a sigmoid's share."""

MAX_GREY_LEVELS = 65536


@torch.no_grad()
def variational_table(
    schedule: Schedule,
    prediction: Prediction,
    learned: Learned,
    grey_levels: int,
    *,
    signed: bool = False,
) -> Tensor:
    """Rows of `ddpm.kernels.variational_loss`, one a level.  G-44, G-45, T-fn24, L-2.10, L-sigma1.

    The decoder at level 1 has the variance of `learned_step_columns` for the step from 1 to 0.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs, "eps", "x0", "v" or "score".
        learned: How raw becomes a variance.
        grey_levels: Number of grey levels of the data, 2..65536.
        signed: Whether raw = -1 and 1, not 0 and 1, stand for s2 and beta, as in networks of
            OpenAI; for learned "log".

    Returns:
        float64 [T + 1, 6], columns (signal, sigma, root, d0, d1, half): with D the logarithm of
        variance / r, D = d0 + d1 raw or log(d0 + d1 sigmoid(raw)); r is s2, and at level 1 s2 of
        the step from 2 to 1 for "log" (beta_1 where T = 1), beta_1 for "sigmoid". An error e of the
        output moves the mean by root e sqrt(r); half is the half-width of a grey level over
        sqrt(r), 0 from level 2 on. Row 0 is NaN.

    Raises:
        ValueError: a name or number is not allowed, or the schedule has zero terminal SNR and x_0
            cannot be solved for.
    """
    if prediction not in ("eps", "x0", "v", "score"):
        raise ValueError(f"prediction = {prediction!r}: allowed is eps, x0, v or score")
    check_prediction(prediction, schedule)
    _check_learned(learned, signed)
    if not 2 <= grey_levels <= MAX_GREY_LEVELS:
        raise ValueError(f"grey_levels = {grey_levels}: allowed is 2 to {MAX_GREY_LEVELS}")
    t = torch.arange(1, schedule.steps + 1)
    s = t - 1
    log_reference, log_ratio = _log_variances(schedule, s, t)
    if learned == "log":
        d0, d1 = _log_line(torch.zeros_like(log_ratio), log_ratio, signed)
    else:
        log_reference[0] = _log_beta(schedule, s[:1], t[:1])[0]
        d0, d1 = torch.ones_like(log_ratio), torch.expm1(log_ratio)
        d0[0], d1[0] = 0.0, 1.0
    # For s >= 1 the weight a of x_0 over sqrt(s2) is the root of SNR(s) (1 - SNR(t) / SNR(s)).
    weight = (schedule.log_snr[s] / 2).exp() * (-torch.expm1(-schedule.fall(s, t))).sqrt()
    weight[0] = torch.exp(-log_reference[0] / 2)
    _, k_out = x0_coefficients(schedule, prediction, t)
    half = torch.where(t == 1, weight / (grey_levels - 1), 0.0)
    signal, sigma = schedule.alpha_bar[t].sqrt(), schedule.one_minus_alpha_bar[t].sqrt()
    rows = torch.stack([signal, sigma, weight * k_out, d0, d1, half], dim=1)
    return torch.cat([rows.new_full((1, 6), torch.nan), rows])


@torch.no_grad()
def learned_step_columns(
    schedule: Schedule, s: Tensor, t: Tensor, learned: Learned, *, signed: bool = False
) -> tuple[Tensor, Tensor]:
    """What turns raw into the standard deviation of a step, on any pair of levels.  G-44, T-fn24.

    Args:
        schedule: The noise schedule.
        s: Target levels, int64, any shape, 0 <= s < t.
        t: Levels of x_t, int64, broadcast with s, at most T.
        learned: "log" for exp(v0 + v1 raw), "sigmoid" for sqrt(v0 + v1 sigmoid(raw)).
        signed: Whether raw = -1 and 1, not 0 and 1, stand for s2 and beta; for learned "log".

    Returns:
        float64 tensors (v0, v1) of the broadcast shape, finite; with "sigmoid" v0 is 0 at s = 0.

    Raises:
        ValueError: learned is unknown, or signed without "log".
    """
    _check_learned(learned, signed)
    if learned == "log":
        v0, v1 = _log_line(*_log_variances(schedule, s, t), signed)
        return v0 / 2, v1 / 2
    fresh, beta = -torch.expm1(-schedule.fall(s, t)), schedule.step_beta(s, t)
    return schedule.one_minus_alpha_bar[s] * fresh, fresh * schedule.alpha_bar[s] * beta


def _check_learned(learned: Learned, signed: bool) -> None:
    if learned not in get_args(Learned):
        raise ValueError(f"learned = {learned!r}: allowed is {' or '.join(get_args(Learned))}")
    if signed and learned != "log":
        raise ValueError(f"signed = True: allowed is False for learned = {learned!r}")


def _log_line(start: Tensor, slope: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """The line start + slope v in raw, which is v, or 2 v - 1 where signed."""
    return (start + slope / 2, slope / 2) if signed else (start, slope)


def _log_variances(schedule: Schedule, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the smallest variance r of a step, s2 for s >= 1, and of beta / r."""
    if schedule.steps == 1:
        log_beta = _log_beta(schedule, s, t)
        return log_beta, torch.zeros_like(log_beta)
    low, high = s.clamp(min=1), t.clamp(min=2)
    fresh = -torch.expm1(-schedule.fall(low, high))
    log_reference = logsigmoid(-schedule.log_snr[low]) + fresh.log()
    noise = schedule.one_minus_alpha_bar[low]
    excess = torch.log1p(
        schedule.alpha_bar[low] * fresh * schedule.one_minus_alpha_bar[high] / noise
    )
    clean = _log_beta(schedule, s, t) - log_reference
    return log_reference, torch.where(s == 0, clean, excess)


def _log_beta(schedule: Schedule, s: Tensor, t: Tensor) -> Tensor:
    """Logarithm of the noise added between levels s < t."""
    kept = -schedule.fall(s, t)
    return torch.log(-torch.expm1(kept)) + logsigmoid(-schedule.log_snr[t])
