"""The three equations of Song et al. (2021), at the levels of a schedule.

A level is a point in time of each of them, the one of the same SNR, and its x is the coordinate of
each, up to a factor:

- "vp", variance preserving: x itself, in the time u = -log(alpha_bar), whatever the schedule;
- "ve", variance exploding: y = x / alpha, in tau = sigma / alpha or in its square;
- "sub-vp": r x, in the time B for which the gain exp(-B / 2) and the deviation 1 - exp(-B) have
  the SNR of the level.

A step that goes back by h in one of these times holds drift and score where they are at level t,
and adds `share` g^2 score: all of it in the reverse equation, which then adds noise (G-54), and
half of it in the probability flow, which has none (X-probability-flow).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ddpm.schedule import Schedule

Equation = Literal["vp", "ve", "sub-vp"]

REVERSE, FLOW = 1.0, 0.5
"""Shares of the score in the reverse equation and in the probability flow."""


class Step(NamedTuple):
    """Columns of steps x_s = a x0_hat + b x_t + sd z, float64 [K] each."""

    a: Tensor
    b: Tensor
    sd: Tensor


def check_sde(sde: str) -> None:
    """Refuse an unknown name of an equation.

    Raises:
        ValueError: naming it and what is allowed.
    """
    if sde not in get_args(Equation):
        raise ValueError(f"sde = {sde!r}: allowed is one of {', '.join(get_args(Equation))}")


def check_signal(schedule: Schedule, levels: Sequence[int], method: str) -> None:
    """Refuse a first level without signal, which is infinitely late in the times of a method.

    Raises:
        ValueError: naming the levels and the method.
    """
    if bool(schedule.log_snr[levels[0]].isneginf()):
        raise ValueError(
            f"levels = {list(levels)}: allowed for {method} is a first level with signal, "
            "and level T of this schedule has none"
        )


def vp_step(schedule: Schedule, t: Tensor, s: Tensor, share: float) -> Step:
    """Steps in x and -log(alpha_bar), where dx = -x / 2 du + dw.  G-52, G-54.

    Args:
        schedule: The noise schedule.
        t: Levels with signal, int64 [K].
        s: Levels below them.
        share: Of the score, see the module.
    """
    beta, log_alpha_bar = schedule.step_beta(s, t), logsigmoid(schedule.log_snr)
    # A small step keeps its digits on the left, and a beta next to 1 on the right.
    h = torch.where(beta < 0.5, -torch.log1p(-beta), log_alpha_bar[s] - log_alpha_bar[t])
    kept, noise = schedule.alpha_bar[t], schedule.one_minus_alpha_bar[t]
    # The same as 1 + h / 2 - share h / noise.
    b = 1 - h * ((2 * share - 1) + kept) / (2 * noise)
    return Step(share * h * kept.sqrt() / noise, b, h.sqrt())


def sub_vp_step(schedule: Schedule, t: Tensor, s: Tensor, share: float) -> Step:
    r"""Steps in the sub-VP equation dX = -X / 2 dB + \sqrt{1 - e^{-2 B}} dw.  X-SDE-subVP, G-54.

    With p = exp(-B) and q = 1 - p the SNR is S = p / q^2, so that q = 2 / (1 + sqrt(1 + 4 S)) and
    X = (q / sigma) x; g^2 over the variance is (1 + p) / q.

    Args:
        schedule: The noise schedule.
        t: Levels with signal, int64 [K].
        s: Levels below them.
        share: Of the score, see the module.
    """
    snr, sigma = schedule.snr, schedule.one_minus_alpha_bar.sqrt()
    q = 2 / (1 + (1 + 4 * snr).sqrt())
    kept = torch.exp(-schedule.fall(s, t))
    # p_s / p_t - 1 from the difference of S q^2 = 1 - q at both levels, divided by q_t - q_s.
    h = torch.log1p(-torch.expm1(-schedule.fall(s, t)) / (kept + snr[t] * (q[t] + q[s])))
    p, scale = snr[t] * q[t].square(), q[t] / sigma[t]
    # The coordinates meet at level 0, where both of these are 0.
    after = torch.where(s > 0, q[s] / sigma[s], 1.0)
    a = share * h * (1 + p) / q[t] * p.sqrt()
    b = 1 - h * ((2 * share - 1) + (2 * share + 1) * p) / (2 * q[t])
    sd = (h * q[t] * (1 + p)).sqrt()
    return Step(a / after, b * scale / after, sd / after)


def ve_step(schedule: Schedule, t: Tensor, s: Tensor) -> Step:
    """Reverse steps in y = x / alpha and tau^2, where dy = dw.  X-SDE-VE, T-3-VE, G-54.

    The mean is that of the posterior, whatever the length of the step, and the variance
    tau_t^2 - tau_s^2, which the posterior's is below by the factor tau_s^2 / tau_t^2.

    Args:
        schedule: The noise schedule.
        t: Levels with signal, int64 [K].
        s: Levels below them.
    """
    a, b, _ = schedule.posterior(s, t)
    fresh = -torch.expm1(-schedule.fall(s, t))
    sd = (fresh * schedule.alpha_bar[s] * schedule.one_minus_alpha_bar[t]).sqrt()
    return Step(a, b, sd / schedule.alpha_bar[t].sqrt())


def final_estimate(step: Step, s: Tensor) -> Step:
    """The same steps, but to level 0 the one that returns x0_hat, without noise.

    By itself a step to s = 0 would end with fresh noise, and without it, in most of these times,
    with half of that of level t or with its opposite, since the rates grow without bound there.
    """
    ends = (1.0, 0.0, 0.0)
    a, b, sd = (torch.where(s > 0, x, end) for x, end in zip(step, ends, strict=True))
    return Step(a, b, sd)
