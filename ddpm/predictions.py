"""What the network outputs, and the straight line from its output to the clean image.

Every prediction is affine in (x_t, output): x0_hat = k_x x_t + k_out output, with coefficients
that depend on the level only. All formulas that need a clean image start from this line.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from ddpm.schedule import Schedule

Prediction = Literal["eps", "x0", "v", "score", "mean"]

TRAINABLE: tuple[Prediction, ...] = ("eps", "x0", "v", "score")
"""Predictions that the training losses know."""

ALIASES: dict[str, Prediction] = {
    "epsilon": "eps",
    "pred_noise": "eps",
    "sample": "x0",
    "pred_x0": "x0",
    "v_prediction": "v",
    "pred_v": "v",
}


def canonical(name: str) -> Prediction:
    """The project's name of a prediction, from it or from a name used elsewhere.

    Raises:
        ValueError: the name is unknown.
    """
    name = ALIASES.get(name, name)
    for known in get_args(Prediction):
        if name == known:
            return known  # type: ignore[no-any-return]
    allowed = ", ".join([*get_args(Prediction), *ALIASES])
    raise ValueError(f"prediction = {name!r}: allowed is one of {allowed}")


def check_prediction(prediction: Prediction, schedule: Schedule) -> None:
    """Refuse eps and score where the last level keeps no signal at all.  G-36, K-68.

    Raises:
        ValueError: the schedule has zero terminal SNR and x_0 cannot be solved for.
    """
    if prediction in ("eps", "score") and bool(schedule.log_snr[-1].isneginf()):
        raise ValueError(
            f"prediction = {prediction!r}: allowed is 'x0', 'v' or 'mean' under a schedule with "
            "zero terminal SNR, since no signal is left at the last level to divide by"
        )


def x0_coefficients(schedule: Schedule, prediction: Prediction, t: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (k_x, k_out) of x0_hat = k_x x_t + k_out output.

    Sources: T-2.5-x0, T-2.5-eps, T-fn22, T-fn23, K-69, G-36.

    Args:
        schedule: The noise schedule.
        prediction: What the network outputs; "mean" is the mean of x_(t-1).
        t: Levels, int64, any shape, in 1..T.

    Returns:
        Two float64 tensors of the shape of t.
    """
    if prediction == "mean":
        a, b, _ = schedule.posterior(t - 1, t)
        return -b / a, 1 / a
    # Read off the tables, whose last digits do not depend on which levels are asked for.
    signal, variance = schedule.alpha_bar[t].sqrt(), schedule.one_minus_alpha_bar[t]
    return _line(prediction, signal, variance)


def x0_coefficients_at(prediction: Prediction, log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (k_x, k_out) of x0_hat = k_x x + k_out output at any log-SNR.

    Sources: T-2.5-x0, T-2.5-eps, T-fn22, T-fn23, K-69.

    Args:
        prediction: What the network outputs; not "mean", which names the level before.
        log_snr: float64, any shape.

    Returns:
        Two float64 tensors of the shape of log_snr.

    Raises:
        ValueError: the prediction is "mean".
    """
    if prediction == "mean":
        raise ValueError(
            "prediction = 'mean': allowed between levels is 'eps', 'x0', 'v' or 'score', since "
            "there is no level before to have a mean"
        )
    return _line(prediction, torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr))


def _line(prediction: Prediction, signal: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients from sqrt(alpha_bar) and 1 - alpha_bar."""
    sigma = variance.sqrt()
    if prediction == "eps":
        return 1 / signal, -sigma / signal
    if prediction == "v":
        return signal, -sigma
    if prediction == "score":
        return 1 / signal, variance / signal
    return torch.zeros_like(signal), torch.ones_like(signal)
