"""How far the estimate of x_0 reaches in each sample: a quantile of its absolute values.

Guidance pushes the estimate out of the range of the data. Dynamic thresholding lets each sample
keep its range up to the quantile and scales it back: `sampler_step` takes the result as threshold.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ddpm.kernels import affine_tiles, batching
from ddpm.kernels.affine_step import check_estimate, refuse_gradients
from ddpm.kernels.samples import parts


def dynamic_threshold(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    row: Tensor,
    ratio: float = 0.995,
    max_value: float = math.inf,
    *,
    uncond: Tensor | None = None,
    guidance_scale: Tensor | None = None,
    learned: str = "none",
) -> Tensor:
    """Give clamp(quantile of |x0_hat| over the sample, 1, max_value), without a gradient.

    Args:
        x: float32, float16 or bfloat16 [B, ...], contiguous, at least one element a sample.
        pred: output of the network, as in `ddpm.kernels.sampler_step.sampler_step`.
        table: float32 [K, 8], of which k_x and k_pred are used.
        row: int64 [] or [B] in 0..K - 1; never read by the host on a GPU, where a row outside
            yields NaN.
        ratio: share of the sample below the quantile, in (0, 1]; between two elements it is
            interpolated linearly.
        max_value: bound of the result, at least 1.
        uncond: output of the network without the condition, like pred; with guidance_scale.
        guidance_scale: float32 [] or [B]; 1 is the conditional output alone.
        learned: "none", or "log" or "sigmoid" where pred has twice the channels of x.

    Returns:
        float32 [B]; NaN where the estimate has a NaN.

    Raises:
        ValueError: a dtype, shape, device, row, ratio, max_value or name is not allowed, or an
            argument requires a gradient.
    """
    refuse_gradients(
        "for a threshold",
        x=x,
        pred=pred,
        table=table,
        uncond=uncond,
        guidance_scale=guidance_scale,
    )
    result: Tensor = _dispatched(
        x, pred, table, row, ratio, max_value, uncond, guidance_scale, learned
    )
    return result


def check_threshold(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    row: Tensor,
    ratio: float,
    max_value: float,
    uncond: Tensor | None,
    guidance_scale: Tensor | None,
    learned: str,
) -> None:
    """Check everything that is known before a launch."""
    check_estimate(x, pred, table, row, uncond, guidance_scale, learned)
    if x.shape[0] and not x.numel():
        raise ValueError(f"x has shape {tuple(x.shape)}; allowed: at least one element a sample")
    if not 0.0 < ratio <= 1.0:
        raise ValueError(f"ratio is {ratio}; allowed: above 0 and at most 1")
    if not max_value >= 1.0:
        raise ValueError(f"max_value is {max_value}; allowed: at least 1")


def position(ratio: float, size: int) -> tuple[int, float]:
    """Give the place of a quantile among `size` numbers in ascending order.

    Returns:
        Index of the number below it, and the share of the way to the next, in [0, 1).
    """
    place = ratio * (size - 1)
    below = math.floor(place)
    return below, place - below


@torch.library.custom_op("ddpm::dynamic_threshold", mutates_args=(), device_types="cpu")
def _dynamic_threshold(
    x: Tensor,
    pred: Tensor,
    table: Tensor,
    row: Tensor,
    ratio: float,
    max_value: float,
    uncond: Tensor | None,
    guidance_scale: Tensor | None,
    learned: str,
) -> Tensor:
    check_threshold(x, pred, table, row, ratio, max_value, uncond, guidance_scale, learned)
    chosen = affine_tiles.coefficients(table, row, x)
    batch = x.shape[0]
    below, share = position(ratio, x.numel() // max(1, batch))
    out = torch.empty(batch)
    for rows in parts(x):
        wide = x[rows].float()
        value = torch.empty_like(wide)
        affine_tiles.estimate(
            wide,
            pred[rows],
            affine_tiles.cut(uncond, rows),
            affine_tiles.cut(guidance_scale, rows),
            affine_tiles.part(chosen, rows),
            value,
            torch.empty_like(wide),
        )
        out[rows] = _quantile(value.abs_().flatten(1), below, share)
    return out.clamp_(1.0, max_value)


@_dynamic_threshold.register_kernel("cuda")
def _(*arguments: Any) -> Tensor:
    from ddpm.kernels.gpu import dynamic_threshold as gpu

    check_threshold(*arguments)
    return gpu.dynamic_threshold(*arguments)


@_dynamic_threshold.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    check_threshold(x, *rest)
    return x.new_empty(x.shape[0], dtype=torch.float32)


def _quantile(value: Tensor, below: int, share: float) -> Tensor:
    """Interpolate between two order statistics of each row; a NaN sorts above all and shows."""
    top = value.topk(value.shape[1] - below, dim=1).values
    low = top[:, -1]
    result = low if share == 0.0 else low + (top[:, -2] - low) * share
    return torch.where(top[:, 0].isnan(), top[:, 0], result)


_dispatched = batching.register(_dynamic_threshold)
