"""A sampler's step in torch on the CPU, so many samples at a time that its cache holds them.

Every product and every sum is its own torch operation, so that no result depends on the tile, the
batch or the position, and the interpreted Triton kernel gives the same bits.
"""

from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm.kernels import checks, compiled
from ddpm.kernels.affine_step import Step
from ddpm.kernels.exponential import exponential
from ddpm.kernels.philox import normals
from ddpm.kernels.samples import PART, parts, per_sample
from ddpm.kernels.streams import Stream

Coefficient = float | Tensor
"""A number that all samples share, or float32 [B, 1, ...] with one for each."""


class Coefficients(NamedTuple):
    """The columns of the table at the row of each sample."""

    k_x: Coefficient
    k_pred: Coefficient
    a: Coefficient
    b: Coefficient
    c: Coefficient
    sd: Coefficient
    v0: Coefficient
    v1: Coefficient


def coefficients(table: Tensor, row: Tensor, x: Tensor) -> Coefficients:
    """Look the coefficients of some samples up.

    Args:
        table: float32 [K, 8].
        row: int64 [] or [B].
        x: [B, ...], what they are multiplied with.

    Raises:
        ValueError: a row is outside the table.
    """
    if row.ndim:
        checks.check_range("row", row, table.shape[0])
        return Coefficients(*(per_sample(column, x) for column in table[row].unbind(1)))
    index = int(row)
    if not 0 <= index < table.shape[0]:
        raise ValueError(f"row contains {index}; allowed: 0..{table.shape[0] - 1}")
    return Coefficients(*table[index].tolist())


def estimate(
    x: Tensor,
    pred: Tensor,
    uncond: Tensor | None,
    guidance_scale: Tensor | None,
    chosen: Coefficients,
    out: Tensor,
    spare: Tensor,
) -> None:
    """Write k_x x + k_pred g with g = uncond + guidance_scale (pred - uncond) into out.

    Args:
        x: float32 [B, ...].
        pred: [B, ...], of which only the first channels count where it has more than x.
        uncond: like pred, or None.
        guidance_scale: float32 [] or [B], or None.
        chosen: the coefficients.
        out: like x.
        spare: like x, overwritten.
    """
    guided = _first(pred, x).float()
    if uncond is not None and guidance_scale is not None:
        other = _first(uncond, x).float()
        scale = per_sample(guidance_scale, x) if guidance_scale.ndim else float(guidance_scale)
        guided = torch.sub(guided, other, out=out).mul_(scale).add_(other)
    torch.mul(guided, chosen.k_pred, out=out)
    out.add_(torch.mul(x, chosen.k_x, out=spare))


def step(given: Step, keep: bool) -> tuple[Tensor, ...]:
    """Give x_s and, where keep, also the estimate of x_0 after clipping, both like x.

    Args:
        given: checked arguments on the CPU.
        keep: whether the estimate is wanted.

    Raises:
        ValueError: a row is outside the table, or it has c != 0 and there is no history.
    """
    loops = compiled.fit(given.x, given.pred, given.uncond, given.history)
    if loops and given.threshold is None and given.learned == "none":
        return _step_compiled(given, keep)
    x = given.x
    chosen = coefficients(given.table, given.row, x)
    if given.history is None and _any(chosen.c):
        raise ValueError("table has c != 0 in the row of a step without history; allowed: c = 0")
    outputs = [torch.empty_like(x) for _ in range(1 + keep)]
    groups = list(parts(x))
    spare = torch.empty(groups[0].stop if groups else 0, *x.shape[1:])
    # Work in the output itself where it is float32.
    value = outputs[0] if x.dtype == torch.float32 else torch.empty_like(spare)
    drawn = given.draw and (given.learned != "none" or _any(chosen.sd))
    z = torch.empty_like(spare) if drawn else None
    for rows in groups:
        count = rows.stop - rows.start
        if count == x.shape[0]:
            _step_tile(given, chosen, value, spare, z, outputs)
            break
        _step_tile(
            _samples(given, rows),
            part(chosen, rows),
            value[rows] if value is outputs[0] else value[:count],
            spare[:count],
            None if z is None else z[:count],
            [output[rows] for output in outputs],
        )
    return tuple(outputs)


