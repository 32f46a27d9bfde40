"""How much each level counts in the simple loss, whatever the network predicts.

A weighting is a function of the SNR that multiplies the squared error of the clean image. The error
of any other prediction is that of x_0 times a factor of the level: the noise over the signal for
eps, the noise for v, the noise's variance over the signal for the score. Weights are therefore one
function of log-SNR plus the logarithm of that factor squared, and no SNR is ever a divisor.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ddpm.predictions import TRAINABLE, Prediction, check_prediction
from ddpm.schedule import Schedule

Weighting = Literal["simple", "eps", "snr_drop", "min_snr", "p2", "truncated"]
"""Names of the weightings; see `weight_table`."""

WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)


@torch.no_grad()
def weight_table(
    schedule: Schedule,
    prediction: Prediction,
    weighting: str,
    *,
    gamma: float | None = None,
    k: float = 1.0,
) -> Tensor:
    """Weight of the squared error of a prediction by level.  V-eq6, T-fn28, K-78, L-2.12, T-fn16.

    The weightings are, as factors of the squared error of x_0 unless said otherwise:

    - "simple": 1 for the error of the prediction itself;
    - "eps": 1 for the error of eps, whatever is predicted;
    - "snr_drop": half of SNR(t - 1) - SNR(t), the variational bound: with errors averaged over the
      elements the loss is its term of level t in nats per dimension. At level 1, where the drop is
      infinite, it is 1 / (2 s2), from the density of a Gaussian decoder: s2 is the posterior's
      variance of the step from 2 to 1, or beta_1 where T = 1;
    - "min_snr": min(SNR, gamma);
    - "truncated": max(SNR, 1);
    - "p2": 1 / (k + SNR)**gamma for the error of eps.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs, "eps", "x0", "v" or "score".
        weighting: Name of the weighting.
        gamma: Bound of "min_snr", 5 if None, or exponent of "p2", 1 if None; positive.
        k: Addend of "p2", positive.

    Returns:
        float64 [T + 1], at least 0 and finite from level 1 on, NaN at index 0.

    Raises:
        ValueError: a name or number is not allowed, or the schedule has zero terminal SNR and x_0
            cannot be solved for.
    """
    if prediction not in TRAINABLE:
        raise ValueError(f"prediction = {prediction!r}: allowed is one of {TRAINABLE}")
    check_prediction(prediction, schedule)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting = {weighting!r}: allowed is one of {WEIGHTINGS}")
    gamma = _positive("gamma", (5.0 if weighting == "min_snr" else 1.0) if gamma is None else gamma)
    k = _positive("k", k)
    log_snr = schedule.log_snr[1:]
    if weighting == "simple":
        log_weight = torch.zeros_like(log_snr)
    elif weighting == "eps":
        log_weight = _log_eps_to(prediction, log_snr)
    elif weighting == "p2":
        below = torch.logaddexp(log_snr, log_snr.new_tensor(math.log(k)))
        log_weight = _log_eps_to(prediction, log_snr) - gamma * below
    else:
        log_weight = _log_of_x0(weighting, schedule, gamma) + _log_square(prediction, log_snr)
    return torch.cat([log_snr.new_full((1,), math.nan), log_weight.exp()])


def _log_of_x0(weighting: str, schedule: Schedule, gamma: float) -> Tensor:
    """Logarithms of the factors of the squared error of x_0 at levels 1..T."""
    log_snr = schedule.log_snr[1:]
    if weighting == "min_snr":
        return log_snr.clamp(max=math.log(gamma))
    if weighting == "truncated":
        return log_snr.clamp(min=0.0)
    t = torch.arange(2, schedule.steps + 1)
    kept = torch.log(-torch.expm1(-schedule.fall(t - 1, t)))
    # The noise at level 1, and the share of it that the posterior of the step from 2 to 1 keeps.
    log_decoder = logsigmoid(-log_snr[:1]) + kept[:1].sum()
    return torch.cat([-log_decoder, log_snr[:-1] + kept]) - math.log(2.0)


def _log_square(prediction: Prediction, log_snr: Tensor) -> Tensor:
    """Logarithm of the squared factor from an error of the prediction to that of x_0."""
    if prediction == "eps":
        return -log_snr
    if prediction == "v":
        return logsigmoid(-log_snr)
    if prediction == "score":
        return logsigmoid(-log_snr) - log_snr
    return torch.zeros_like(log_snr)


def _log_eps_to(prediction: Prediction, log_snr: Tensor) -> Tensor:
    """Logarithm of the squared factor from an error of the prediction to that of eps."""
    if prediction == "x0":
        return log_snr
    if prediction == "v":
        return logsigmoid(log_snr)
    if prediction == "score":
        return logsigmoid(-log_snr)
    return torch.zeros_like(log_snr)


def _positive(name: str, value: float) -> float:
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} = {value}: allowed is a positive finite number")
    return value
