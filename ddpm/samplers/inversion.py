r"""DDIM backwards: from a clean image to the noise that DDIM turns into it.

A step of DDIM from level t down to s is, in tau = sigma / alpha,

    x_s / alpha_s = x_t / alpha_t - (tau_t - tau_s) eps_hat(x_t, t).

Upwards x_t stands on both sides. Taking eps_hat(x_s, s) in its place is an explicit step of the
same order as DDIM's own; putting the x_t so found into the right-hand side, again and again,
solves the equation itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm.diffusion import GaussianDiffusion
from ddpm.errors import check
from ddpm.predictions import x0_coefficients
from ddpm.samplers.loop import Model, State, tensor_of
from ddpm.samplers.tables import pairs


def invert(
    diffusion: GaussianDiffusion,
    model: Model,
    x_start: Tensor,
    levels: Sequence[int],
    *,
    iterations: int = 0,
    **conditions: Any,
) -> Iterator[State]:
    """Yield images on the way from clean ones to the noise that DDIM draws them from.

    The inverse of `ddim_sample_loop` with eta = 0, clip_denoised = False and the same levels;
    Song, Meng & Ermon (2021), equation (13) and section 5.4. Clipped estimates cannot be inverted.

    Without iterations a step from s to t takes the noise estimated at (x_s, s); the first step,
    whose s = 0 no network knows, takes that at (x_0, t). Drawing again then ends near x_start,
    with an error that falls as 1 / K. Each iteration calls the network once more at (x_t, t), and
    where steps are short the error falls by one more power of 1 / K, down to float32. Where they
    are long, as between the components of a mixture, iterations need not help.

    Args:
        diffusion: The process.
        model: The network.
        x_start: Clean images, float32 [B, ...].
        levels: Strictly decreasing, ending at 0, as for sampling; they are walked upwards.
        iterations: Further calls of the network a step, at least 0.
        conditions: Passed to the network.

    Yields:
        K states, the last of which is at the first of the levels.

    Raises:
        ValueError: the levels or iterations are not allowed.
    """
    check(iterations >= 0, "iterations", iterations, "at least 0")
    rows, called, path = inversion_rows(diffusion, levels)
    return _walk(diffusion, model, x_start, rows, called, path, iterations, conditions)


def inversion_rows(
    diffusion: GaussianDiffusion, levels: Sequence[int]
) -> tuple[Tensor, Tensor, list[int]]:
    """The numbers of every step upwards.

    Args:
        diffusion: The process.
        levels: Strictly decreasing, ending at 0.

    Returns:
        float64 [K, 2, 3], the weights of (x_s, x', output) where the network is called at x', in
        the explicit step and in an iteration; int64 [K, 2], the level of either call; and the K
        levels that are reached.

    Raises:
        ValueError: the levels are not allowed.
    """
    schedule = diffusion.schedule
    t, s = (column.flip(0) for column in pairs(schedule, levels))
    below = torch.where(s > 0, s, t)
    signal, sigma = schedule.alpha_bar.sqrt(), schedule.one_minus_alpha_bar.sqrt()
    # alpha_t / alpha_s and alpha_t (tau_t - tau_s), the latter without the subtraction.
    fall = schedule.fall(s, t)
    kept, gain = signal[t] / signal[s], sigma[t] * -torch.expm1(-fall / 2)

    def by_noise(level: Tensor) -> Tensor:
        k_x, k_out = x0_coefficients(schedule, diffusion.prediction, level)
        ahead = gain / sigma[level]
        return torch.stack(
            [kept, ahead * (1 - signal[level] * k_x), -ahead * signal[level] * k_out], dim=1
        )

    # The same equation solved for the x_t beside the estimate of the clean image.
    ratio = sigma[t] / sigma[s].clamp(min=sigma[1])
    k_x, k_out = x0_coefficients(schedule, diffusion.prediction, t)
    pull = signal[t] - ratio * signal[s]
    by_image = torch.stack([ratio, pull * k_x, pull * k_out], dim=1)
    # For data of variance v these shrink an error by (1 - tau_s / tau_t) / (1 + v / tau_t^2) and
    # (tau_t / tau_s - 1) / (1 + tau_t^2 / v): the second is less where tau_s tau_t > v, here 1.
    coarse = (schedule.log_snr[s] + schedule.log_snr[t] < 0)[:, None]
    again = torch.where(coarse, by_image, by_noise(t))
    rows = torch.stack([by_noise(below), again], dim=1).detach()
    return rows, torch.stack([below, t], dim=1), t.tolist()


@torch.no_grad()
def _walk(
    diffusion: GaussianDiffusion,
    model: Model,
    x: Tensor,
    rows: Tensor,
    called: Tensor,
    path: Sequence[int],
    iterations: int,
    conditions: dict[str, Any],
) -> Iterator[State]:
    rows, called = rows.to(x.device, torch.float32), called.to(x.device)
    for i, t in enumerate(path):
        start = found = x
        for k in range(1 + iterations):
            own, inner, outer = rows[i, min(k, 1)]
            level = called[i, min(k, 1)].expand(len(x))
            output = tensor_of(model(found, level, **conditions))
            if diffusion.learned != "none":
                output = output.chunk(2, dim=1)[0]
            found = own * start + inner * found + outer * output
        x = found
        yield State(x, t, i + 1, len(path))