def _step_compiled(given: Step, keep: bool) -> tuple[Tensor, ...]:
    """Do what `step` does by a compiled loop, at once where no noise is drawn."""
    affine, x = _affine(), given.x
    found = affine.noise_of(given)
    if not found:
        coefficients(given.table, given.row, x)
        raise ValueError("table has c != 0 in the row of a step without history; allowed: c = 0")
    outputs = [torch.empty_like(x) for _ in range(1 + keep)]
    drawn = given.draw and found == affine.DRAWS
    for rows in parts(x) if drawn and x.numel() > PART else (None,):
        some = given if rows is None else _samples(given, rows)
        z = _noise(some) if drawn else None
        written = outputs if rows is None else [output[rows] for output in outputs]
        affine.step(some, z, *written)
    return tuple(outputs)


@cache
def _affine() -> ModuleType:
    from ddpm.kernels.cpu import affine

    return affine


def _noise(given: Step) -> Tensor:
    """Draw the noise of a step, like x and float32."""
    at, size = given.levels[given.row], given.x[0].numel()
    return normals(given.seed, at, given.sample, Stream.SAMPLING_NOISE, size).view(given.x.shape)


def part(chosen: Coefficients, rows: slice) -> Coefficients:
    """Give the coefficients of some samples."""
    return Coefficients(*(c if isinstance(c, float) else c[rows] for c in chosen))


def cut(x: Tensor | None, rows: slice) -> Tensor | None:
    """Give the numbers of some samples, where x is given and each has its own."""
    return x if x is None or x.ndim == 0 else x[rows]


def _samples(given: Step, rows: slice) -> Step:
    """Give the step of some samples."""
    return given._replace(
        x=given.x[rows],
        pred=given.pred[rows],
        history=cut(given.history, rows),
        row=given.row[rows] if given.row.ndim else given.row,
        sample=given.sample[rows],
        uncond=cut(given.uncond, rows),
        guidance_scale=cut(given.guidance_scale, rows),
        threshold=cut(given.threshold, rows),
    )


def _step_tile(
    given: Step,
    chosen: Coefficients,
    value: Tensor,
    spare: Tensor,
    z: Tensor | None,
    outputs: list[Tensor],
) -> None:
    """Take one tile's step in value, with two more tiles of memory, and write it to outputs."""
    x = given.x.float()
    estimate(x, given.pred, given.uncond, given.guidance_scale, chosen, value, spare)
    if given.threshold is not None:
        value.mul_(per_sample(given.threshold.reciprocal(), x)).clamp_(-1.0, 1.0)
    elif given.clip > 0.0:
        value.clamp_(-given.clip, given.clip)
    for clean in outputs[1:]:
        clean.copy_(value)
    value.mul_(chosen.a).add_(torch.mul(x, chosen.b, out=spare))
    if given.history is not None:
        value.add_(torch.mul(given.history.float(), chosen.c, out=spare))
    if z is not None:
        at, size = given.levels[given.row], x[0].numel()
        normals(given.seed, at, given.sample, Stream.SAMPLING_NOISE, size, z.view(x.shape[0], size))
        value.add_(z.mul_(_deviation(given, chosen)))
    if value.dtype != outputs[0].dtype:
        outputs[0].copy_(value)


def _deviation(given: Step, chosen: Coefficients) -> Coefficient:
    """Give the standard deviation of the noise of a tile."""
    if given.learned == "none":
        return chosen.sd
    raw = given.pred[:, given.x.shape[1] :].float()
    if given.learned == "log":
        learned = exponential((raw * chosen.v1).add_(chosen.v0))
    else:
        share = exponential(-raw).add_(1.0).reciprocal_()
        # Through float64, since not all float32 roots of torch are correctly rounded.
        learned = share.mul_(chosen.v1).add_(chosen.v0).double().sqrt_().float()
    return learned.mul_(chosen.sd)


def _first(output: Tensor, x: Tensor) -> Tensor:
    """Give the channels of the prediction, which come first."""
    return output if output.shape == x.shape else output[:, : x.shape[1]]


def _any(value: Coefficient) -> bool:
    """Whether a coefficient differs from 0 anywhere."""
    return value != 0.0 if isinstance(value, float) else bool(value.any())
