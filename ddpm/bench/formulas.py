"""The operations in plain torch, as one writes them down; torch.compile is given the same."""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor
from torch.special import log_ndtr


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Append dimensions to a vector [B] so that it broadcasts against [B, ...]."""
    return value.view(-1, *(1,) * (like.ndim - 1))


def noising(x0: Tensor, noise: Tensor | None, t: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
    """Noise clean data to level t; noise is drawn where it is None.  T-eq1."""
    eps = torch.randn_like(x0) if noise is None else noise
    mixed = per_sample(signal[t], x0) * x0.float() + per_sample(sigma[t], x0) * eps.float()
    return mixed.to(x0.dtype)


def target_of(
    prediction: str, x0: Tensor, noise: Tensor, t: Tensor, signal: Tensor, sigma: Tensor
) -> Tensor:
    """What a network is to return: the noise, x_0 or v.  T-fn22."""
    if prediction == "eps":
        return noise.float()
    if prediction == "x0":
        return x0.float()
    return per_sample(signal[t], x0) * noise.float() - per_sample(sigma[t], x0) * x0.float()


def simple_loss(
    pred: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    prediction: str,
) -> tuple[Tensor, Tensor]:
    """Noise a batch and compare a prediction: x_t, and the loss of each sample.  K-79."""
    eps = torch.randn_like(x0) if noise is None else noise
    x_t = noising(x0, eps, t, signal, sigma)
    target = target_of(prediction, x0, eps, t, signal, sigma)
    return x_t, (pred.float() - target).square().flatten(1).mean(1)


def hybrid_loss(
    output: Tensor,
    x0: Tensor,
    noise: Tensor | None,
    t: Tensor,
    signal: Tensor,
    sigma: Tensor,
    table: Tensor,
    rate: float,
) -> tuple[Tensor, Tensor]:
    """Noise a batch and score a prediction with a learned variance: x_t, and each loss.  G-45.

    Args:
        output: [B, 2C, ...], predicted noise, then the logits of the variance.
        x0: Clean data [B, C, ...].
        noise: Like x0; drawn where None.
        t: int64 [B], in 1..T.
        signal: float32 [T + 1], sqrt(alpha_bar).
        sigma: float32 [T + 1], sqrt(1 - alpha_bar).
        table: float32 [T + 1, 6] of `ddpm.kernels.variational_loss`.
        rate: Factor of the bound, which is a mean over elements in nats.
    """
    eps = torch.randn_like(x0) if noise is None else noise
    x_t = noising(x0, eps, t, signal, sigma)
    pred, raw = output.float().chunk(2, 1)
    error = eps.float() - pred
    _, _, root, d0, d1, half = (per_sample(column, x0) for column in table[t].unbind(1))
    log_ratio = d0 + d1 * raw
    scaled = root * error.detach()
    divergence = 0.5 * (log_ratio + torch.exp(-log_ratio) * (1 + scaled.square()) - 1)
    decoder = _decoder(x0.float(), scaled, torch.exp(-0.5 * log_ratio), half)
    bound = torch.where(per_sample(t, x0) == 1, decoder, divergence)
    return x_t, error.square().flatten(1).mean(1) + rate * bound.flatten(1).mean(1)


def _decoder(x0: Tensor, scaled: Tensor, inverse: Tensor, half: Tensor) -> Tensor:
    """Negative log probability of grey levels, open beyond the outermost; half > 0 at level 1."""
    low = torch.where(x0 <= -1 + 1e-4, -math.inf, (scaled - half) * inverse)
    high = torch.where(x0 >= 1 - 1e-4, math.inf, (scaled + half) * inverse)
    # The smaller tail keeps its digits: the interval is mirrored where it lies above zero.
    mirrored = scaled > 0
    left, right = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    top: Tensor = log_ndtr(right)
    return -(top + torch.log1p(-torch.exp((log_ndtr(left) - top).clamp(max=-1e-6))))


def step(
    x: Tensor,
    pred: Tensor,
    row: Mapping[str, Tensor],
    clip: float,
    draw: bool = False,
    noise: Tensor | None = None,
) -> Tensor:
    """One step of a sampler from its row of coefficients; noise is drawn where None.  K-65."""
    estimate = row["k_x"] * x.float() + row["k_pred"] * pred.float()
    if clip > 0:
        estimate = estimate.clamp(-clip, clip)
    moved = row["a"] * estimate + row["b"] * x.float()
    if draw:
        moved = moved + row["sd"] * (torch.randn_like(x) if noise is None else noise).float()
    return moved.to(x.dtype)


def guided_step(
    x: Tensor, cond: Tensor, uncond: Tensor, scale: Tensor, row: Mapping[str, Tensor], clip: float
) -> Tensor:
    """One step from two predictions, uncond + scale (cond - uncond)."""
    return step(x, uncond + scale * (cond - uncond), row, clip)


def second_order_step(
    x: Tensor, pred: Tensor, history: Tensor, row: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """One step that also reads the estimate of the step before: x_s and the new estimate."""
    estimate = row["k_x"] * x.float() + row["k_pred"] * pred.float()
    moved = row["a"] * estimate + row["b"] * x.float() + row["c"] * history.float()
    return moved.to(x.dtype), estimate.to(x.dtype)


@cache
def compiler_fault() -> str:
    """Why torch.compile cannot work here, or nothing where it can; found out by trying."""
    with warnings.catch_warnings():
        # The compiler's own parts warn of each other.
        warnings.simplefilter("ignore")
        try:
            torch.compile(lambda x: x + 1.0)(torch.zeros(3))
        except Exception as error:
            return f"does not work here: {type(error).__name__}"
    return ""


def compiled(formula: Callable[..., object]) -> Callable[..., object]:
    """The same formula through torch.compile, for exactly the shapes that it meets."""
    return torch.compile(formula, fullgraph=True, dynamic=False)
